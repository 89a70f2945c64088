"""The accuracy–cost front of a sweep: its settings as points, and all of them in a table.

Differences to `unpruned` are paired by sample, so that they say more than each setting's own
interval does. The picture is drawn in `front_figure`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alpine_cli.measure.pareto import pareto_front
from alpine_cli.report.formatting import format_ratio, format_value, scale_for
from alpine_cli.report.summary import ROWS, title_of
from alpine_cli.report.tables import Cell, Column, Style, Table
from alpine_cli.results import Comparison, Figure, Result

__all__ = ["BASELINE", "TRUNCATE", "FrontPoint", "front_points", "front_table"]

BASELINE = "unpruned"
TRUNCATE = "truncate"
_FRONT_MARK, _PUBLISHED_MARK = "*", "P"
_PUBLISHED_LAYERS = ("odd", "even", "all")
_ENERGY = "energy_gross"


@dataclass(frozen=True)
class FrontPoint:
    """One setting.

    Attributes:
        name: its variant.
        macs: mean multiply-adds per sample.
        share: of those of `unpruned`.
        figure: the metric.
        change: the metric against `unpruned`; None for `unpruned` itself.
        throughput, energy: against `unpruned`, where they were measured (energy: or modelled).
        pruning: its pruning settings.
        max_length: tokens that its input was cut to; None leaves it as the checkpoint cuts it.
        on_front: whether no other setting is both cheaper and better.
    """

    name: str
    macs: float
    share: float
    figure: Figure
    change: Comparison | None
    throughput: Comparison | None
    energy: Comparison | None
    pruning: dict[str, Any]
    max_length: int | None
    on_front: bool

    @property
    def value(self) -> float:
        """The metric."""
        assert self.figure.value is not None
        return self.figure.value

    @property
    def published(self) -> bool:
        """Whether it is one the ALPINE paper reports: odd, even or all layers, alpha 1, mean."""
        how = (self.rule, self.pruning.get("alpha"), self.merge, self.pruning.get("score"))
        if how[:3] != ("band", 1, "mean") or how[3] not in (None, "received"):
            return False
        return self.layers in _PUBLISHED_LAYERS

    @property
    def rule(self) -> str:
        """Its rule, or `TRUNCATE`; files from before there were rules have the published one."""
        return TRUNCATE if self.max_length is not None else str(self.pruning.get("rule", "band"))

    @property
    def merge(self) -> str:
        """What becomes of removed tokens; "" where the rule leaves no choice."""
        return "" if self.rule in (TRUNCATE, "bipartite") else str(self.pruning.get("merge", ""))

    @property
    def layers(self) -> str:
        """The layers that prune; "" for truncation."""
        return "" if self.rule == TRUNCATE else str(self.pruning.get("layers", ""))

    @property
    def by_cls(self) -> bool:
        """Whether it judges tokens by the attention of the first one."""
        reads = self.rule in ("band", "floor", "top")
        return reads and self.pruning.get("score") == "cls"

    @property
    def series(self) -> str:
        """What it shares with others of its kind: "top by cls, nearest", "truncate"."""
        words = f"{self.rule} by cls" if self.by_cls else self.rule
        return f"{words}, {self.merge}" if self.merge else words

    @property
    def chain(self) -> tuple[str, ...]:
        """What is shared by settings that differ in strength alone."""
        return (self.series, self.layers, str(self.pruning.get("protect", "")))


def front_points(result: Result, metric: str | None = None) -> list[FrontPoint]:
    """The settings of a sweep or tune, cheapest first; empty where it holds no such figures.

    Args:
        result: of kind "sweep" or "tune".
        metric: what the front is made of; None takes what the command was asked for.
    """
    metric = metric or str(result.settings.get("metric", "accuracy"))
    base = result.figure("total_macs", BASELINE)
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
            change=result.comparison(metric, name, BASELINE),
            throughput=result.comparison("throughput", name, BASELINE),
            energy=result.comparison(_ENERGY, name, BASELINE),
            pruning={} if name == BASELINE else dict(result.variants[name].pruning or {}),
            max_length=result.variants[name].max_length,
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
    metered = result.figure(_ENERGY, BASELINE)
    columns = [
        Column("", numeric=False),
        Column("setting", numeric=False),
        Column("rule", numeric=False),
        Column("per sample", macs.unit),
        Column("of unpruned", "%"),
        Column(ROWS.get(metric, metric), scale.unit),
        Column("against unpruned", "pts"),
        Column("McNemar p") if metric == "accuracy" else Column("verdict", numeric=False),
        *[Column(ROWS[name], "" if name == "mcc" else "%") for name in others],
    ]
    if timed:
        columns.append(Column("throughput / unpruned"))
    if metered is not None:
        columns.append(Column(f"energy / unpruned, {metered.provenance}"))
    rows = []
    for point in points:
        row = [
            Cell(" ".join(_marks(point))),
            Cell(point.name),
            Cell("" if point.name == BASELINE else point.series),
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
            row.append(_ratio_cell(point.throughput))
        if metered is not None:
            row.append(_ratio_cell(point.energy))
        rows.append(row)
    published = ""
    if any(point.published for point in points):
        published = (
            f" {_PUBLISHED_MARK}: the published rule (band, α=1, mean of the removed tokens)."
        )
    return Table(
        key=f"front-{result.id}",
        title=f"Accuracy–cost front, pruning at inference only: {title_of(result)}",
        columns=columns,
        rows=rows,
        notes=[
            f"{_FRONT_MARK} on the Pareto front of {metric} and multiply-adds: no other setting is"
            f" both cheaper and better. Neighbours on it may differ by chance.{published}",
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


def _ratio_cell(found: Comparison | None) -> Cell:
    if found is None or found.ratio is None:
        return Cell("")
    interval = found.interval
    return Cell(
        format_ratio(found, scale_for("samples/s", [])),
        value=found.ratio,
        low=None if interval is None else interval.low,
        high=None if interval is None else interval.high,
    )
