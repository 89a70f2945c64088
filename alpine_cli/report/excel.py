"""The report as a workbook: a summary per result, all figures, native charts, the environment.

Written with xlsxwriter. Text is never taken for a formula or a link, whatever a file says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alpine_cli.files import atomic_path
from alpine_cli.report.summary import summarise, title_of
from alpine_cli.report.tidy import comparison_rows, environment_rows, figure_rows, series_rows
from alpine_cli.results import Result, Series

__all__ = ["write_workbook"]

_CHART_COLOURS = {"stock": "#999999", "unpruned": "#56B4E9", "pruned": "#D55E00"}
_WIDEST = 60


def write_workbook(results: Sequence[Result], path: Path) -> None:
    """Write the workbook; replaces what is there (the caller has asked)."""
    import xlsxwriter

    with atomic_path(path) as temporary:
        options = {
            "strings_to_formulas": False,
            "strings_to_urls": False,
            "strings_to_numbers": False,
        }
        book = xlsxwriter.Workbook(str(temporary), options)
        styles = _Styles(book)
        _summary_sheet(book, styles, results)
        _lengths_sheet(book, styles, results)
        _table_sheet(book, styles, "Figures", figure_rows(results))
        _table_sheet(book, styles, "Comparisons", comparison_rows(results))
        _table_sheet(book, styles, "Curves", series_rows(results))
        _table_sheet(book, styles, "Environment", environment_rows(results))
        book.close()


class _Styles:
    """The few formats of the workbook."""

    def __init__(self, book: Any) -> None:
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.note = book.add_format({"italic": True, "font_color": "#555555"})
        self.head = book.add_format(
            {"bold": True, "bottom": 1, "bg_color": "#F0F0F0", "text_wrap": True, "valign": "top"}
        )
        self.number = book.add_format({"num_format": "#,##0.00"})
        self.large = book.add_format({"num_format": "#,##0"})
        self.better = book.add_format({"font_color": "#006B4E", "bold": True})
        self.worse = book.add_format({"font_color": "#B34700", "bold": True})

    def verdict(self, text: str) -> Any:
        """Colour of a verdict; the word itself carries the meaning."""
        return {"better": self.better, "worse": self.worse}.get(text)


def _summary_sheet(book: Any, styles: _Styles, results: Sequence[Result]) -> None:
    sheet = book.add_worksheet("Summary")
    sheet.set_column(0, 0, 32)
    sheet.set_column(1, 1, 12)
    sheet.set_column(2, 5, 13)
    sheet.set_column(6, 6, 34)
    sheet.set_column(7, 7, 20)
    sheet.set_column(8, 9, 26)
    line = 0
    for result in results:
        variants = list(result.variants)
        sheet.write_string(line, 0, title_of(result), styles.title)
        sheet.write_string(
            line + 1,
            0,
            f"{result.kind} {result.id}, {result.created:%Y-%m-%d %H:%M} UTC",
            styles.note,
        )
        header = ["figure", "unit", *variants, *[""] * (4 - len(variants))]
        header += ["pruned / unpruned [95 % CI]", "verdict on pruning", "unpruned / stock", "how"]
        for column, text in enumerate(header):
            sheet.write_string(line + 2, column, text, styles.head)
        first = line + 3
        rows = summarise(result)
        for at, row in enumerate(rows, start=first):
            sheet.write_string(at, 0, row.label)
            sheet.write_string(at, 1, row.scale.unit)
            for column, variant in enumerate(variants, start=2):
                figure = row.figures.get(variant)
                if figure is None:
                    continue
                if figure.value is None:
                    sheet.write_string(at, column, "n/a")
                    sheet.write_comment(at, column, figure.reason or "")
                else:
                    shown = figure.value / row.scale.factor
                    style = styles.large if abs(shown) >= 1000 else styles.number
                    sheet.write_number(at, column, shown, style)
            sheet.write_string(at, 6, row.ratio)
            sheet.write_string(at, 7, row.verdict, styles.verdict(row.verdict))
            sheet.write_string(at, 8, row.engine_ratio)
            sheet.write_string(at, 9, row.method)
        line = first + len(rows) + 2
        for caution in result.cautions:
            sheet.write_string(line - 1, 0, f"Mind: {caution}", styles.note)
            line += 1
        line += 1


def _lengths_sheet(book: Any, styles: _Styles, results: Sequence[Result]) -> None:
    """Mean lengths, one row per variant, with a line chart under each result's rows."""
    sheet = book.add_worksheet("Lengths")
    sheet.set_column(0, 0, 16)
    line = 0
    for result in results:
        curves = [series for series in result.series if series.name == "mean_length"]
        if not curves:
            continue
        sheet.write_string(line, 0, title_of(result), styles.title)
        sheet.write_string(line + 1, 0, "mean tokens after", styles.head)
        for column, x in enumerate(curves[0].x, start=1):
            sheet.write_number(line + 1, column, x, styles.head)
        for at, series in enumerate(curves, start=line + 2):
            sheet.write_string(at, 0, series.variant)
            for column, y in enumerate(series.y, start=1):
                if y is not None:
                    sheet.write_number(at, column, y, styles.number)
        chart = _line_chart(book, line + 1, curves)
        below = line + 3 + len(curves)
        sheet.insert_chart(below, 0, chart)
        line = below + 17


def _line_chart(book: Any, head: int, curves: Sequence[Series]) -> Any:
    chart = book.add_chart({"type": "line"})
    last = len(curves[0].x)
    for at, series in enumerate(curves, start=head + 1):
        chart.add_series(
            {
                "name": ["Lengths", at, 0],
                "categories": ["Lengths", head, 1, head, last],
                "values": ["Lengths", at, 1, at, last],
                "line": {"color": _CHART_COLOURS.get(series.variant, "#009E73"), "width": 2},
            }
        )
    chart.set_title({"name": "Sequence length through the encoder", "name_font": {"size": 12}})
    chart.set_x_axis({"name": "layers passed"})
    chart.set_y_axis({"name": "mean tokens per function", "min": 0})
    chart.set_size({"width": 720, "height": 320})
    return chart


def _table_sheet(book: Any, styles: _Styles, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Rows as they are, with a frozen head and filters."""
    sheet = book.add_worksheet(name)
    if not rows:
        return
    columns = list(rows[0])
    for column, title in enumerate(columns):
        sheet.write_string(0, column, title, styles.head)
        widest = max([len(title), *[len(str(row[title] or "")) for row in rows]])
        sheet.set_column(column, column, min(widest + 2, _WIDEST))
    for line, row in enumerate(rows, start=1):
        for column, title in enumerate(columns):
            _write(sheet, line, column, row[title])
    sheet.freeze_panes(1, 0)
    sheet.autofilter(0, 0, len(rows), len(columns) - 1)


def _write(sheet: Any, line: int, column: int, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(line, column, value)
    elif isinstance(value, int | float):
        sheet.write_number(line, column, value)
    else:
        sheet.write_string(line, column, str(value))
