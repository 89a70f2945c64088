"""Every picture of a report: which there are, what they show in words, and their files.

A drawer takes a result and a path and returns False where the result holds nothing for it. Each
picture is written as PNG and as SVG.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from alpine_cli.report.correlation import draw_flops_against_energy
from alpine_cli.report.cost_figures import draw_macs_per_layer, draw_memory
from alpine_cli.report.figures import draw_changes, draw_lengths
from alpine_cli.report.front_figure import draw_front
from alpine_cli.report.speed_figures import draw_learning_curves, draw_throughput_by_length
from alpine_cli.report.waterfall import draw_waterfall
from alpine_cli.results import Result

__all__ = ["DRAWERS", "Picture", "draw_all", "slug"]

Drawer = Callable[[Result, Path], bool]


def _draw_sweep(result: Result, path: Path) -> bool:
    # A bench has accuracy and cost as well, but one setting makes no front.
    return result.kind in ("sweep", "tune") and draw_front(result, path)


# name of the file -> (drawer, caption); the order is the report's.
DRAWERS: dict[str, tuple[Drawer, str]] = {
    "changes": (draw_changes, "What pruning changes, relative to unpruned, with 95 % intervals"),
    "front": (_draw_sweep, "What every setting costs and keeps, with the front"),
    "lengths": (draw_lengths, "Mean sequence length after every layer"),
    "macs-per-layer": (draw_macs_per_layer, "Multiply-adds of every layer"),
    "throughput-by-length": (draw_throughput_by_length, "Throughput by length of the input"),
    "anatomy": (draw_waterfall, "From multiply-adds saved to time saved, step by step"),
    "memory": (draw_memory, "Memory of every variant"),
    "learning-curve": (draw_learning_curves, "Learning curve of the fine-tuning"),
}


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: a key of `DRAWERS`, or the name of a picture of several results.
        caption: what it shows, without full stop.
        about: the id of its result; None where it shows several.
        stem: its files, relative to the report, without their suffix.
    """

    name: str
    caption: str
    about: str | None
    stem: Path

    @property
    def png(self) -> Path:
        """For documents and slides."""
        return self.stem.with_suffix(".png")

    @property
    def svg(self) -> Path:
        """For print and for the HTML page."""
        return self.stem.with_suffix(".svg")


def draw_all(results: Sequence[Result], output: Path, folder: str = "figures") -> list[Picture]:
    """Draw whatever the results hold into `output`/`folder`."""
    pictures = []
    for result in results:
        for name, (draw, caption) in DRAWERS.items():
            stem = Path(folder, f"{name}-{slug(result.subject.task)}-{result.id}")
            if draw(result, output / stem):
                pictures.append(Picture(name, caption, result.id, stem))
    stem = Path(folder, "flops-against-energy")
    if draw_flops_against_energy(results, output / stem):
        caption = "Multiply-adds against energy and time, a point per configuration"
        pictures.append(Picture(stem.name, caption, None, stem))
    return pictures


def slug(text: str) -> str:
    """A part of a file name, whatever a result file says: no path, no space, not empty."""
    return re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[:40] or "unnamed"
