"""The accuracy–cost front of a sweep: every setting in a table, and as a picture.

Differences to `unpruned` are paired by sample, so that they say more than each setting's own
interval does; the picture's bars are theirs, drawn around the setting's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpine_cli.measure.pareto import pareto_front
from alpine_cli.report import drawing
from alpine_cli.report.formatting import format_ratio, format_value, scale_for
from alpine_cli.report.summary import ROWS, title_of
from alpine_cli.report.tables import Cell, Column, Style, Table
from alpine_cli.results import Comparison, Figure, Result

__all__ = ["FrontPoint", "draw_front", "front_points", "front_table"]

_BASELINE = "unpruned"
_FRONT_MARK, _PUBLISHED_MARK = "*", "P"
_MARKERS = {"odd": "^", "even": "s", "all": "o"}
_OTHER_LAYERS = "D"
_MERGE_COLOURS = {"mean": drawing.ORANGE, "none": drawing.BLUE}
_LABELLED = 8  # points of a front that get their name; more would cover each other


@dataclass(frozen=True)
class FrontPoint:
    """One setting.

    Attributes:
        name: its variant.
        macs: mean multiply-adds per sample.
        share: of those of `unpruned`.
        figure: the metric.
        change: the metric against `unpruned`; None for `unpruned` itself.
        throughput: against `unpruned`, where it was measured.
        pruning: its pruning settings.
        on_front: whether no other setting is both cheaper and better.
    """

    name: str
    macs: float
    share: float
    figure: Figure
    change: Comparison | None
    throughput: Comparison | None
    pruning: dict[str, Any]
    on_front: bool

    @property
    def value(self) -> float:
        """The metric."""
        assert self.figure.value is not None
        return self.figure.value

    @property
    def published(self) -> bool:
        """Whether it is one the ALPINE paper reports: odd, even or all layers, alpha 1, mean."""
        rule = (self.pruning.get("alpha"), self.pruning.get("merge"))
        return rule == (1, "mean") and self.pruning.get("layers") in _MARKERS


def front_points(result: Result, metric: str | None = None) -> list[FrontPoint]:
    """The settings of a sweep or tune, cheapest first; empty where it holds no such figures.

    Args:
        result: of kind "sweep" or "tune".
        metric: what the front is made of; None takes what the command was asked for.
    """
    metric = metric or str(result.settings.get("metric", "accuracy"))
    base = result.figure("total_macs", _BASELINE)
    known = []
    for name in result.variants:
        macs, figure = result.figure("total_macs", name), result.figure(metric, name)
        if macs is not None and macs.value and figure is not None and figure.value is not None:
            known.append((name, macs.value, figure, figure.value))
    if base is None or not base.value or len(known) < 2:
        return []
    front = pareto_front([macs for _, macs, _, _ in known], [value for *_, value in known])
    points = [
        FrontPoint(
            name=name,
            macs=macs,
            share=macs / base.value,
            figure=figure,
            change=result.comparison(metric, name, _BASELINE),
            throughput=result.comparison("throughput", name, _BASELINE),
            pruning={} if name == _BASELINE else dict(result.variants[name].pruning or {}),
            on_front=place in front,
        )
        for place, (name, macs, figure, _) in enumerate(known)
    ]
    return sorted(points, key=lambda point: (point.macs, -point.value))


def front_table(result: Result) -> Table | None:
    """A row per setting, cheapest first; None where there is nothing to show."""
    points = front_points(result)
    if not points:
        return None
    metric = points[0].figure.name
    scale = scale_for(points[0].figure.unit, [point.value for point in points])
    macs = scale_for("MACs", [point.macs for point in points])
    others = [name for name in ("accuracy", "f1", "mcc") if name != metric]
    timed = any(point.throughput for point in points)
    columns = [
        Column("", numeric=False),
        Column("setting", numeric=False),
        Column("per sample", macs.unit),
        Column("of unpruned", "%"),
        Column(ROWS.get(metric, metric), scale.unit),
        Column("against unpruned", "pts"),
        Column("McNemar p") if metric == "accuracy" else Column("verdict", numeric=False),
        *[Column(ROWS[name], "" if name == "mcc" else "%") for name in others],
    ]
    if timed:
        columns.append(Column("throughput / unpruned"))
    rows = []
    for point in points:
        row = [
            Cell(" ".join(_marks(point))),
            Cell(point.name),
            Cell(macs.text(point.macs), value=point.macs / macs.factor),
            Cell(f"{100 * point.share:.1f}", value=100 * point.share),
            Cell(scale.text(point.value), value=point.value / scale.factor),
            *_change_cells(point, metric),
        ]
        for name in others:
            figure = result.figure(name, point.name)
            value = None if figure is None else figure.value
            factor = 1.0 if name == "mcc" else 100.0
            shown = None if value is None else value * factor
            row.append(Cell("" if shown is None else format_value(shown), value=shown))
        if timed:
            row.append(_throughput_cell(point))
        rows.append(row)
    return Table(
        key=f"front-{result.id}",
        title=f"Accuracy–cost front, pruning at inference only: {title_of(result)}",
        columns=columns,
        rows=rows,
        notes=[
            f"{_FRONT_MARK} on the Pareto front of {metric} and multiply-adds: no other setting is"
            " both cheaper and better. Neighbours on it may differ by chance."
            f" {_PUBLISHED_MARK}: the published rule (α=1, mean of the removed tokens).",
            "against unpruned: paired difference on the same samples, in brackets its 95 %"
            " bootstrap interval, not corrected for the number of settings.",
        ],
    )


def _marks(point: FrontPoint) -> list[str]:
    marks = [_FRONT_MARK] * point.on_front
    return [*marks, _PUBLISHED_MARK] if point.published else marks


def _change_cells(point: FrontPoint, metric: str) -> list[Cell]:
    change = point.change
    if change is None:
        return [Cell(""), Cell("")]
    interval = change.difference_interval
    styles: dict[str, Style] = {"better": "better", "worse": "worse"}
    text = format_ratio(change, scale_for("share", [])) if interval else "-"
    cell = Cell(
        text.replace(" pts", ""),
        value=None if change.difference is None else 100 * change.difference,
        low=None if interval is None else 100 * interval.low,
        high=None if interval is None else 100 * interval.high,
        style=styles.get(change.verdict, ""),
    )
    if metric != "accuracy":
        return [cell, Cell(change.verdict)]
    p = change.p_value
    return [cell, Cell("" if p is None else f"{p:.2g}", value=p)]


def _throughput_cell(point: FrontPoint) -> Cell:
    found = point.throughput
    if found is None or found.ratio is None:
        return Cell("")
    interval = found.interval
    return Cell(
        format_ratio(found, scale_for("samples/s", [])),
        value=found.ratio,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
    )


def draw_front(result: Result, path: Path) -> bool:
    """The metric against multiply-adds, with the front; False if there is nothing to draw.

    Args:
        result: of kind "sweep" or "tune".
        path: ends in .png or .svg.
    """
    points = front_points(result)
    pruned = [point for point in points if point.name != _BASELINE]
    if not pruned:
        return False
    metric = points[0].figure.name
    with drawing.drawn(path, 8.5, 5.2) as figure:
        axes = figure.add_subplot()
        baseline = next(point for point in points if point.name == _BASELINE)
        axes.axhline(100 * baseline.value, color=drawing.QUIET, linewidth=1, linestyle=":")
        for point in pruned:
            _draw_point(axes, point)
        front = [point for point in points if point.on_front]
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
        _name_front(axes, [point for point in front if point.name != _BASELINE])
        axes.set_xlabel("multiply-adds, % of unpruned")
        axes.set_ylabel(f"{ROWS.get(metric, metric)}, %" if metric != "mcc" else "MCC × 100")
        axes.set_xlim(0, 106)
        axes.grid(color=drawing.GRID, linewidth=0.6)
        axes.set_axisbelow(True)
        axes.legend(handles=_legend(pruned), loc="lower right", ncols=2)
        drawing.headline(axes, "What pruning at inference costs and saves", title_of(result))
    return True


def _draw_point(axes: Any, point: FrontPoint) -> None:
    x, y = 100 * point.share, 100 * point.value
    colour = _MERGE_COLOURS.get(point.pruning.get("merge", ""), drawing.GREEN)
    interval = point.change.difference_interval if point.change is not None else None
    if interval is not None and point.change is not None and point.change.difference is not None:
        base = y - 100 * point.change.difference
        ends = [base + 100 * interval.low, base + 100 * interval.high]
        axes.plot([x, x], ends, color=colour, linewidth=1, alpha=0.6, zorder=2)
    if point.published:
        axes.plot(
            [x], [y], marker="o", markersize=14, markerfacecolor="none", color=drawing.INK, zorder=3
        )
    axes.plot(
        [x],
        [y],
        marker=_MARKERS.get(str(point.pruning.get("layers")), _OTHER_LAYERS),
        markersize=6.5,
        color=colour,
        markeredgecolor=drawing.PAPER,
        linestyle="",
        zorder=3.5,
    )


def _name_front(axes: Any, front: list[FrontPoint]) -> None:
    """Name points of the front, evenly picked where there are many."""
    step = max(1, -(-len(front) // _LABELLED))
    for point in front[::step]:
        axes.annotate(
            point.name,
            (100 * point.share, 100 * point.value),
            xytext=(-6, 8),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color=drawing.QUIET,
        )


def _legend(pruned: list[FrontPoint]) -> list[Any]:
    """What colour, marker, ring and line mean; only of what is there."""
    from matplotlib.lines import Line2D

    handles = []
    for layers in dict.fromkeys(str(point.pruning.get("layers")) for point in pruned):
        marker = _MARKERS.get(layers, _OTHER_LAYERS)
        label = f"layers {layers}"
        handles.append(
            Line2D([], [], marker=marker, linestyle="", color=drawing.QUIET, label=label)
        )
    for merge in dict.fromkeys(str(point.pruning.get("merge")) for point in pruned):
        colour = _MERGE_COLOURS.get(merge, drawing.GREEN)
        handles.append(Line2D([], [], color=colour, linewidth=4, label=f"merge {merge}"))
    if any(point.published for point in pruned):
        ring = Line2D([], [], marker="o", markersize=11, linestyle="", label="published rule")
        ring.set(color=drawing.INK, markerfacecolor="none")
        handles.append(ring)
    handles.append(Line2D([], [], color=drawing.INK, linewidth=1.2, label="Pareto front"))
    bar = "95 % interval of the difference"
    handles.append(Line2D([], [], color=drawing.QUIET, marker="|", linestyle="", label=bar))
    return handles
