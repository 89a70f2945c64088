"""Cells of the paper's tables: printed figures, ours, and words where one of them is missing."""

from __future__ import annotations

from alpine_cli.report.formatting import format_value
from alpine_cli.report.paper_runs import Run, Shown
from alpine_cli.report.published import TAGS, PublishedCell, PublishedTable
from alpine_cli.report.tables import Cell

__all__ = [
    "NOT_MEASURED",
    "NOT_PUBLISHED",
    "cut",
    "figure_cell",
    "measured",
    "printed",
    "printed_value",
    "published_cut",
    "source_notes",
    "sources",
    "times",
]

NOT_MEASURED = Cell("not measured", style="absent")
NOT_PUBLISHED = Cell("not published", style="absent")


def printed(cell: PublishedCell | None, name: str, digits: int | None = None) -> Cell:
    """A published value with its misprint as note; `digits` decimals, or as many as it has."""
    if cell is None or name not in cell.values:
        return NOT_PUBLISHED
    value = cell.values[name]
    text = f"{value:,.{digits}f}" if digits is not None else f"{value:,.10g}"
    return Cell(text, value, note=cell.notes.get(name), style="published")


def printed_value(text: str, value: float, note: str | None = None) -> Cell:
    """A value computed from published ones."""
    return Cell(text, value, note=note, style="published")


def measured(shown: Shown, scale: float = 1.0, suffix: str = "") -> Cell:
    """One of our values, divided by `scale`, with its interval in brackets."""
    value = shown.value / scale
    if shown.interval is None:
        return Cell(format_value(value) + suffix, value)
    low, high = shown.interval.low / scale, shown.interval.high / scale
    text = f"{format_value(value)} [{format_value(low)}, {format_value(high)}]{suffix}"
    return Cell(text, value, low, high)


def figure_cell(
    run: Run | None, candidates: list[Run], name: str, scale: float = 1.0, *, factor: bool = False
) -> Cell:
    """The figure `name` of the chosen run; absent figures say why.

    Args:
        run: the run that gives the figure, or None.
        candidates: the runs it was chosen from.
        name: of the figure.
        scale: the figure is divided by it.
        factor: add how many times better than the unpruned run of the same result it is.
    """
    if run is None:
        for other in candidates:
            figure = other.figure(name)
            if figure is not None:
                return Cell("n/a", note=figure.reason, style="absent")
        return NOT_MEASURED
    figure, shown = run.figure(name), run.shown(name)
    assert figure is not None
    assert shown is not None
    suffix = ""
    if factor and (ratio := run.against_unpruned(name)) is not None:
        suffix = f" ({_gain(ratio, invert=figure.better == 'lower')})"
    return measured(shown, scale, suffix)


def _gain(ratio: Shown, *, invert: bool) -> str:
    """ "1.42× [1.38, 1.46]": how many times better."""

    def oriented(value: float) -> float:
        return 1 / value if invert else value

    text = times(oriented(ratio.value))
    if ratio.interval is None or ratio.interval.low <= 0:
        return text
    low, high = sorted(oriented(end) for end in (ratio.interval.low, ratio.interval.high))
    return f"{text} [{low:.2f}, {high:.2f}]"


def times(factor: float) -> str:
    """ "1.42×"."""
    return f"{factor:.2f}×"


def cut(run: Run | None, name: str) -> Cell:
    """How many per cent less than unpruned a figure of the same result is."""
    ratio = None if run is None else run.against_unpruned(name)
    if ratio is None:
        return NOT_MEASURED
    value = 100 * (1 - ratio.value)
    if ratio.interval is None:
        return Cell(f"{value:.1f}", value)
    low, high = 100 * (1 - ratio.interval.high), 100 * (1 - ratio.interval.low)
    return Cell(f"{value:.1f} [{low:.1f}, {high:.1f}]", value, low, high)


def published_cut(none: PublishedCell | None, cell: PublishedCell | None, name: str) -> Cell:
    """How many per cent less than none a published value is, computed."""
    if none is None or cell is None:
        return NOT_PUBLISHED
    value = 100 * (1 - cell.values[name] / none.values[name])
    return printed_value(f"{value:.1f}", value)


def sources(chosen: dict[str, tuple[Run | None, list[Run]]]) -> Cell:
    """Which results a row came from: "0badcafe of 3" where 3 fitted, or one per quantity.

    Args:
        chosen: by quantity, the run that was taken and those it was taken from.
    """
    taken: dict[str, list[str]] = {}
    for quantity, (run, candidates) in chosen.items():
        if run is None:
            continue
        fitting = len({other.result.id for other in candidates})
        if run.seeds is not None:
            text = f"mean of seeds {', '.join(map(str, run.seeds.by_seed))}"
        else:
            text = run.result.id + (f" of {fitting}" if fitting > 1 else "")
        taken.setdefault(text, []).append(quantity)
    if len(taken) == 1:
        return Cell(next(iter(taken)))
    return Cell("; ".join(f"{', '.join(names)}: {text}" for text, names in taken.items()))


def source_notes(table: PublishedTable) -> list[str]:
    """Where the published figures come from, and what holds for all of them."""
    first = f"Published figures: ALPINE (FSE 2025), {TAGS[table.tag]} ({table.source})."
    return [first, *[remark.text for remark in table.remarks]]
