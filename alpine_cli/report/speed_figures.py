"""Pictures of speed against input length: throughput of every variant, and what pruning gains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from alpine_cli.report.bins import joined
from alpine_cli.report.drawing import BLUE, INK, VARIANT_STYLES, clip, drawn, headline
from alpine_cli.report.summary import title_of
from alpine_cli.results import Result, Series

__all__ = ["draw_learning_curves", "draw_throughput_by_length"]


def draw_throughput_by_length(result: Result, path: Path) -> bool:
    """Throughput and speed-up over bins of length, with intervals; False without such curves.

    Nor is a single bin drawn: a curve of one point shows nothing that the table does not.
    """
    rates = [
        series
        for series in result.series
        if series.name == "throughput_by_length" and sum(y is not None for y in series.y) > 1
    ]
    gains = [
        series
        for series in result.series
        if series.name == "speedup_by_length"
        and (series.variant, series.baseline) == ("pruned", "unpruned")
    ]
    if not rates:
        return False
    with drawn(path, 8.0, 6.0 if gains else 4.0) as figure:
        rows = 2 if gains else 1
        upper = figure.add_subplot(rows, 1, 1)
        for series in rates:
            _curve(upper, series, VARIANT_STYLES.get(series.variant, {"marker": "o"}))
        upper.set_ylabel(f"throughput [{rates[0].unit}]")
        upper.set_ylim(bottom=0)
        upper.grid(axis="y")
        upper.legend(loc="upper right")
        headline(upper, "Throughput by length of the input", title_of(result))
        lower = upper
        if gains:
            lower = figure.add_subplot(rows, 1, 2, sharex=upper)
            _curve(lower, gains[0], {"color": BLUE, "marker": "D", "linestyle": "-"})
            lower.axhline(1, color=INK, linewidth=1)
            lower.set_ylabel("pruned / unpruned")
            lower.grid(axis="y")
            upper.tick_params(labelbottom=False)
        _name_bins(lower, rates[0])
        lower.set_xlabel("length of the input; bars: 95 % confidence intervals")
    return True


def _curve(axes: Any, series: Series, style: dict[str, Any]) -> None:
    """A curve with the intervals of its points; a missing point leaves a gap."""
    y = np.array(series.y, dtype=float)  # None becomes NaN, which is not drawn
    reach = None
    if series.low is not None and series.high is not None:
        low, high = (np.array(ends, dtype=float) for ends in (series.low, series.high))
        # An interval need not hold its point (bias is corrected); a bar cannot be negative.
        reach = np.nan_to_num(np.clip([y - low, high - y], 0, None))
    look = {**style, "linewidth": 1.8, "markersize": 5, "capsize": 3}
    bars = axes.errorbar(series.x, y, yerr=reach, **{**look, "linestyle": ""})
    # The line apart, broken where nothing was measured between two bins.
    breaks = [at for at, near in enumerate(joined(series.labels, len(y)), start=1) if not near]
    x = np.insert(np.array(series.x, dtype=float), breaks, np.nan)
    axes.plot(x, np.insert(y, breaks, np.nan), label=series.variant, markersize=5, linewidth=1.8,
              zorder=bars[0].get_zorder(), **{"linestyle": "-", **style})  # fmt: skip


def _name_bins(axes: Any, series: Series) -> None:
    if series.labels is not None:
        names = [clip(label, 24) for label in series.labels]
        axes.set_xticks(series.x, names, rotation=30, ha="right", fontsize=8.5)


def draw_learning_curves(result: Result, path: Path) -> bool:
    """The curves of a fine-tuning run over its steps or epochs; False without any."""
    curves = [s for s in result.series if s.name == "learning_curve"]
    if not curves:
        return False
    with drawn(path, 7.0, 4.0) as figure:
        axes = figure.add_subplot()
        for series in curves:
            _curve(axes, series, {"marker": "o", **VARIANT_STYLES.get(series.variant, {})})
        axes.set_xlabel(curves[0].x_name)
        axes.set_ylabel(f"validation [{curves[0].unit}]")
        axes.grid(axis="y")
        if len(curves) > 1:
            axes.legend(loc="best")
        headline(axes, "Fine-tuning", title_of(result))
    return True
