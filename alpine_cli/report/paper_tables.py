"""The ALPINE paper's tables A to G with our figures beside the published ones.

From result files and the published tables alone. Tables for which there is nothing of ours are
only named, in the overview that comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from alpine_cli.report.paper_lengths import length_table
from alpine_cli.report.paper_memory import memory_table
from alpine_cli.report.paper_merge import merge_table
from alpine_cli.report.paper_runs import Run, runs_of
from alpine_cli.report.paper_scores import main_table
from alpine_cli.report.paper_training import co2_table, training_time_table
from alpine_cli.report.published import TAGS, load_claims, load_table
from alpine_cli.report.published.derived import claim_value
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Result

__all__ = ["paper_tables"]

_MAKERS: dict[str, Callable[[Sequence[Run]], Table | None]] = {
    "A": lambda runs: main_table("A", runs),
    "B": lambda runs: main_table("B", runs),
    "C": memory_table,
    "D": training_time_table,
    "E": co2_table,
    "F": merge_table,
    "G": length_table,
}


def paper_tables(results: Sequence[Result]) -> list[Table]:
    """The overview, each table with figures of ours, and what the paper says against its tables.

    A published cell without a figure of ours says "not measured"; a figure of ours without a
    published cell says "not published". What keeps two figures beside each other from being
    compared is said in numbered notes that their row refers to.

    Args:
        results: of any kind and number; none at all gives no table.
    """
    if not results:
        return []
    runs = runs_of(results)
    made = {letter: make(runs) for letter, make in _MAKERS.items()}
    tables = [table for table in made.values() if table is not None]
    claims = [_claims()] if any(run.in_paper for run in runs) else []
    return [_overview(made), *tables, *claims]


def _overview(made: dict[str, Table | None]) -> Table:
    """One line per table of the paper: what it is, where from, and how much of it is ours too."""
    rows = []
    for letter, table in made.items():
        published = load_table(letter)
        state = "nothing measured: not shown"
        if table is not None:
            both = sum(map(_has_both, table.rows)) if letter != "G" else _curves_of_ours(table)
            total = sum(any(cell.style == "published" for cell in row) for row in table.rows)
            state = f"{both} of {total} published rows have figures of ours"
        rows.append(
            [
                Cell(letter),
                Cell(published.title),
                Cell(f"{TAGS[published.tag]} ({published.source})"),
                Cell(state),
            ]
        )
    return Table(
        key="paper-tables",
        title="The ALPINE paper's tables",
        columns=[Column(t, numeric=False) for t in ("table", "what", "source", "ours")],
        rows=rows,
        notes=[
            "Mootez Saad, José Antonio Hernández López, Boqi Chen, Dániel Varró, Tushar Sharma: An"
            " Adaptive Language-Agnostic Pruning Method for Greener Language Models for Code,"
            " FSE 2025. Figures from its replication package,"
            " SMART-Dal/FSE25-Alpine-Replication-Package.",
        ],
    )


def _has_both(row: Sequence[Cell]) -> bool:
    """Whether a published row holds a number of ours."""
    published = any(cell.style == "published" for cell in row)
    return published and any(cell.value is not None and cell.style == "" for cell in row)


def _curves_of_ours(table: Table) -> int:
    """Table G has ours below the published row, not beside it."""
    return sum(row[-1].text == "ours below" for row in table.rows)


def _claims() -> Table:
    """What paper and package state outside the tables, beside what the tables give."""
    rows = []
    for claim in load_claims():
        value = claim_value(claim)
        rows.append(
            [
                Cell(claim.says),
                Cell(claim.where),
                Cell(f"{claim.published:g}", claim.published, style="published"),
                Cell(f"{value:,.4g}", value),
                Cell(claim.unit),
                Cell("holds" if claim.holds else "does not agree"),
                Cell(claim.remark),
            ]
        )
    return Table(
        key="paper-claims",
        title="What the paper says, and what its own tables give",
        columns=[
            Column("statement", numeric=False),
            Column("where", numeric=False),
            Column("printed"),
            Column("from the tables"),
            Column("unit", numeric=False),
            Column("verdict", numeric=False),
            Column("remark", numeric=False),
        ],
        rows=rows,
        notes=["Computed from the published tables alone; no figure of ours is in it."],
    )
