"""The anatomy of the speed-up as a waterfall: from unpruned to pruned time, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alpine_cli.report.drawing import (
    GREEN,
    INK,
    QUIET,
    VARIANT_COLOURS,
    YELLOW,
    drawn,
    headline,
)
from alpine_cli.report.formatting import format_value
from alpine_cli.report.summary import title_of
from alpine_cli.results import Result, Series

__all__ = ["draw_waterfall"]

_HEIGHT = 0.62
_MINUS = "\N{MINUS SIGN}"


def draw_waterfall(result: Result, path: Path) -> bool:
    """Bars from top to bottom; each step starts where the one above ended.

    Time that a step takes away is drawn to the left, time that it adds to the right and hatched;
    every bar carries its signed number. False where the result holds no anatomy.
    """
    series = next((found for found in result.series if found.name == "speedup_anatomy"), None)
    if series is None or series.labels is None or any(value is None for value in series.y):
        return False
    values = [value for value in series.y if value is not None]
    with drawn(path, 9.5, 1.7 + 0.42 * len(values)) as figure:
        axes = figure.add_subplot()
        rightmost = _draw_bars(axes, values)
        labels = [_text(series, at) for at in range(len(values))]
        for at, (end, label) in enumerate(zip(rightmost, labels, strict=True)):
            axes.annotate(
                label,
                (end, at),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.axvline(0, color=INK, linewidth=1)
        axes.set_yticks(range(len(values)), series.labels, fontsize=9)
        for at in (0, len(values) - 1):
            axes.get_yticklabels()[at].set_fontweight("bold")
        axes.set_ylim(len(values) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        left = min(0.0, *rightmost) * 1.05
        axes.set_xlim(left, max(rightmost) * 1.32)
        known = "; brackets: 95 % confidence" if series.low and series.low[0] is not None else ""
        axes.set_xlabel(f"ms per sample{known}")
        axes.grid(axis="x")
        headline(axes, f"Anatomy of the speed-up{_ratios(result)}", title_of(result))
    return True


def _draw_bars(axes: Any, values: list[float]) -> list[float]:
    """The bars and the lines between them; returns the right end of each bar."""
    last = len(values) - 1
    level, rightmost = 0.0, []
    for at, value in enumerate(values):
        if at in (0, last):
            colour = VARIANT_COLOURS["unpruned" if at == 0 else "pruned"]
            axes.barh(at, value, height=_HEIGHT, color=colour)
            level = value
            rightmost.append(value)
        else:
            saves = value < 0
            axes.barh(
                at,
                value,
                left=level,
                height=_HEIGHT,
                color=GREEN if saves else YELLOW,
                hatch=None if saves else "////",
                edgecolor=None if saves else INK,
                linewidth=0 if saves else 0.6,
            )
            rightmost.append(max(level, level + value))
            level += value
        if at < last:
            reach = (at - _HEIGHT / 2, at + 1 + _HEIGHT / 2)
            axes.plot([level, level], reach, color=QUIET, linewidth=0.8, zorder=0)
    return rightmost


def _text(series: Series, at: int) -> str:
    """ "+4.92 [4.09, 6.49]"; totals without a sign, a step that cannot occur as 0."""
    value = series.y[at]
    assert value is not None
    if value == 0:
        return "0"
    is_total = at in (0, len(series.y) - 1)
    low = series.low[at] if series.low else None
    high = series.high[at] if series.high else None
    between = ""
    if low is not None and high is not None:
        between = f"  [{_number(low, signed=False)}, {_number(high, signed=False)}]"
    return _number(value, signed=not is_total) + between


def _number(value: float, *, signed: bool) -> str:
    sign = _MINUS if value < 0 else "+" if signed else ""
    return f"{sign}{format_value(abs(value))}"


def _ratios(result: Result) -> str:
    flops, times = (result.figure(name, "pruned") for name in ("flops_ratio", "time_ratio"))
    if flops is None or times is None or flops.value is None or times.value is None:
        return ""
    return f": {flops.value:.2f}× fewer multiply-adds, {times.value:.2f}× the speed"
