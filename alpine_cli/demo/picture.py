"""The demo's picture: one function, each token in the colour of the layer that took it out.

Left, the source of a test function in which the pruned model found the injected bug. Right, how
sequences shorten on average, and accuracy, work and speed against the unpruned model.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.demo.corpus import DemoSample
from alpine_cli.files import atomic_path
from alpine_cli.pruning.apply import prune, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.summary import summarise
from alpine_cli.results import Result
from alpine_cli.show.fates import Fate, trace_functions
from alpine_cli.show.offsets import read_source
from alpine_cli.tasks.encoding import EncodingSpec

__all__ = ["draw_demo"]

_SHOWN_LINES = (9, 17)
_SHOWN_COLUMNS = 74
_KEPT = "#FFFFFF"
_FIRST, _LAST = (0.90, 0.62, 0.0), (0.99, 0.93, 0.75)  # early layers are darker
_SHOWN_ROWS = ("accuracy", "total_macs", "throughput", "latency")
_INK = "#222222"
_DPI = 150


def draw_demo(result: Result, test: Sequence[DemoSample], run: Path, path: Path) -> None:
    """Draw the picture as a PNG file.

    Args:
        result: the bench; its "mean_length" curves and summary rows are drawn.
        test: the test split; one function of it is shown.
        run: run directory of the pruned model.
        path: where to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checkpoint = load_checkpoint(run / "ckpt.pt")
    model, tokenizer = checkpoint.build()
    config = PruningConfig.from_dict(checkpoint.pruning)
    prune(model, config)
    sample = _pick(test, model, tokenizer)
    fates = _fates(sample, model, tokenizer, checkpoint.encoding_spec)

    figure = Figure(figsize=(13.0, 5.2), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(2, 2, width_ratios=(1.75, 1), height_ratios=(1, 0.8))
    depth = int(checkpoint.model_config["num_hidden_layers"])
    _draw_source(figure.add_subplot(grid[:, 0]), sample, fates, config.resolve(depth))
    _draw_lengths(figure.add_subplot(grid[0, 1]), result)
    _draw_figures(figure.add_subplot(grid[1, 1]), result)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _pick(test: Sequence[DemoSample], model: Any, tokenizer: Any) -> DemoSample:
    """The first spoilt function of a drawable size that the model calls spoilt, if there is one."""
    drawable = [sample for sample in test if sample.target == 1 and _fits(sample.func)]
    for sample in drawable:
        encoded = tokenizer(" ".join(sample.func.split()), return_tensors="pt")
        if model.predict_proba(encoded["input_ids"])[0, 1] > 0.5:
            return sample
    return (drawable or list(test))[0]


def _fates(sample: DemoSample, model: Any, tokenizer: Any, encoding: EncodingSpec) -> list[Fate]:
    """What became of every token of the function's text, in a pruned model."""
    read = read_source(sample.func, tokenizer, encoding, sample.function)
    with torch.inference_mode(), trace(model) as traced:
        model(torch.tensor([read.ids]))
    (function,) = trace_functions(traced.calls[0], [read], [sample.function])
    return [token for token in function.tokens if token.start is not None]


def _fits(source: str) -> bool:
    lines = source.splitlines()
    return _SHOWN_LINES[0] <= len(lines) <= _SHOWN_LINES[1] and all(
        len(line) <= _SHOWN_COLUMNS and line.isascii() for line in lines
    )


def _draw_source(
    axes: Any, sample: DemoSample, fates: Sequence[Fate], pruned: Sequence[int]
) -> None:
    """The source on a grid of characters: one unit wide, one unit high."""
    from matplotlib.patches import Patch, Rectangle

    colours = dict(zip(pruned, _shades(len(pruned)), strict=True))
    starts = _line_starts(sample.func)
    lines = sample.func.split("\n")
    for fate in fates:
        if fate.layer is None or fate.start is None or fate.end is None:
            continue
        for line, start in enumerate(starts):
            left = max(fate.start, start)
            right = min(fate.end, start + len(lines[line]))
            if left < right:
                corner = (left - start, line - 0.5)
                colour = colours[fate.layer]
                axes.add_patch(Rectangle(corner, right - left, 1.0, color=colour, linewidth=0))
    for line, text in enumerate(lines):
        for column, character in enumerate(text):
            axes.text(
                column + 0.5, line, character, family="monospace", fontsize=11, color=_INK,
                ha="center", va="center_baseline", parse_math=False,
            )  # fmt: skip
    axes.set_xlim(-0.5, _SHOWN_COLUMNS)
    axes.set_ylim(_SHOWN_LINES[1] + 0.5, -0.8)
    axes.axis("off")
    handles = [
        Patch(color=colours[layer], label=f"merged away in layer {layer}") for layer in pruned
    ]
    handles.append(Patch(facecolor=_KEPT, edgecolor="#999999", label="kept to the end"))
    axes.legend(handles=handles, loc="lower left", ncols=len(handles), frameon=False, fontsize=9)
    left_over = sum(fate.layer is None for fate in fates)
    axes.set_title(
        f"{sample.module}: {sample.function}, injected bug: {sample.pattern}\n"
        f"{left_over} of {len(fates)} tokens kept to the end",
        loc="left",
        fontsize=10.5,
        color=_INK,
    )


def _shades(count: int) -> list[tuple[float, float, float]]:
    def between(share: float) -> tuple[float, float, float]:
        red, green, blue = (a + share * (b - a) for a, b in zip(_FIRST, _LAST, strict=True))
        return red, green, blue

    return [between(i / max(1, count - 1)) for i in range(count)]


def _line_starts(source: str) -> list[int]:
    starts = [0]
    for line in source.split("\n")[:-1]:
        starts.append(starts[-1] + len(line) + 1)
    return starts


def _draw_lengths(axes: Any, result: Result) -> None:
    styles = {"unpruned": ("#56B4E9", "--"), "pruned": ("#D55E00", "-")}
    for series in result.series:
        if series.name == "mean_length" and series.variant in styles:
            colour, line = styles[series.variant]
            axes.plot(
                series.x,
                series.y,
                line,
                color=colour,
                marker="o",
                label=series.variant,
                linewidth=2,
            )
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layers passed", fontsize=9)
    axes.set_ylabel("mean tokens per function", fontsize=9)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="lower left", fontsize=9)
    axes.set_title(f"{result.subject.samples:,} test functions", loc="left", fontsize=10.5)


def _draw_figures(axes: Any, result: Result) -> None:
    """A small table in words: unpruned, pruned, and the ratio with its interval."""
    axes.axis("off")
    rows = [row for row in summarise(result) if row.figure in _SHOWN_ROWS and row.pruning]
    columns = (0.0, 0.47, 0.66, 1.0)
    heads = ("", "unpruned", "pruned", "pruned / unpruned")
    for at, head in zip(columns, heads, strict=True):
        axes.text(at, 1.0, head, fontsize=8.5, color="#555555", ha="right" if at else "left")
    for number, row in enumerate(rows, start=1):
        high = 1.0 - 0.2 * number
        name = f"{row.label}, {row.scale.unit}".rstrip(", ")
        texts = (
            name,
            row.cell("unpruned"),
            row.cell("pruned"),
            row.ratio,
        )
        for at, text in zip(columns, texts, strict=True):
            axes.text(at, high, text, fontsize=8.5, color=_INK, ha="right" if at else "left")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.1)
