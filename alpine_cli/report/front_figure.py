"""The picture of an accuracy–cost front: a series per rule, told apart by colour and by marker.

colour and marker   the rule            filled, hollow, half   merge mean, none, nearest
line                settings that differ in strength alone; its style tells the layers
bar                 95 % interval of the paired difference to unpruned, around the value; where
                    settings are many, only of the front and of the published rule
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alpine_cli.report import drawing
from alpine_cli.report.front import BASELINE, TRUNCATE, FrontPoint, front_points
from alpine_cli.report.summary import ROWS, title_of
from alpine_cli.results import Result

__all__ = ["draw_front", "draw_points"]

_LOOKS: dict[str, tuple[str, str]] = {
    "band": (drawing.ORANGE, "o"),
    "floor": (drawing.YELLOW, "v"),
    "top": (drawing.BLUE, "^"),
    "bipartite": (drawing.GREEN, "D"),
    "random": (drawing.GREY, "s"),
    "first": (drawing.SKY, "P"),
    TRUNCATE: (drawing.INK, "X"),
}
_OTHER_LOOK = (drawing.QUIET, "h")
_LINES: dict[str, Any] = {"all": "-", "": "-", "even": "--", "odd": ":"}
_OTHER_LINE = "-."
_ALL_BARS = 40  # settings; bars of more would be a hedge


def draw_front(result: Result, path: Path) -> bool:
    """The metric against multiply-adds, with the front; False if there is nothing to draw.

    Args:
        result: of kind "sweep" or "tune".
        path: ends in .png or .svg.
    """
    points = front_points(result)
    if not any(point.name != BASELINE for point in points):
        return False
    draw_points(points, path, title_of(result))
    return True


def draw_points(points: Sequence[FrontPoint], path: Path, subtitle: str) -> None:
    """The picture of these settings.

    Args:
        points: cheapest first, `unpruned` among them.
        path: as `drawing.drawn` takes it.
        subtitle: what was measured.
    """
    pruned = [point for point in points if point.name != BASELINE]
    front = [point for point in points if point.on_front]
    metric = points[0].figure.name
    baseline = next(point for point in points if point.name == BASELINE)
    with drawing.drawn(path, 9.5, 5.6) as figure:
        axes = figure.add_subplot()
        axes.axhline(100 * baseline.value, color=drawing.QUIET, linewidth=1, linestyle=":")
        for chain in _chains(pruned):
            _draw_chain(axes, chain)
        for point in pruned:
            _draw_point(axes, point, bar=_has_bar(point, pruned))
        axes.plot(
            [100 * point.share for point in front],
            [100 * point.value for point in front],
            color=drawing.INK,
            linewidth=1.2,
            drawstyle="steps-post",  # between two settings there is nothing better to be had
            zorder=1.5,
        )
        axes.plot(
            [100], [100 * baseline.value], marker="*", markersize=14, color=drawing.INK, zorder=4
        )
        axes.annotate(
            "unpruned",
            (100, 100 * baseline.value),
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            fontsize=9,
        )
        axes.set_xlabel("multiply-adds, % of unpruned")
        axes.set_ylabel(f"{ROWS.get(metric, metric)}, %" if metric != "mcc" else "MCC × 100")
        axes.set_xlim(0, 106)
        axes.grid(color=drawing.GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(handles=_legend(pruned), loc="upper left", bbox_to_anchor=(1.0, 1.0))
        drawing.headline(axes, "What pruning at inference costs and saves", subtitle)
        _name_front(axes, [point for point in front if point.name != BASELINE])


def _chains(points: Iterable[FrontPoint]) -> list[list[FrontPoint]]:
    chains: dict[tuple[str, ...], list[FrontPoint]] = {}
    for point in points:
        chains.setdefault(point.chain, []).append(point)
    return list(chains.values())


def _draw_chain(axes: Any, chain: list[FrontPoint]) -> None:
    axes.plot(
        [100 * point.share for point in chain],
        [100 * point.value for point in chain],
        color=_LOOKS.get(chain[0].rule, _OTHER_LOOK)[0],
        linewidth=0.8,
        linestyle=_LINES.get(chain[0].layers, _OTHER_LINE),
        alpha=0.7,
        zorder=1.8,
    )


def _has_bar(point: FrontPoint, pruned: Sequence[FrontPoint]) -> bool:
    return len(pruned) <= _ALL_BARS or point.on_front or point.published


def _draw_point(axes: Any, point: FrontPoint, *, bar: bool) -> None:
    x, y = 100 * point.share, 100 * point.value
    look = _look(point)
    interval = point.change.difference_interval if point.change is not None else None
    if bar and interval and point.change is not None and point.change.difference is not None:
        base = y - 100 * point.change.difference
        ends = [base + 100 * interval.low, base + 100 * interval.high]
        axes.plot([x, x], ends, color=look["color"], linewidth=0.8, alpha=0.5, zorder=2)
    if point.published:
        axes.plot(
            [x], [y], marker="o", markersize=14, markerfacecolor="none", color=drawing.INK, zorder=3
        )
    axes.plot([x], [y], zorder=3.5, **look)


def _look(point: FrontPoint) -> dict[str, Any]:
    """How the marker of a setting is drawn; the same for all of a series."""
    colour, marker = _LOOKS.get(point.rule, _OTHER_LOOK)
    look: dict[str, Any] = {
        "color": colour,
        "marker": marker,
        "markersize": 7,
        "linestyle": "",
        "markeredgecolor": drawing.INK if point.by_cls else colour,
        "markeredgewidth": 1.0,
    }
    if point.merge == "none":
        look["markerfacecolor"] = drawing.PAPER
    elif point.merge == "nearest":
        look |= {"fillstyle": "left", "markerfacecoloralt": drawing.PAPER}
    return look


def _name_front(axes: Any, front: list[FrontPoint]) -> None:
    """Name points of the front, the most accurate first, where names do not cover each other."""
    renderer = axes.figure.canvas.get_renderer()
    axes.figure.draw_without_rendering()  # fixes the layout, which extents rest on
    taken: list[Any] = []
    for point in sorted(front, key=lambda point: -point.value):
        name = axes.annotate(
            point.name,
            (100 * point.share, 100 * point.value),
            xytext=(6, 7),
            textcoords="offset points",
            ha="left",
            fontsize=7.5,
            color=drawing.QUIET,
        )
        place = name.get_window_extent(renderer)
        if any(place.overlaps(other) for other in taken):
            name.remove()
        else:
            taken.append(place)


def _legend(pruned: list[FrontPoint]) -> list[Any]:
    """What marker, line, ring and bar mean; only of what is there."""
    from matplotlib.lines import Line2D

    series = {point.series: point for point in pruned}
    order = list(_LOOKS)
    named = sorted(
        series,
        key=lambda name: order.index(series[name].rule) if series[name].rule in order else 99,
    )
    handles = [Line2D([], [], label=name, **_look(series[name])) for name in named]
    layers = list(dict.fromkeys(point.layers for point in pruned if point.layers))
    for one in layers if len(layers) > 1 else []:
        style = _LINES.get(one, _OTHER_LINE)
        handles.append(Line2D([], [], color=drawing.QUIET, linestyle=style, label=f"layers {one}"))
    if any(point.published for point in pruned):
        ring = Line2D([], [], marker="o", markersize=11, linestyle="", label="published rule")
        ring.set(color=drawing.INK, markerfacecolor="none")
        handles.append(ring)
    handles.append(Line2D([], [], color=drawing.INK, linewidth=1.2, label="Pareto front"))
    bar = "95 % interval of\nthe difference"
    if len(pruned) > _ALL_BARS:
        bar += "\n(front, published rule)"
    handles.append(Line2D([], [], color=drawing.QUIET, marker="|", linestyle="", label=bar))
    return handles
