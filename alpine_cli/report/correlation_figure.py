"""The picture of `correlation`: every configuration a point, FLOPs against energy and time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from alpine_cli.report.configurations import Group, pairs_of
from alpine_cli.report.correlation import MIN_CONFIGURATIONS, Correlation, correlate
from alpine_cli.report.drawing import GREY, INK, QUIET, VARIANT_STYLES, drawn
from alpine_cli.report.formatting import Scale, scale_for

__all__ = ["draw"]

_MOST_GROUPS = 4
_ROW_HEIGHT = 4.2
_WIDTH = 10.0
_UNITS = {"flops": "FLOPs", "energy_j": "J", "seconds": "s"}
_WORDS = {"energy_j": "energy", "seconds": "time"}


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
        drawn_panels = []
        for group, row in zip(shown, rows[:, 0], strict=True):
            row.suptitle(_title(group), x=0.01, ha="left", fontsize=9, color=QUIET)
            names = _panels(group)
            for axes, name in zip(
                row.subplots(1, len(names), squeeze=False)[0], names, strict=True
            ):
                drawn_panels.append((axes, _panel(axes, group, name)))
        below = "axes: logarithmic; line: least-squares fit of the logarithms"
        if len(enough) > len(shown):
            below += f"; {len(enough) - len(shown)} more groups stand in the table"
        figure.supxlabel(below, fontsize=9, color=QUIET)
        figure.draw_without_rendering()  # labels look for room where the points come to stand
        for axes, labels in drawn_panels:
            _label(axes, labels)
    return True


def _panels(group: Group) -> list[str]:
    """The quantities that enough configurations of the group have, beside FLOPs."""
    return [name for name in _WORDS if len(pairs_of(group, "flops", name)[0]) >= MIN_CONFIGURATIONS]


def _title(group: Group) -> str:
    counted = sorted({point.flops_batch_size for point in group.points})
    return f"{group.where}; FLOPs counted at batch size {', '.join(map(str, counted))}"


Labelled = list[tuple[float, float, str]]


def _panel(axes: Any, group: Group, name: str) -> Labelled:
    """One scatter plot; returns its points with their names."""
    x_flops, y_base = pairs_of(group, "flops", name)
    x_scale = scale_for(_UNITS["flops"], x_flops)
    y_scale = _time_scale(y_base) if name == "seconds" else scale_for(_UNITS[name], y_base)
    found = correlate(x_flops, y_base)
    axes.set_xscale("log")
    axes.set_yscale("log")
    if found.slope is not None:
        ends = np.array([min(x_flops), max(x_flops)])
        centre = np.mean(np.log(x_flops)), np.mean(np.log(y_base))
        fit = np.exp(centre[1] + found.slope * (np.log(ends) - centre[0]))
        axes.plot(ends / x_scale.factor, fit / y_scale.factor, color=GREY, linewidth=1, zorder=1)
    points = [point for point in group.points if getattr(point, name) is not None]
    places = [
        (point.flops / x_scale.factor, getattr(point, name) / y_scale.factor) for point in points
    ]
    for role, style in VARIANT_STYLES.items():
        chosen = [place for place, p in zip(places, points, strict=True) if p.role == role]
        axes.plot(
            [x for x, _ in chosen],
            [y for _, y in chosen],
            label=role if chosen else None,
            linestyle="none",
            color=style["color"],
            marker=style["marker"],
            markersize=7,
            markeredgecolor=INK,
            markeredgewidth=0.5,
        )
    axes.margins(x=0.2, y=0.15)
    for axis in (axes.xaxis, axes.yaxis):
        _ticks(axis)
    axes.grid(which="major")
    axes.set_xlabel(f"{x_scale.unit} per sample")
    kind = " (modelled from time)" if name == "energy_j" and group.modelled else ""
    axes.set_ylabel(f"{_WORDS[name]}{kind}, {y_scale.unit} per sample")
    axes.set_title(_caption(found), loc="left", fontsize=9)
    axes.legend(loc="upper left", fontsize=8)
    models = {point.model for point in points}
    return [
        (*place, point.setting if len(models) == 1 else point.label)
        for place, point in zip(places, points, strict=True)
    ]


def _time_scale(seconds: Sequence[float]) -> Scale:
    return Scale(1.0, "s") if max(seconds) >= 1 else Scale(1e-3, "ms")


def _ticks(axis: Any) -> None:
    """A few plain numbers: round ones within two decades, powers of ten beyond."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = axis.get_view_interval()
    axis.set_major_locator(MaxNLocator(5) if high < 100 * low else LogLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axis.set_minor_locator(NullLocator())


def _label(axes: Any, points: Labelled) -> None:
    """Names beside the points, each where it covers nothing; one that finds no room is left out."""
    to_pixels = axes.transData.transform
    unit = axes.figure.dpi / 72
    marks = [tuple(to_pixels((x, y))) for x, y, _ in points]
    frame = axes.get_window_extent()
    taken = [(x - 5 * unit, y - 5 * unit, x + 5 * unit, y + 5 * unit) for x, y in marks]
    taken.append(tuple(axes.get_legend().get_window_extent().extents))
    for (x, y, text), (left, low) in zip(points, marks, strict=True):
        width, height = len(text) * 4.2 * unit, 8 * unit
        for dx, dy, side in (
            (8, -3, "left"),
            (-8, -3, "right"),
            (0, 8, "center"),
            (0, -14, "center"),
        ):
            start = left + dx * unit - {"left": 0, "right": width, "center": width / 2}[side]
            box = (start, low + dy * unit, start + width, low + dy * unit + height)
            inside = frame.x0 <= box[0] and box[2] <= frame.x1 and frame.y0 <= box[1]
            if inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                axes.annotate(
                    text,
                    (x, y),
                    xytext=(dx, dy),
                    textcoords="offset points",
                    ha=side,
                    fontsize=7,
                    color=QUIET,
                )
                break


def _overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _caption(found: Correlation) -> str:
    if found.pearson is None:
        return found.reason or ""
    text = f"n = {found.n}, r = {found.pearson:.2f}"
    if found.pearson_interval is not None:
        text += f" [{found.pearson_interval.low:.2f}, {found.pearson_interval.high:.2f}]"
    text += f", ρ = {found.spearman:.2f}, slope {found.slope:.2f}"
    return text
