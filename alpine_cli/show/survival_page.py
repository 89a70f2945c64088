"""Which kinds of token survive, as one self-contained page: `alpine show --kinds --html`.

Two charts and the two tables behind them. Every curve carries its name, every bar its number:
nothing is told by colour alone. No script.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle

from alpine_cli.report.page import page
from alpine_cli.show.page_parts import asset, render
from alpine_cli.show.survival import KindSurvival, Survival
from alpine_cli.show.survival_views import curve_table, finding, percent, survival_table

__all__ = ["survival_page"]

_ROW, _BAR_LEFT, _BAR_WIDTH = 26.0, 118.0, 300.0
_WIDTH, _HEIGHT, _NAMES = 300.0, 250.0, 150.0
_LINE = 13.0  # of the names beside the curves
_DASHES = ("", "6 3", "2 3", "8 3 2 3")
_HUES = ("one", "two", "three", "four", "five")


@dataclass(frozen=True)
class _Row:
    """A horizontal bar with its interval, in units of the view box."""

    name: str
    y: float
    length: float
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True)
class _Curve:
    """A line and where its name stands."""

    name: str
    points: str
    end: tuple[float, float]
    name_y: float
    hue: str
    dash: str


def survival_page(survival: Survival) -> str:
    """The whole document."""
    most = max(_reach(found) for found in survival.every) or 1.0
    body = render(
        "kinds.html",
        survival=survival,
        finding=finding(survival),
        rows=[_row(number, found, most) for number, found in enumerate(survival.every)],
        row=_ROW,
        left=_BAR_LEFT,
        bars_width=_BAR_WIDTH,
        bars_height=_ROW * len(survival.every),
        curves=_curves(survival),
        width=_WIDTH,
        height=_HEIGHT,
        names=_NAMES,
        steps=[
            (_WIDTH * at / (len(survival.all.by_layer) - 1), at)
            for at in range(len(survival.all.by_layer))
        ],
        levels=[(_HEIGHT * (1 - level / 100), level) for level in range(0, 101, 20)],
        tables=[survival_table(survival), curve_table(survival)],
    )
    return page("Which kinds of token survive", body, style=asset("kinds.css"))


def _reach(found: KindSurvival) -> float:
    interval = found.surviving_interval
    return found.surviving if interval is None else interval.high


def _row(number: int, found: KindSurvival, most: float) -> _Row:
    interval = found.surviving_interval
    scale = _BAR_WIDTH / most
    return _Row(
        name=found.kind,
        y=number * _ROW,
        length=found.surviving * scale,
        low=None if interval is None else interval.low * scale,
        high=None if interval is None else interval.high * scale,
        text=f"{percent(found.surviving)} %",
    )


def _curves(survival: Survival) -> list[_Curve]:
    """Curves, their names pushed apart so that none stands on another."""
    styles = cycle((hue, dash) for dash in _DASHES for hue in _HUES)
    depth = len(survival.all.by_layer) - 1
    drawn = [found for found in survival.every if found.surviving_interval is not None]
    wanted = sorted(
        ((_HEIGHT * (1 - found.surviving), found) for found in drawn), key=lambda one: one[0]
    )
    # From the bottom up: a name keeps its place unless the one below it is too near.
    heights: list[float] = []
    limit = _HEIGHT + _LINE / 2
    for y, _ in reversed(wanted):
        heights.append(min(y, limit))
        limit = heights[-1] - _LINE
    style_of = {found.kind: next(styles) for found in drawn}
    made = []
    for (y, found), name_y in zip(wanted, reversed(heights), strict=True):
        points = " ".join(
            f"{_WIDTH * at / depth:.1f},{_HEIGHT * (1 - share):.1f}"
            for at, share in enumerate(found.by_layer)
        )
        hue, dash = style_of[found.kind]
        made.append(_Curve(found.kind, points, (_WIDTH, y), name_y, hue, dash))
    return made
