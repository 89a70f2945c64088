"""The tables of one result: its summary, its lengths, its speed by length, how all was taken."""

from __future__ import annotations

from alpine_cli.report.batches import batches_of
from alpine_cli.report.bins import bins_note
from alpine_cli.report.cell_text import BRACKETS
from alpine_cli.report.findings import style_of
from alpine_cli.report.setting import describe_cell
from alpine_cli.report.summary import SummaryRow, summarise
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Result, Series

__all__ = [
    "lengths_table",
    "padding_note",
    "provenance_table",
    "speed_by_length_table",
    "to_table",
]

_SAME = 1e-6  # counts of two engines that differ by less differ by rounding


def to_table(result: Result) -> Table:
    """The summary of a result: a row per figure, a column per variant, ratios and verdict."""
    variants = list(result.variants)
    ratios = {"pruned", "unpruned"} <= set(variants)
    columns = [Column("figure", numeric=False), *[Column(name) for name in variants]]
    if ratios:
        columns += [Column("pruned / unpruned"), Column("pruning is", numeric=False)]
    if {"unpruned", "stock"} <= set(variants):
        columns.append(Column("unpruned / stock"))
    columns.append(Column("how", numeric=False))
    rows = []
    reasons: dict[tuple[str, str], list[str]] = {}  # (label, reason) -> variants: said once
    for row in summarise(result):
        unit = f" [{row.scale.unit}]" if row.scale.unit else ""
        cells = [Cell(f"{row.label.strip()}{unit}")]
        cells += [_value_cell(row, variant) for variant in variants]
        if ratios:
            cells += [_ratio_cell(row), _verdict_cell(row)]
        if {"unpruned", "stock"} <= set(variants):
            cells.append(_engine_cell(row))
        cells.append(_how_cell(row))
        rows.append(cells)
        for figure in row.figures.values():
            if figure.reason is not None:
                reasons.setdefault((row.label.strip(), figure.reason), []).append(figure.variant)
    notes = [
        f"{label}, {', '.join(names)}: not taken, {reason}"
        for (label, reason), names in reasons.items()
    ]
    if ratios:
        notes.insert(
            0,
            f"{BRACKETS} Metrics are compared by difference, all else by ratio. “No difference"
            " shown”: the interval covers none; “not judged”: there is no interval.",
        )
    padded = padding_note(result)
    if padded is not None:
        notes.append(padded)
    title = f"{describe_cell(result)}, {result.subject.data} {result.subject.split}"
    return Table(f"summary-{result.id}", title, columns, rows, notes)


def padding_note(result: Result) -> str | None:
    """Why stock takes more multiply-adds than unpruned on the same tokens; None where it does not.

    Engines that pack leave padding out. At batch size 1 there is some all the same where a sample
    is two functions: they go through the encoder together, the shorter padded to the longer.
    """
    stock, unpruned = (result.figure("total_macs", name) for name in ("stock", "unpruned"))
    if stock is None or unpruned is None or stock.value is None or unpruned.value is None:
        return None
    if stock.value <= unpruned.value * (1 + _SAME):
        return None
    batches = batches_of(result.settings, "flops_")
    alone = batches is not None and batches.samples == 1
    why = "a pair's two functions, the shorter to the longer" if alone else "samples of a batch"
    more = f"{100 * (stock.value / unpruned.value - 1):.1f} %"
    return f"Multiply-adds: stock takes {more} more than unpruned because it pads {why}."


def _value_cell(row: SummaryRow, variant: str) -> Cell:
    figure = row.figures.get(variant)
    if figure is None:
        return Cell("")
    if figure.value is None:
        return Cell("n/a", note=figure.reason, style="absent")
    return Cell(row.cell(variant), figure.value / row.scale.factor)


def _ratio_cell(row: SummaryRow) -> Cell:
    found = row.pruning
    if found is None:
        return Cell(row.ratio)
    value, interval, factor = found.ratio, found.interval, 1.0
    if found.difference_interval is not None and found.difference is not None:
        value, interval = found.difference, found.difference_interval
        factor = row.scale.factor  # of shares: points
    low, high = (None, None) if interval is None else (interval.low, interval.high)
    low, high, value = (None if n is None else n / factor for n in (low, high, value))
    return Cell(row.ratio, value, low, high, found.reason, style_of(found))


def _verdict_cell(row: SummaryRow) -> Cell:
    reason = row.pruning.reason if row.pruning is not None else None
    return Cell(row.verdict, note=reason, style=style_of(row.pruning))


def _engine_cell(row: SummaryRow) -> Cell:
    if row.engine is None or row.engine.difference_interval is not None:
        return Cell(row.engine_ratio)
    return Cell(row.engine_ratio, row.engine.ratio)


def _how_cell(row: SummaryRow) -> Cell:
    methods = dict.fromkeys(f.method for f in row.figures.values() if f.value is not None)
    return Cell(row.method, note="; ".join(methods) or None)


def lengths_table(result: Result) -> Table | None:
    """Mean tokens after every layer, a row per variant; None without such curves."""
    curves = [s for s in result.series if s.name == "mean_length" and s.variant != "stock"]
    curves = curves or [s for s in result.series if s.name == "mean_length"]
    if not curves:
        return None
    ticks = sorted({x for curve in curves for x in curve.x})
    columns = [Column("variant", numeric=False), *[Column(f"{x:.0f}") for x in ticks]]
    rows = []
    for curve in curves:
        at = dict(zip(curve.x, curve.y, strict=True))
        rows.append([Cell(curve.variant), *[_number(at.get(x), 1) for x in ticks]])
    return Table(
        f"lengths-{result.id}",
        "Mean tokens after so many layers",
        columns,
        rows,
        [curves[0].method],
    )


def speed_by_length_table(result: Result) -> Table | None:
    """Throughput in bins of input length, and what pruning gains there; None without curves."""
    rates = [series for series in result.series if series.name == "throughput_by_length"]
    gain = next(
        (
            series
            for series in result.series
            if series.name == "speedup_by_length"
            and (series.variant, series.baseline) == ("pruned", "unpruned")
        ),
        None,
    )
    if not rates:
        return None
    curves = [*rates, gain] if gain is not None else rates
    # A bin in which nothing was timed is no row; the note tells where such are.
    bins = [label for label in dict.fromkeys(at for c in curves for at in _labels(c))
            if any(_has(curve, label) for curve in curves)]  # fmt: skip
    if not bins:
        return None
    columns = [
        Column("length of the input", numeric=False),
        *[Column(series.variant, series.unit) for series in rates],
        *([Column("pruned / unpruned")] if gain is not None else []),
    ]
    rows = [[Cell(name), *[_point(curve, name) for curve in curves]] for name in bins]
    ranged = any(curve.low is not None for curve in curves)
    notes = [*([BRACKETS] if ranged else []), *bins_note(bins), rates[0].method]
    return Table(
        f"by-length-{result.id}", "Throughput by length of the input", columns, rows, notes
    )


def _has(series: Series, label: str) -> bool:
    labels = _labels(series)
    return label in labels and series.y[labels.index(label)] is not None


def _labels(series: Series) -> list[str]:
    return series.labels if series.labels is not None else [f"{x:g}" for x in series.x]


def _point(series: Series, label: str) -> Cell:
    labels = _labels(series)
    if label not in labels:
        return Cell("–", note="no such point", style="absent")
    at = labels.index(label)
    value = series.y[at]
    low = series.low[at] if series.low is not None else None
    high = series.high[at] if series.high is not None else None
    if value is None:
        return Cell("n/a", style="absent")
    digits = 2 if series.baseline is not None else 1
    text = f"{value:,.{digits}f}"
    if low is not None and high is not None:
        text += f" [{low:,.{digits}f}, {high:,.{digits}f}]"
    style = ""
    if series.baseline is not None and low is not None and high is not None:
        style = "better" if low > 1 else "worse" if high < 1 else ""
        text += f" {style or 'no difference shown'}"
    return Cell(text, value, low, high, style=style)  # type: ignore[arg-type]


def _number(value: float | None, digits: int) -> Cell:
    if value is None:
        return Cell("n/a", style="absent")
    return Cell(f"{value:,.{digits}f}", value)


def provenance_table(result: Result) -> Table:
    """Every figure of a result with how it was taken, or why it was not."""
    columns = [Column(name, numeric=False) for name in ("figure", "variant")]
    columns += [Column("value"), Column("unit", numeric=False), Column("n")]
    columns += [Column(name, numeric=False) for name in ("provenance", "aggregate", "method")]
    rows = []
    for f in result.figures:
        value = Cell("n/a", style="absent") if f.value is None else Cell(f"{f.value:.6g}", f.value)
        rows.append(
            [
                Cell(f.name),
                Cell(f.variant),
                value,
                Cell(f"{f.unit} per {f.per}" if f.per else f.unit),
                Cell("") if f.n is None else Cell(f"{f.n:,}", f.n),
                Cell(f.provenance),
                Cell(f.aggregate.replace("_", " ")),
                Cell(f.reason if f.reason is not None else f.method),
            ]
        )
    return Table(f"provenance-{result.id}", "How every figure was taken", columns, rows)
