"""What a report consists of, before it takes the form of a page, a workbook or text.

Every writer (`markdown`, `html`, `excel`, LaTeX) turns the same `Document` into its form, so that
no number stands in one and not in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from alpine_cli.report.aggregate import group_seeds
from alpine_cli.report.cell_text import worded
from alpine_cli.report.correlation import flops_against_energy
from alpine_cli.report.findings import Finding, findings
from alpine_cli.report.front import front_table
from alpine_cli.report.overview import batch_size_tables, coverage_table, overview_table
from alpine_cli.report.paper_tables import paper_tables
from alpine_cli.report.pictures import Picture
from alpine_cli.report.result_tables import (
    lengths_table,
    provenance_table,
    speed_by_length_table,
    to_table,
)
from alpine_cli.report.seed_tables import seed_table
from alpine_cli.report.setting import describe_cell
from alpine_cli.report.tables import Table
from alpine_cli.results import Result

__all__ = ["Chapter", "Document", "Section", "make_document"]


@dataclass(frozen=True)
class Section:
    """All about one result."""

    result: Result
    title: str
    findings: list[Finding]
    tables: list[Table]
    provenance: Table
    pictures: list[Picture]


@dataclass(frozen=True)
class Chapter:
    """Tables and pictures that set several results side by side."""

    key: str
    title: str
    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def holds_something(self) -> bool:
        """Whether there is anything to show."""
        return bool(self.tables or self.pictures or self.remarks)


@dataclass(frozen=True)
class Document:
    """A report.

    Attributes:
        chapters: across results, the overview first; none is empty.
        sections: one per result, oldest first.
        closing: chapters that look beyond these results; none is empty.
        problems: files that were left out, and why.
        remarks: what holds for all of it, e.g. that CO2 was recomputed.
    """

    chapters: list[Chapter]
    sections: list[Section]
    closing: list[Chapter]
    problems: list[str]
    remarks: list[str]

    @property
    def tables(self) -> list[Table]:
        """Every table that is not a mere listing, in the order of the report."""
        parts: list[Chapter | Section] = [*self.chapters, *self.sections, *self.closing]
        return [table for part in parts for table in part.tables]

    @property
    def pictures(self) -> list[Picture]:
        """Every picture, in the order of the report."""
        parts: list[Chapter | Section] = [*self.chapters, *self.sections, *self.closing]
        return [picture for part in parts for picture in part.pictures]


def make_document(
    results: Sequence[Result],
    pictures: Sequence[Picture] = (),
    *,
    problems: Sequence[str] = (),
    remarks: Sequence[str] = (),
) -> Document:
    """Sort results, their tables and pictures into chapters and sections."""
    groups, told_apart = group_seeds(results)
    overview = [table for table in (overview_table(results), coverage_table(results)) if table]
    chapters = [
        Chapter(
            "overview",
            "Overview",
            overview,
            remarks=told_apart if len(results) > 1 else [],
        ),
        Chapter("seeds", "Over fine-tuning seeds", [seed_table(group) for group in groups]),
        Chapter("batch-sizes", "Across batch sizes", batch_size_tables(results)),
    ]
    closing = [
        _energy_chapter(results, pictures),
        Chapter("paper", "Beside the paper's tables", paper_tables(results)),
    ]
    return Document(
        [_worded(chapter) for chapter in chapters if chapter.holds_something],
        [_section(result, pictures) for result in results],
        [_worded(chapter) for chapter in closing if chapter.holds_something],
        list(problems),
        list(remarks),
    )


def _worded(chapter: Chapter) -> Chapter:
    return replace(chapter, tables=[worded(table) for table in chapter.tables])


def _energy_chapter(results: Sequence[Result], pictures: Sequence[Picture]) -> Chapter:
    table = flops_against_energy(results)
    return Chapter(
        "energy",
        "Do multiply-adds tell the energy?",
        [] if table is None else [table],
        [picture for picture in pictures if picture.about is None],
    )


def _section(result: Result, pictures: Sequence[Picture]) -> Section:
    # Sweeps have a variant per setting: a column each would run off every page.
    first = front_table(result) if result.kind in ("sweep", "tune") else to_table(result)
    tables = [first, lengths_table(result), speed_by_length_table(result)]
    return Section(
        result=result,
        title=describe_cell(result),
        findings=findings(result),
        tables=[worded(table) for table in tables if table is not None and table.rows],
        provenance=provenance_table(result),
        pictures=[picture for picture in pictures if picture.about == result.id],
    )
