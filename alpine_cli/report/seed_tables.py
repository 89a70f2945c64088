"""Results over fine-tuning seeds as tables: mean ± 95 % interval, and the ratio with its own."""

from __future__ import annotations

from alpine_cli.report.aggregate import Pooled, SeedGroup, is_metric, pool_comparison, pool_figure
from alpine_cli.report.findings import points_text, ratio_text
from alpine_cli.report.formatting import Scale, scale_for
from alpine_cli.report.setting import describe_pruning
from alpine_cli.report.summary import summarise
from alpine_cli.report.tables import Cell, Column, Style, Table
from alpine_cli.results import Result

__all__ = ["seed_table"]

_NOTES = [
    "Mean over fine-tuning seeds ± half-width of the 95 % t interval; it spans the luck of"
    " fine-tuning and the noise of measuring together.",
    "Ratios are formed within each seed and averaged geometrically; their interval is a t interval"
    " of the log. Metrics are compared by the difference within each seed.",
]


def seed_table(group: SeedGroup) -> Table:
    """A row per figure of a group of repeats, a column per variant."""
    first = group.first
    variants = list(first.variants)
    columns = [
        Column("figure", numeric=False),
        *[Column(name) for name in variants],
        Column("pruned / unpruned"),
        Column("pruning is", numeric=False),
        Column("seeds"),
        Column("how", numeric=False),
    ]
    rows = []
    for name, label, unit in _figures(group):
        pooled = {variant: pool_figure(group, name, variant) for variant in variants}
        known = [p for p in pooled.values() if p.value is not None]
        if not known:
            continue
        scale = scale_for(unit, [p.value for p in known])
        change = pool_comparison(group, name)
        rows.append(
            [
                Cell(f"{label} [{scale.unit}]" if scale.unit else label),
                *[_value_cell(pooled[variant], scale) for variant in variants],
                _change_cell(change, name, unit),
                _verdict_cell(change),
                Cell(str(max(p.n for p in known)), max(p.n for p in known)),
                Cell(known[0].provenance),
            ]
        )
    seeds = ", ".join(map(str, group.by_seed))
    title = (
        f"Over {len(group.by_seed)} fine-tuning seeds: {first.subject.model},"
        f" {first.subject.task}, {describe_pruning(first)}"
    )
    where = f"Seeds {seeds}; batch size {group.setting.batch_size}, {group.setting.device}."
    ids = [result.id for several in group.by_seed.values() for result in several]
    notes = [where, *_NOTES, f"Results: {', '.join(ids)}."]
    return Table(f"seeds-{first.id}", title, columns, rows, notes)


def _figures(group: SeedGroup) -> list[tuple[str, str, str]]:
    """Name, label and unit of every figure that a summary of the group's results shows."""
    found: dict[str, tuple[str, str, str]] = {}
    for result in _all(group):
        for row in summarise(result):
            unit = next(iter(row.figures.values())).unit
            found.setdefault(row.figure, (row.figure, row.label.strip(), unit))
    return list(found.values())


def _all(group: SeedGroup) -> list[Result]:
    return [result for several in group.by_seed.values() for result in several]


def _value_cell(pooled: Pooled, scale: Scale) -> Cell:
    if pooled.value is None:
        if pooled.reason == "not in any of these results":
            return Cell("")
        return Cell("n/a", note=pooled.reason, style="absent")
    value = pooled.value / scale.factor
    text = scale.text(pooled.value)
    if pooled.interval is None:
        return Cell(text, value, note=pooled.reason)
    low, high = pooled.interval.low / scale.factor, pooled.interval.high / scale.factor
    return Cell(f"{text} ± {_reach((high - low) / 2)}", value, low, high, note=pooled.reason)


def _reach(half_width: float) -> str:
    return f"{half_width:.2g}" if half_width < 100 else f"{half_width:,.0f}"


def _change_cell(change: Pooled, name: str, unit: str) -> Cell:
    if change.value is None:
        return Cell("–", note=change.reason, style="absent")
    if is_metric(name):
        text = points_text(change.value, change.interval, unit)
    else:
        text = ratio_text(change.value, change.interval)
    low = change.interval.low if change.interval else None
    high = change.interval.high if change.interval else None
    return Cell(text, change.value, low, high, note=change.reason, style=_style(change))


def _verdict_cell(change: Pooled) -> Cell:
    return Cell("" if change.value is None else change.verdict, style=_style(change))


def _style(change: Pooled) -> Style:
    if change.verdict == "better":
        return "better"
    return "worse" if change.verdict == "worse" else ""
