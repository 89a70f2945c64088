"""Pictures of cost: memory of every variant, and multiply-adds layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alpine_cli.report.batches import batches_of
from alpine_cli.report.drawing import BLUE, INK, VARIANT_COLOURS, YELLOW, drawn, headline
from alpine_cli.report.formatting import scale_for
from alpine_cli.report.summary import title_of
from alpine_cli.results import Result, Series

__all__ = ["draw_macs_per_layer", "draw_memory"]

# What grows with the batch, not what the process needs before it: see each figure's method.
_MEMORY = {
    "inference_memory_run": "process memory,\ninference",
    "training_memory_run": "process memory,\ntraining step",
    "inference_memory_cuda_run": "GPU memory,\ninference",
    "training_memory_cuda_run": "GPU memory,\ntraining step",
}
_ENDS = {"inference": "inference", "training": "training step"}


def draw_memory(result: Result, path: Path) -> bool:
    """Bars of memory, a group per figure and a bar per variant; False where none was taken."""
    groups: list[tuple[str, list[tuple[str, float]]]] = []
    for name, label in _MEMORY.items():
        found = [result.figure(name, variant) for variant in result.variants]
        bars = [(f.variant, f.value) for f in found if f is not None and f.value is not None]
        if bars:
            groups.append((label, bars))
    if not groups:
        return False
    scale = scale_for("bytes", [value for _, bars in groups for _, value in bars])
    count = sum(len(bars) for _, bars in groups)
    with drawn(path, 8.0, 1.5 + 0.36 * count + 0.25 * len(groups)) as figure:
        axes = figure.add_subplot()
        at, ticks, widest = 0.0, [], 0.0
        for label, bars in groups:
            top = at
            for variant, value in bars:
                colour = VARIANT_COLOURS.get(variant, BLUE)
                axes.barh(at, value / scale.factor, height=0.8, color=colour)
                own = scale_for("bytes", [value])
                axes.annotate(
                    f"{variant}: {own.text(value)} {own.unit}",
                    (value / scale.factor, at),
                    xytext=(6, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                )
                widest = max(widest, value / scale.factor)
                at += 1
            ticks.append(((top + at - 1) / 2, label))
            at += 0.7
        axes.set_yticks([place for place, _ in ticks], [label for _, label in ticks], fontsize=9)
        axes.invert_yaxis()
        axes.set_xlim(0, widest * 1.45)
        axes.set_xlabel(f"peak above the level before the run [{scale.unit}]")
        axes.grid(axis="x")
        sizes = [
            f"{what} at batch {batches_of(result.settings, prefix) or '?'}"
            for what, prefix in (("inference", ""), ("training", "training_"))
            if any(label.endswith(_ENDS[what]) for label, _ in groups)
        ]
        headline(axes, f"Memory ({', '.join(sizes)})", title_of(result))
    return True


def draw_macs_per_layer(result: Result, path: Path) -> bool:
    """Multiply-adds of every layer, attention and feed-forward stacked; False without curves.

    Filled: pruned. Outlined: unpruned, split at the same place.
    """
    attention = _curves(result, "attention_macs_per_layer")
    feed_forward = _curves(result, "feed_forward_macs_per_layer")
    shown = [name for name in ("pruned", "unpruned") if name in attention and name in feed_forward]
    if not shown:
        return False
    layers = attention[shown[0]].x
    highest = max(
        a + f
        for name in shown
        for a, f in zip(_values(attention[name]), _values(feed_forward[name]), strict=True)
    )
    scale = scale_for("MACs", [highest])
    with drawn(path, max(6.0, 2.0 + 0.5 * len(layers)), 4.2) as figure:
        axes = figure.add_subplot()
        for name in shown:
            lower = [value / scale.factor for value in _values(attention[name])]
            upper = [value / scale.factor for value in _values(feed_forward[name])]
            for values, bottom, colour, what in (
                (lower, [0.0] * len(lower), BLUE, "attention"),
                (upper, lower, YELLOW, "feed-forward"),
            ):
                style: dict[str, Any] = {"color": colour, "label": f"{what}, {name}"}
                if name != shown[0]:
                    style = {"fill": False, "edgecolor": INK, "linewidth": 0.9}
                    style |= {"linestyle": "--", "label": None if what == "attention" else name}
                axes.bar(layers, values, bottom=bottom, width=0.72, **style)
        axes.set_xticks(layers, [f"{layer:.0f}" for layer in layers])
        axes.set_xlabel("layer")
        axes.set_ylabel(f"multiply-adds per sample [{scale.unit}]")
        axes.set_ylim(0, highest / scale.factor * 1.2)
        axes.grid(axis="y")
        axes.legend(loc="upper right", ncols=3)
        headline(axes, "Multiply-adds layer by layer", title_of(result))
    return True


def _curves(result: Result, name: str) -> dict[str, Series]:
    return {series.variant: series for series in result.series if series.name == name}


def _values(series: Series) -> list[float]:
    return [0.0 if value is None else value for value in series.y]
