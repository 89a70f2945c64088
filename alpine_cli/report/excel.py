"""The report as a workbook: one sheet per table, native charts, the raw rows, the environment.

Written with xlsxwriter. Text is never taken for a formula or a link, whatever a file says; numbers
are numbers, with as many decimals as the other forms show, their intervals in columns beside them.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from alpine_cli.files import atomic_path
from alpine_cli.report.cell_text import decimals_of, parted, without_brackets
from alpine_cli.report.document import Document, Section
from alpine_cli.report.excel_charts import Looks, add_charts
from alpine_cli.report.session_tables import cell_labels
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.report.tidy import comparison_rows, environment_rows, figure_rows, series_rows

__all__ = ["write_workbook"]

_WIDEST = 44
_WIDEST_WORD = 80  # a name that cannot be broken is not cut below this
_LINE_POINTS = 15.0
_A3, _A4 = 8, 9
_ROWS_OF_A_PAGE = 40
_LONGEST_NAME = 31  # Excel's limit for a sheet's name
_OPTIONS = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


def write_workbook(document: Document, path: Path) -> None:
    """Write the workbook; replaces what is there (the caller has asked)."""
    import xlsxwriter

    with atomic_path(path) as temporary:
        book = xlsxwriter.Workbook(str(temporary), _OPTIONS)
        writer = _Writer(book)
        contents = book.add_worksheet("Contents")
        for chapter in document.chapters:
            for table in chapter.tables:
                writer.table_sheet(table)
        for section in document.sections:
            for table in section.tables:
                writer.table_sheet(table, section)
        for chapter in document.closing:
            for table in chapter.tables:
                writer.table_sheet(table)
        results = [section.result for section in document.sections]
        writer.rows_sheet("Figures", "Every figure of every result", figure_rows(results))
        writer.rows_sheet("Comparisons", "Every comparison", comparison_rows(results))
        writer.rows_sheet("Curves", "Every point of every curve", series_rows(results))
        writer.rows_sheet("Environment", "Machine, software, settings", environment_rows(results))
        writer.contents(contents, document)
        book.close()


class _Writer:
    """A workbook in the making: its formats, and the sheets it has so far."""

    def __init__(self, book: Any) -> None:
        self.book = book
        self.sheets: list[tuple[str, str]] = []
        self.title = book.add_format({"bold": True, "font_size": 14})
        self.note = book.add_format({"italic": True, "font_color": "#555555"})
        self.head = book.add_format(
            {"bold": True, "bottom": 1, "bg_color": "#E9EDF1", "text_wrap": True, "valign": "top"}
        )
        self.number_head = book.add_format(
            {"bold": True, "bottom": 1, "bg_color": "#E9EDF1", "text_wrap": True, "valign": "top",
             "align": "right"}
        )  # fmt: skip
        self.link = book.add_format({"font_color": "#0B5CAD", "underline": 1})
        self.good = book.add_format({"font_color": "#00664A", "bg_color": "#DEF3EA"})
        self.bad = book.add_format({"font_color": "#9A3B00", "bg_color": "#FDEBDD"})
        self._formats: dict[tuple[int | None, str], Any] = {}

    def _format(self, style: str, decimals: int | None = None) -> Any:
        """The format of a cell: number of decimals (None: text) and meaning."""
        key = (decimals, style)
        if key not in self._formats:
            look: dict[str, Any] = {"valign": "top"}
            if decimals is None:
                look |= {"text_wrap": True, "indent": 1}
            else:
                look["num_format"] = f"#,##0{'.' if decimals else ''}{'0' * decimals}"
            look |= {
                "better": {"font_color": "#00664A", "bold": True},
                "worse": {"font_color": "#9A3B00", "bold": True},
                "published": {"font_color": "#0B5CAD", "italic": True},
                "absent": {"font_color": "#59626D", "italic": True},
            }.get(style, {})
            self._formats[key] = self.book.add_format(look)
        return self._formats[key]

    def add_sheet(self, wanted: str, title: str) -> Any:
        """A sheet under a free name that Excel takes."""
        base = re.sub(r"[\[\]:*?/\\']", "-", wanted)[:_LONGEST_NAME] or "sheet"
        base = base[:1].upper() + base[1:]
        name, number = base, 2
        taken = {known.lower() for known, _ in self.sheets} | {"contents", "history"}
        while name.lower() in taken:
            name = f"{base[: _LONGEST_NAME - 3]}-{number}"
            number += 1
        self.sheets.append((name, title))
        sheet = self.book.add_worksheet(name)
        _print_on_pages(sheet)
        return sheet

    def table_sheet(self, table: Table, section: Section | None = None) -> None:
        """A table: title, head, rows, notes; below it the charts that go with it."""
        sheet = self.add_sheet(table.key, table.title)
        sheet.write_string(0, 0, table.title, self.title)
        columns = [
            _Spread(column, [row[at] for row in table.rows])
            for at, column in enumerate(table.columns)
        ]
        left = 0
        for spread in columns:
            self._column(sheet, left, spread)
            left += len(spread.titles)
        below = 3 + len(table.rows) + 1
        for note in table.notes:
            sheet.write_string(below, 0, without_brackets(note), self.note)
            below += 1
        # A head is wrapped, and Excel fits no row to it by itself.
        sheet.set_row(2, _LINE_POINTS * max(spread.lines for spread in columns) + 2)
        if len(table.rows) > _ROWS_OF_A_PAGE:
            sheet.repeat_rows(2)
        if sum(spread.width(at) for spread in columns for at in range(len(spread.titles))) > 200:
            sheet.set_paper(_A3)
        sheet.freeze_panes(3, 1)
        if len(table.rows) > 1:
            sheet.autofilter(2, 0, 2 + len(table.rows), left - 1)
        if section is not None:
            looks = Looks(self.head, self._format("", 3))
            add_charts(self.book, sheet, below + 1, table.key, section.result, looks)

    def _column(self, sheet: Any, left: int, spread: _Spread) -> None:
        for offset, title in enumerate(spread.titles):
            numbers = spread.column.numeric and offset != spread.words_at
            sheet.write_string(2, left + offset, title, self.number_head if numbers else self.head)
            sheet.set_column(left + offset, left + offset, spread.width(offset))
        for line, cell in enumerate(spread.cells, start=3):
            self._cell(sheet, line, left, cell, spread.column.numeric)
            decimals = decimals_of(cell.text)
            for offset, value in zip(spread.interval_at, (cell.low, cell.high), strict=False):
                if value is not None:
                    number = self._format("", max(2, decimals))
                    sheet.write_number(line, left + offset, value, number)
            if spread.words_at is not None:
                words = parted(cell.text)[1] if cell.value is not None else ""
                sheet.write_string(line, left + spread.words_at, words, self._format(cell.style))
        last = 2 + len(spread.cells)
        for offset in range(len(spread.titles)):
            if spread.cells and (offset == spread.words_at or not spread.column.numeric):
                for word, look in (("better", self.good), ("worse", self.bad)):
                    rule = {"type": "text", "criteria": "begins with", "value": word}
                    sheet.conditional_format(
                        3, left + offset, last, left + offset, {**rule, "format": look}
                    )

    def _cell(self, sheet: Any, line: int, at: int, cell: Cell, numeric: bool) -> None:
        if cell.value is not None and numeric:
            number = self._format(cell.style, decimals_of(cell.text))
            sheet.write_number(line, at, cell.value, number)
        elif cell.text:
            sheet.write_string(line, at, cell.text, self._format(cell.style))
        if cell.note and cell.text:
            sheet.write_comment(line, at, cell.note, {"x_scale": 2.5, "author": "alpine"})

    def rows_sheet(self, name: str, title: str, rows: Sequence[dict[str, Any]]) -> None:
        """Rows as they are in the CSV files, with a frozen head and filters."""
        sheet = self.add_sheet(name, title)
        if not rows:
            sheet.write_string(0, 0, "nothing", self.note)
            return
        columns = list(rows[0])
        for column, head in enumerate(columns):
            sheet.write_string(0, column, head, self.head)
            widest = max([len(head), *[len(str(row[head] or "")) for row in rows]])
            sheet.set_column(column, column, min(widest + 2, _WIDEST))
        for line, row in enumerate(rows, start=1):
            for column, head in enumerate(columns):
                _write(sheet, line, column, row[head])
        sheet.freeze_panes(1, 1)
        sheet.autofilter(0, 0, len(rows), len(columns) - 1)

    def contents(self, sheet: Any, document: Document) -> None:
        """The first sheet: what there is and where; what was left out; what holds for all."""
        sheet.set_column(0, 0, 34)
        sheet.set_column(1, 1, 100)
        _print_on_pages(sheet)
        sheet.write_string(0, 0, "Results of alpine", self.title)
        for line, (name, title) in enumerate(self.sheets, start=2):
            # The quotation mark is the only sign a name could break out with; it has none.
            sheet.write_url(line, 0, f"internal:'{name}'!A1", self.link, name)
            sheet.write_string(line, 1, title, self._format(""))
        line = len(self.sheets) + 3
        told = [("Note", remark) for remark in document.remarks]
        told += [("Left out", problem) for problem in document.problems]
        labels = cell_labels([section.result for section in document.sections])
        for section, label in zip(document.sections, labels, strict=True):
            mind = f"Mind, {', '.join(filter(None, (label, section.result.id)))}"
            told += [(mind, str(caution)) for caution in section.result.cautions]
        for at, (topic, text) in enumerate(told, start=line):
            sheet.write_string(at, 0, topic, self.note)
            sheet.write_string(at, 1, text, self._format(""))


class _Spread:
    """A column of a table as columns of a sheet: number, interval and words apart."""

    def __init__(self, column: Column, cells: Sequence[Cell]) -> None:
        self.column, self.cells = column, cells
        name = f"{column.title} [{column.unit}]" if column.unit else column.title
        self.titles = [name]
        self.interval_at: tuple[int, ...] = ()
        self.words_at: int | None = None
        if not column.numeric:
            return
        if any(cell.low is not None for cell in cells):
            self.interval_at = (1, 2)
            self.titles += [f"{column.title}: 95 % CI {end}" for end in ("low", "high")]
        if any(cell.value is not None and parted(cell.text)[1] for cell in cells):
            self.words_at = len(self.titles)
            self.titles.append(f"{column.title}: verdict")

    def width(self, offset: int) -> int:
        """In characters, by what the column holds; long text wraps, between words only."""
        head = max(map(len, re.split(r"[\s-]+", self.titles[offset]))) + 2
        if offset in self.interval_at:
            return max(9, head)
        if offset == self.words_at:
            return max(22, head)  # "no difference shown" on one line: no row is fitted to two
        texts = [
            cell.text if cell.value is None else parted(cell.text)[0].split(" [")[0]
            for cell in self.cells
        ]
        longest = max([len(self.titles[0]) // 2, *map(len, texts)], default=8)
        word = max((len(word) for text in texts for word in text.split()), default=0)
        wide = max(min(longest + 3, _WIDEST), min(word + 3, _WIDEST_WORD))
        return max(wide, head, 9)

    @property
    def lines(self) -> int:
        """How many lines the highest of its heads takes, with a filter's button in the corner."""
        return max(
            len(textwrap.wrap(title, max(self.width(offset) - 2, 5))) or 1
            for offset, title in enumerate(self.titles)
        )


def _print_on_pages(sheet: Any) -> None:
    """Printed: landscape, as wide as a page, as long as it takes."""
    sheet.set_paper(_A4)
    sheet.set_landscape()
    sheet.set_margins(left=0.4, right=0.4, top=0.5, bottom=0.5)
    sheet.fit_to_pages(1, 0)


def _write(sheet: Any, line: int, column: int, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        sheet.write_boolean(line, column, value)
    elif isinstance(value, int | float):
        sheet.write_number(line, column, value)
    else:
        sheet.write_string(line, column, str(value))
