"""The changes from A to B as tables, one per subject and batch size."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from alpine_cli.compare.judge import Change
from alpine_cli.compare.match import Pair
from alpine_cli.report.batches import batches_of
from alpine_cli.report.formatting import Scale, format_ratio, scale_for
from alpine_cli.report.setting import describe_pruning, precision_of, training_seed_of
from alpine_cli.report.summary import ROWS, title_of
from alpine_cli.report.tables import Cell, Column, Style, Table
from alpine_cli.results import Result

__all__ = ["cell_name", "change_tables"]

_COLUMNS = [
    Column("figure", numeric=False),
    Column("variant", numeric=False),
    Column("A"),
    Column("B"),
    Column("B / A"),
    Column("B is", numeric=False),
    Column("how", numeric=False),
]
_NOTES = [
    "B / A: ratio, or the difference for shares; in brackets the 95 % confidence interval."
    " undecided: the interval covers no change.",
    "A and B are separate sessions and were not interleaved: for time, memory and energy the"
    " interval holds the spread inside each session, not what differs between the two. To compare"
    " two settings closely, measure them in one session (`alpine bench`).",
]


def change_tables(
    changes: Sequence[Change], *, figures: Collection[str] | None = None
) -> list[Table]:
    """Tables in the order of the changes.

    Args:
        changes: what to show.
        figures: show these beside the headline figures that could be compared; None shows all.
    """
    groups: dict[str, list[Change]] = {}
    for change in changes:
        if change.found.difference is None and figures is not None:
            continue  # what neither side could take is told by `alpine bench`
        if figures is None or change.pair.figure in ROWS or change.pair.figure in figures:
            groups.setdefault(_title(change.pair), []).append(change)
    return [
        Table(
            key=f"compare-{number}",
            title=title,
            columns=_COLUMNS,
            rows=[_row(change, _scale_of(change, group)) for change in group],
            notes=_NOTES + _differences(group),
        )
        for number, (title, group) in enumerate(groups.items(), start=1)
    ]


def _title(pair: Pair) -> str:
    result = pair.candidate.result
    size = batches_of(result.settings)
    return title_of(result) + ("" if size is None else f", batch size {size}")


_CELL: tuple[Callable[[Result], str], ...] = (
    lambda result: result.subject.model,
    lambda result: result.subject.task,
    lambda result: f"{result.subject.data} {result.subject.split}",
    lambda result: f"batch size {batches_of(result.settings) or '?'}",
    lambda result: describe_pruning(result),
    lambda result: f"seed {training_seed_of(result)}",
    precision_of,
    lambda result: str(result.settings.get("device", "")),
    lambda result: result.id,
)


def cell_name(change: Change, changes: Sequence[Change]) -> str:
    """What tells the result of a change from those of the others: "batch size 1"; "" for one."""
    every = {c.pair.candidate.result.id: c.pair.candidate.result for c in changes}
    mine, words = change.pair.candidate.result, []
    left = list(every.values())  # those that the words so far do not tell from `mine`
    for told in _CELL:
        if len(left) > 1 and len(set(map(told, every.values()))) > 1:
            words.append(told(mine))
        left = [result for result in left if told(result) == told(mine)]
    return ", ".join(word for word in words if word)


def _scale_of(change: Change, group: Sequence[Change]) -> Scale:
    """One for all rows of a figure, so that its numbers compare down the column."""
    unit = change.pair.candidate.figure.unit
    alike = [c.pair for c in group if c.pair.figure == change.pair.figure]
    return scale_for(
        unit,
        [
            entry.figure.value
            for pair in alike
            for entry in (pair.baseline, pair.candidate)
            if entry.figure.unit == unit
        ],
    )


def _row(change: Change, scale: Scale) -> list[Cell]:
    pair, found = change.pair, change.found
    values = [pair.baseline.figure.value, pair.candidate.figure.value]
    a, b = (
        Cell(scale.text(value), value=value)
        if value is not None
        else Cell("n/a", note=entry.figure.reason, style="absent")
        for value, entry in zip(values, (pair.baseline, pair.candidate), strict=True)
    )
    interval = found.interval or found.difference_interval
    style: Style = "better" if found.verdict == "better" else ""
    label = ROWS.get(pair.figure, pair.figure.replace("_", " "))
    return [
        Cell(f"{label}, {scale.unit}".rstrip(", ")),
        Cell(pair.variant),
        a,
        b,
        Cell(
            _change_text(change),
            value=found.difference if pair.family == "metric" else found.ratio,
            low=None if interval is None else interval.low,
            high=None if interval is None else interval.high,
        ),
        Cell(_verdict(change), style="worse" if found.verdict == "worse" else style),
        Cell(_how(change)),
    ]


def _change_text(change: Change) -> str:
    found = change.found
    if change.pair.family == "metric":
        if found.difference is None:
            return "-"
        if found.difference_interval is None:
            return f"{found.difference:+.4g}"
    scale = scale_for(change.pair.candidate.figure.unit, [])
    return format_ratio(found, scale)


def _verdict(change: Change) -> str:
    if change.found.verdict != "no difference shown":
        return change.found.verdict
    return "equal" if change.pair.family == "exact" else "undecided"


def _how(change: Change) -> str:
    """What the interval rests on, in a few words; the result of --json holds the whole method."""
    found, a, b = change.found, change.pair.baseline.figure, change.pair.candidate.figure
    if found.difference is None:
        return found.reason or ""
    if change.pair.family == "exact":
        return "exact"
    if found.p_value is not None:
        return f"{b.n:,} samples, paired; McNemar p = {found.p_value:.2g}"
    if found.difference_interval is not None:
        paired = "not " if "independent" in found.difference_interval.method else ""
        return f"{b.n:,} samples, {paired}paired"
    if found.interval is not None and "unpaired" not in found.interval.method:
        return f"{b.n} samples, two sessions"
    runs = f"{len(a.samples or [])} and {len(b.samples or [])} runs"
    return f"{runs}, two sessions" if found.interval is not None else f"{runs}: too few"


def _differences(group: Sequence[Change]) -> list[str]:
    """What else differs, once per variant."""
    told = dict.fromkeys(
        f"{change.pair.variant}: {note}" for change in group for note in change.pair.notes
    )
    return list(told)
