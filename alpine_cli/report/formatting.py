"""Numbers as people read them: one scale per row, a few digits, units said once.

A value keeps its exact form in the CSV; what is made here is for tables and axis labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from alpine_cli.results import Comparison, Interval

__all__ = ["Scale", "format_ratio", "format_value", "scale_for"]

_DECIMAL = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""))
_BINARY = ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB"), (1.0, "B"))
_SMALL = ((1.0, ""), (1e-3, "m"), (1e-6, "µ"))
_SCALED = {"MACs": _DECIMAL, "FLOPs": _DECIMAL, "J": _DECIMAL[:4] + _SMALL}


@dataclass(frozen=True)
class Scale:
    """Divide by `factor` and call the result `unit`."""

    factor: float
    unit: str

    def text(self, value: float | None) -> str:
        """The value on this scale, without the unit."""
        if value is not None and self.unit == "samples":
            return f"{value:,.0f}"  # whole things: no digits behind the point
        return "-" if value is None else format_value(value / self.factor)


def scale_for(unit: str, values: Iterable[float | None]) -> Scale:
    """One scale for all values of a row, by the largest of them. Shares become per cent."""
    known = [abs(value) for value in values if value is not None]
    largest = max(known, default=0.0)
    if unit == "share":
        return Scale(0.01, "%")
    if unit == "1":
        return Scale(1.0, "")
    if unit == "bytes":
        factor, name = _pick(_BINARY, largest)
        return Scale(factor, name)
    if unit in _SCALED:
        factor, prefix = _pick(_SCALED[unit], largest)
        return Scale(factor, f"{prefix}{unit}")
    if unit == "g CO2e" and largest < 0.1:
        return Scale(1e-3, "mg CO2e")
    return Scale(1.0, unit)


def _pick(steps: tuple[tuple[float, str], ...], largest: float) -> tuple[float, str]:
    if largest == 0:
        return next(step for step in steps if step[0] == 1.0)
    return next((step for step in steps if largest >= step[0]), steps[-1])


def format_value(value: float) -> str:
    """Three significant digits, thousands apart, no exponent unless tiny: 1,159  48.3  0.0198."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-4:
        return f"{value:.2e}"
    decimals = max(0, 2 - math.floor(math.log10(size)))
    return f"{value:.{min(decimals, 6)}f}"


def format_ratio(comparison: Comparison, scale: Scale) -> str:
    """ "0.62 [0.60, 0.63]"; for metrics the difference, in points where they are shares.

    "-" where there is neither. `scale` is that of the row.
    """
    if comparison.difference_interval is not None and comparison.difference is not None:
        return _difference(comparison.difference, comparison.difference_interval, scale)
    if comparison.ratio is None:
        return "-"
    interval = comparison.interval
    between = "" if interval is None else f" [{_times(interval.low)}, {_times(interval.high)}]"
    return f"{_times(comparison.ratio)}{between}"


def _difference(value: float, interval: Interval, scale: Scale) -> str:
    points, digits = (" pts", 1) if scale.unit == "%" else ("", 2)
    shown = [
        f"{number / scale.factor:+.{digits}f}" for number in (value, interval.low, interval.high)
    ]
    return f"{shown[0]}{points} [{shown[1]}, {shown[2]}]"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.1 <= ratio < 100 else f"{ratio:.3g}"
