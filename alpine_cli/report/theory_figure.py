"""Attention against feed-forward cost by length, with their crossing: the picture of `theory`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alpine_cli.measure.theory import Theory, theory
from alpine_cli.report.drawing import BLUE, INK, ORANGE, QUIET, drawn, headline
from alpine_cli.report.formatting import scale_for

__all__ = ["draw_theory"]

_POINTS = 400
_SHORTEST_AXIS = 512


def draw_theory(found: Theory, path: Path) -> None:
    """The paper's FLOPs of one layer against length; exact MACs where they do not apply.

    The axis reaches a good way past the crossing, and at least to the model's longest input.
    """
    subject = found.subject
    crossing = found.crossing_macs if found.crossing_flops is None else found.crossing_flops
    reach = max(_SHORTEST_AXIS, round(1.4 * crossing), round(1.05 * (subject.context or 0)))
    lengths = sorted({max(1, round(reach * k / _POINTS)) for k in range(1, _POINTS + 1)})
    curves = theory(subject, lengths)
    unit, mha, ffn = "MACs", curves.mha_macs, curves.ffn_macs
    if curves.mha_flops is not None and curves.ffn_flops is not None:
        unit, mha, ffn = "FLOPs", curves.mha_flops, curves.ffn_flops
    scale = scale_for(unit, [max(*mha, *ffn)])
    with drawn(path, 7.5, 4.5) as figure:
        axes = figure.add_subplot()
        for label, values, colour, line in (
            ("attention (MHA)", mha, ORANGE, "-"),
            ("feed-forward (FFN)", ffn, BLUE, "--"),
        ):
            shown = [value / scale.factor for value in values]
            axes.plot(lengths, shown, color=colour, linestyle=line, linewidth=2, label=label)
        if crossing:
            there = theory(subject, [crossing])
            (cost,) = there.mha_macs if there.mha_flops is None else there.mha_flops
            _mark(axes, crossing, cost / scale.factor)
        if subject.context is not None:
            label = f"longest input: {subject.context:,} tokens"
            axes.axvline(
                subject.context,
                ymax=0.78,  # below the legend
                color=QUIET,
                linewidth=1.4,
                linestyle=":",
                label=label,
            )
        axes.set_xlim(0, reach)
        axes.set_ylim(bottom=0)
        axes.set_xlabel("tokens")
        axes.set_ylabel(f"{scale.unit} of one layer")
        axes.grid(axis="y")
        axes.legend(loc="upper left")
        shape = subject.shape
        sizes = f"d = {shape.hidden}, h = {shape.heads}, F = {shape.feed_forward}"
        counted = "the paper's formulas" if unit == "FLOPs" else "exact multiply-adds"
        title = (
            f"Below {crossing:,} tokens the feed-forward block costs more"
            if crossing
            else "Attention costs more at every length"
        )
        headline(axes, title, f"{subject.name}: {sizes}; {counted}")


def _mark(axes: Any, length: int, cost: float) -> None:
    axes.plot([length], [cost], marker="o", markersize=7, color=INK)
    axes.annotate(
        f"n = {length:,}",
        (length, cost),
        xytext=(-10, 8),
        textcoords="offset points",
        ha="right",
        fontweight="bold",
    )
