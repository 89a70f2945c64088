"""The picture of `correlation`: every configuration a point, FLOPs against energy and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alpine_cli.report.configurations import Group, Point, pairs_of
from alpine_cli.report.correlation import MIN_CONFIGURATIONS, Correlation, correlate
from alpine_cli.report.drawing import GREY, INK, QUIET, VARIANT_STYLES, drawn

__all__ = ["draw"]

_MOST_GROUPS = 4
_MOST_LABELS = 8  # points of a panel; more labels would cover each other
_ROW_HEIGHT = 4.2
_WIDTH = 10.0
_AXES = {"energy_j": "J per sample", "seconds": "s per sample"}


def draw(groups: Sequence[Group], path: Path) -> bool:
    """A row per machine, task and batch size: FLOPs against energy, and against time.

    Only groups of at least four configurations, the four largest; False without any. Both axes are
    logarithmic; the line is the least-squares fit of the logarithms.

    Args:
        groups: as `configurations.groups_of` makes them.
        path: ends in .png or .svg.
    """
    enough = [group for group in groups if _panels(group)]
    shown = sorted(enough, key=lambda group: -len(group.points))[:_MOST_GROUPS]
    if not shown:
        return False
    with drawn(path, _WIDTH, 0.7 + _ROW_HEIGHT * len(shown)) as figure:
        figure.suptitle(
            "FLOPs as a proxy of energy and of time",
            x=0.01,
            ha="left",
            fontsize=12,
            fontweight="bold",
        )
        rows = figure.subfigures(len(shown), 1, squeeze=False)
        for group, row in zip(shown, rows[:, 0], strict=True):
            row.suptitle(_title(group), x=0.01, ha="left", fontsize=9, color=QUIET)
            panels = _panels(group)
            for axes, name in zip(
                row.subplots(1, len(panels), squeeze=False)[0], panels, strict=True
            ):
                _panel(axes, group, name)
        if len(enough) > len(shown):
            left_out = f"{len(enough) - len(shown)} more groups in the table"
            figure.supxlabel(left_out, fontsize=9, color=QUIET)
    return True


def _panels(group: Group) -> list[str]:
    """The quantities that enough configurations of the group have, beside FLOPs."""
    return [name for name in _AXES if len(pairs_of(group, "flops", name)[0]) >= MIN_CONFIGURATIONS]


def _title(group: Group) -> str:
    counted = sorted({point.flops_batch_size for point in group.points})
    return f"{group.where}; FLOPs counted at batch size {', '.join(map(str, counted))}"


def _panel(axes: Any, group: Group, name: str) -> None:
    x, y = pairs_of(group, "flops", name)
    found = correlate(x, y)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if found.slope is not None:
        ends = np.array([min(x), max(x)])
        centre = np.mean(np.log(x)), np.mean(np.log(y))
        fit = np.exp(centre[1] + found.slope * (np.log(ends) - centre[0]))
        axes.plot(ends, fit, color=GREY, linewidth=1, zorder=1)
    points = [point for point in group.points if getattr(point, name) is not None]
    for role, style in VARIANT_STYLES.items():
        chosen = [point for point in points if point.role == role]
        axes.plot(
            [point.flops for point in chosen],
            [getattr(point, name) for point in chosen],
            label=role if chosen else None,
            linestyle="none",
            color=style["color"],
            marker=style["marker"],
            markersize=7,
            markeredgecolor=INK,
            markeredgewidth=0.5,
        )
    if len(points) <= _MOST_LABELS:
        _label(axes, points, name)
    axes.margins(x=0.18, y=0.12)
    axes.grid(which="major")
    axes.set_xlabel("FLOPs per sample")
    what = "energy" if name == "energy_j" else "time"
    kind = " (modelled from time)" if name == "energy_j" and group.modelled else ""
    axes.set_ylabel(f"{what}{kind}, {_AXES[name]}")
    axes.set_title(_caption(found), loc="left", fontsize=9)
    axes.legend(loc="lower right", fontsize=8)


def _label(axes: Any, points: Sequence[Point], name: str) -> None:
    """Names beside the points, the model left out where all share it; every other one below."""
    models = {point.label.partition(", ")[0] for point in points}
    ordered = sorted(points, key=lambda point: (point.flops, getattr(point, name)))
    for number, point in enumerate(ordered):
        text = point.label.partition(", ")[2] if len(models) == 1 else point.label
        above = number % 2 == 0
        axes.annotate(
            text,
            (point.flops, getattr(point, name)),
            xytext=(0, 8 if above else -14),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            color=QUIET,
        )


def _caption(found: Correlation) -> str:
    if found.pearson is None:
        return found.reason or ""
    text = f"n = {found.n}, r = {found.pearson:.2f}"
    if found.pearson_interval is not None:
        text += f" [{found.pearson_interval.low:.2f}, {found.pearson_interval.high:.2f}]"
    text += f", ρ = {found.spearman:.2f}, slope {found.slope:.2f}"
    return text
