"""The texts of cells: taken apart into number and words, and given the word for their colour."""

from __future__ import annotations

import re
from dataclasses import replace

from alpine_cli.report.tables import Cell, Table

__all__ = ["BRACKETS", "decimals_of", "parted", "without_brackets", "worded"]

BRACKETS = "In brackets: 95 % confidence intervals."

_NUMBER = re.compile(r"[^\[\]A-Za-z]*(pts\b)?(\s?\[[^\[\]A-Za-z]*\])?")


def parted(text: str) -> tuple[str, str]:
    """The number with its unit and interval, and the words after it; either may be empty.

    "0.64 [0.62, 0.66] better" is "0.64 [0.62, 0.66]" and "better".
    """
    found = _NUMBER.match(text)
    number = found[0] if found else ""
    if not any(character.isdigit() for character in number):
        return "", text
    return number.strip(), text[len(number) :].strip()


def decimals_of(text: str) -> int:
    """How many decimals the first number of a text shows, so that a sheet shows as many."""
    found = re.search(r"\d(?:[\d,]*\d)?(?:\.(\d+))?", text)
    return len(found[1]) if found and found[1] else 0


def without_brackets(note: str) -> str:
    """A note as it stands below a table whose intervals have columns of their own."""
    told = note.replace(BRACKETS, "“95 % CI low” and “high”: the 95 % confidence interval.")
    return told.replace("in brackets its", "beside it its")


def worded(table: Table) -> Table:
    """The table with "better" or "worse" in every row that is coloured so and does not say it."""
    return replace(table, rows=[_worded_row(row) for row in table.rows])


def _worded_row(row: list[Cell]) -> list[Cell]:
    said = " ".join(cell.text for cell in row)
    return [
        replace(cell, text=f"{cell.text} {cell.style}")
        if cell.style in ("better", "worse") and cell.style not in said
        else cell
        for cell in row
    ]
