"""What a table is before it becomes Markdown, HTML, LaTeX or a sheet.

Makers (`summary`, `aggregate`, `paper_tables` …) build `Table`s; writers turn any `Table` into
their form. A cell keeps both the text that people read and, where there is one, the number behind
it, so that a sheet can calculate and a page can sort.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Cell", "Column", "Style", "Table"]

Style = Literal["", "better", "worse", "published", "absent"]


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        text: what people read, unit left out where the column names it; "" is an empty cell.
        value: the number behind the text, in the unit of the column; None for words.
        low, high: the confidence interval of `value`.
        note: a remark on this cell alone (why it is absent, a known misprint).
        style: its meaning, for colour; never the only carrier of that meaning.
    """

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    note: str | None = None
    style: Style = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, the unit of its numbers, and whether it holds numbers."""

    title: str
    unit: str = ""
    numeric: bool = True


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        key: short file name, e.g. "table-a" or "summary-0badcafe".
        title: a line above it.
        columns: at least one.
        rows: as many cells each as there are columns.
        notes: sentences below it.
    """

    key: str
    title: str
    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise ValueError(
                    f"table {self.key}: row {number} has {len(row)} cells,"
                    f" {len(self.columns)} columns"
                )
