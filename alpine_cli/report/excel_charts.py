"""Native charts of the workbook: they stand below their table, on numbers written beside them.

A chart reads cells, so that whoever changes or copies the sheet has the chart with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from alpine_cli.report.drawing import BLUE, GREY, INK, VARIANT_COLOURS, VERDICT_COLOURS
from alpine_cli.report.figures import drawable, ratio_of
from alpine_cli.report.summary import summarise
from alpine_cli.results import Result, Series

__all__ = ["Looks", "add_charts"]

_LINES = 18  # of a chart's height


class Looks(NamedTuple):
    """Formats of the numbers that a chart reads."""

    head: Any
    number: Any


def add_charts(book: Any, sheet: Any, line: int, key: str, result: Result, looks: Looks) -> None:
    """The charts that belong to the table `key` of a result, from `line` downwards."""
    name = sheet.get_name()
    if key.startswith("summary-"):
        line = _ratios(book, sheet, name, line, result, looks)
        _waterfall(book, sheet, name, line, result, looks)
    elif key.startswith("lengths-"):
        curves = [s for s in result.series if s.name == "mean_length" and s.variant != "stock"]
        _lines(book, sheet, name, line, curves, looks, "layers passed", "mean tokens")
    elif key.startswith("by-length-"):
        rates = [s for s in result.series if s.name == "throughput_by_length"]
        # Columns: a bin may be the only one, or have no neighbour.
        _lines(book, sheet, name, line, rates, looks, "length of the input", "samples/s", "column")


def _write_block(
    sheet: Any, line: int, looks: Looks, titles: Sequence[str], columns: Sequence[Sequence[Any]]
) -> None:
    sheet.set_row(line, 47)  # heads of three lines
    for at, (title, values) in enumerate(zip(titles, columns, strict=True)):
        sheet.write_string(line, at, title, looks.head)
        for below, value in enumerate(values, start=line + 1):
            if isinstance(value, str):
                sheet.write_string(below, at, value)
            elif value is not None:
                sheet.write_number(below, at, value, looks.number)


def _cells(name: str, line: int, column: int, count: int) -> list[Any]:
    return [name, line + 1, column, line + count, column]


def _reference(name: str, line: int, column: int, count: int) -> str:
    from xlsxwriter.utility import xl_range_abs

    return f"='{name}'!{xl_range_abs(line + 1, column, line + count, column)}"


def _ratios(book: Any, sheet: Any, name: str, line: int, result: Result, looks: Looks) -> int:
    """Bars of pruned / unpruned with error bars; returns the line after the chart."""
    rows = [row for row in summarise(result) if drawable(row)]
    if not rows:
        return line
    ratios = [ratio_of(row) for row in rows]
    verdicts = [row.verdict for row in rows]
    below = [r - i.low if i is not None else None for r, i in ratios]
    above = [i.high - r if i is not None else None for r, i in ratios]
    ends = [r for r, _ in ratios] + [i.high for _, i in ratios if i is not None]
    titles = ("chart: figure", "pruned / unpruned", "bar down", "bar up", "verdict")
    labels = [row.label.strip() for row in rows]
    values = [ratio for ratio, _ in ratios]
    _write_block(sheet, line, looks, titles, (labels, values, below, above, verdicts))
    count = len(rows)
    chart = book.add_chart({"type": "bar"})
    chart.add_series(
        {
            "name": "pruned / unpruned",
            "categories": _cells(name, line, 0, count),
            "values": _cells(name, line, 1, count),
            "points": [{"fill": {"color": VERDICT_COLOURS[verdict]}} for verdict in verdicts],
            "gap": 60,
            "y_error_bars": _whiskers(name, line, 2, above, {"color": INK, "width": 1.25}),
            "data_labels": {
                "custom": [
                    {"value": f"{ratio:.0%} {verdict}"}
                    for ratio, verdict in zip(values, verdicts, strict=True)
                ],
                "value": True,
                "position": "inside_base",
                "font": {"size": 8, "color": INK},
            },
        }
    )
    chart.set_title({"name": "What pruning changes", "name_font": {"size": 12}})
    chart.set_legend({"none": True})
    chart.set_x_axis(
        {
            "name": "pruned / unpruned, with 95 % confidence intervals",
            "num_format": "0%",
            "min": 0,
            "max": _reaching(ends),
            "major_gridlines": {"visible": True, "line": {"color": "#DDDDDD"}},
        }
    )
    chart.set_y_axis({"reverse": True, "crossing": "max"})
    chart.set_size({"width": 760, "height": 120 + 36 * count})
    sheet.insert_chart(line + count + 2, 0, chart)
    return int(line + count + 4 + (120 + 36 * count) / 20)


def _waterfall(book: Any, sheet: Any, name: str, line: int, result: Result, looks: Looks) -> None:
    """From the unpruned time to the pruned one, step by step: stacked bars on an unseen base."""
    anatomy = next((s for s in result.series if s.name == "speedup_anatomy"), None)
    if anatomy is None or anatomy.labels is None or None in anatomy.y or len(anatomy.y) < 2:
        return
    steps = [float(value or 0.0) for value in anatomy.y]
    base, total, saved, lost = [0.0], [steps[0]], [0.0], [0.0]
    level = steps[0]
    for step in steps[1:-1]:
        base.append(min(level, level + step))
        saved.append(-step if step < 0 else 0.0)
        lost.append(step if step > 0 else 0.0)
        total.append(0.0)
        level += step
    for values, value in ((base, 0.0), (saved, 0.0), (lost, 0.0), (total, steps[-1])):
        values.append(value)
    titles = ("chart: step", "base", "time", "saved", "lost")
    columns = (anatomy.labels, base, total, saved, lost)
    _write_block(sheet, line, looks, titles, columns)
    chart = book.add_chart({"type": "column", "subtype": "stacked"})
    count = len(steps)
    fills: list[dict[str, Any]] = [
        {"fill": {"none": True}, "border": {"none": True}},
        {"fill": {"color": GREY}},
        {"fill": {"color": VERDICT_COLOURS["better"]}},
        {"fill": {"color": VERDICT_COLOURS["worse"]}},
    ]
    for column, fill in enumerate(fills, start=1):
        chart.add_series(
            {
                "name": [name, line, column],
                "categories": _cells(name, line, 0, count),
                "values": _cells(name, line, column, count),
                "gap": 40,
                **fill,
            }
        )
    chart.set_title({"name": "Anatomy of the speed-up", "name_font": {"size": 12}})
    chart.set_legend({"position": "bottom", "delete_series": [0]})
    chart.set_y_axis({"name": anatomy.unit, "min": 0})
    chart.set_size({"width": 760, "height": 380})
    sheet.insert_chart(line + count + 2, 0, chart)


def _whiskers(
    name: str, line: int, column: int, above: Sequence[float | None], look: dict[str, Any]
) -> dict[str, Any] | None:
    """Error bars from two columns, down and up; None where no point has an interval.

    A point without one has empty cells, which Excel takes for 0: no caps, or it would show one.
    """
    if all(value is None for value in above):
        return None
    return {
        "type": "custom",
        "plus_values": _reference(name, line, column + 1, len(above)),
        "minus_values": _reference(name, line, column, len(above)),
        "end_style": 0,
        "line": look,
    }


def _reaching(ends: Sequence[float | None]) -> float:
    """Where an axis from 0 ends that holds all of these: Excel looks at values, not at whiskers."""
    highest = max((end for end in ends if end is not None), default=1.0) * 1.05
    if highest <= 0:
        return 1.0
    step = 10.0 ** math.floor(math.log10(highest)) / 4
    return step * math.ceil(highest / step)


def _lines(
    book: Any,
    sheet: Any,
    name: str,
    line: int,
    curves: Sequence[Series],
    looks: Looks,
    x_title: str,
    y_title: str,
    kind: str = "line",
) -> None:
    """Curves or columns over the same points, with error bars where their intervals are known."""
    if not curves:
        return
    first = curves[0]
    x = first.labels or [f"{value:g}" for value in first.x]
    curves = [curve for curve in curves if len(curve.y) == len(x)]
    titles, columns = [f"chart: {x_title}"], [list[Any](x)]
    count = len(x)
    ends: list[float | None] = []
    chart = book.add_chart({"type": kind})
    for at, curve in enumerate(curves):
        colour = VARIANT_COLOURS.get(curve.variant, BLUE)
        column = len(columns)
        titles.append(curve.variant)
        columns.append(list(curve.y))
        options: dict[str, Any] = {
            "name": [name, line, column],
            "categories": _cells(name, line, 0, count),
            "values": _cells(name, line, column, count),
        }
        if kind == "line":
            options["line"] = {"color": colour, "width": 2}
            options["marker"] = {
                "type": ("circle", "square", "diamond", "triangle")[at % 4], "size": 6,
                "fill": {"color": colour}, "border": {"color": colour},
            }  # fmt: skip
        else:
            options |= {"fill": {"color": colour}, "gap": 60}
        ends += curve.y
        if curve.low is not None and curve.high is not None:
            titles += [f"{curve.variant}: bar {way}" for way in ("down", "up")]
            reaches = _reach(curve, curve.low, -1), _reach(curve, curve.high, 1)
            columns += reaches
            look = {"color": colour if kind == "line" else INK}
            options["y_error_bars"] = _whiskers(name, line, column + 1, reaches[1], look)
            ends += curve.high
        chart.add_series(options)
    _write_block(sheet, line, looks, titles, columns)
    chart.set_x_axis({"name": x_title})
    chart.set_y_axis(
        {"name": y_title, "min": 0, "max": _reaching(ends), "major_gridlines": {"visible": True}}
    )
    chart.set_legend({"position": "top"})
    chart.set_size({"width": 760, "height": 20 * _LINES})
    sheet.insert_chart(line + count + 2, 0, chart)


def _reach(curve: Series, ends: Sequence[float | None], sign: int) -> list[float | None]:
    """Lengths of error bars: never negative, None where there is no interval."""
    return [
        None if y is None or end is None else max(0.0, sign * (end - y))
        for y, end in zip(curve.y, ends, strict=True)
    ]
