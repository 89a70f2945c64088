"""`alpine compare`: a candidate's results against a baseline's, as a gate for CI."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alpine_cli.cli._common import JsonOption, console, error_console, print_json
from alpine_cli.errors import DataError

if TYPE_CHECKING:
    from alpine_cli.compare.judge import Change, Outcome

__all__ = ["compare"]


def compare(
    baseline: Annotated[Path, typer.Argument(metavar="A", help="Baseline: result file or folder.")],
    candidate: Annotated[
        Path, typer.Argument(metavar="B", help="Candidate: result file or folder.")
    ],
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            "--fail-if",
            metavar="EXPR",
            help="Exit with 1 if this change from A to B is shown: FIGURE[.VARIANT] < or > NUMBER"
            " [% or pts]. Several: repeat it or join them by commas.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict", help="Judge the values themselves, not the intervals: noise can fail it."
        ),
    ] = False,
    allow_other_machine: Annotated[
        bool,
        typer.Option(
            "--allow-other-machine",
            help="Compare time, memory and energy although machine, device or threads differ.",
        ),
    ] = False,
    all_: Annotated[
        bool, typer.Option("--all", help="Show every figure, not the headline ones only.")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Set the results of B against those of A, and close a gate where B is worse.

    A condition holds where the change is shown: its whole 95 % confidence
    interval lies beyond the bound (for exact counts: the value does).
    Without a variant it speaks of `pruned`, or of every variant where
    there is none of that name.

        alpine compare main/results results --fail-if 'throughput<-5%, accuracy<-0.5pts'

        alpine compare old.json new.json --fail-if 'total_macs>0' --fail-if 'latency.unpruned>+3%'

    Exit code 0: no condition holds; 1: one does; 2: an expression or a
    file is bad, A and B are the same results, or a condition cannot be
    judged (say, too few runs).
    """
    from alpine_cli.compare.expression import parse_conditions
    from alpine_cli.compare.judge import changes_of, evaluate
    from alpine_cli.compare.match import match, read_side, refuse_same

    conditions = [found for text in fail_if or [] for found in parse_conditions(text)]
    results_a, problems = read_side(baseline)
    results_b, more = read_side(candidate)
    for problem in problems + more:
        error_console().print(f"left out: {problem}", style="yellow", markup=False, soft_wrap=True)
    refuse_same(results_a, results_b)
    matches = match(results_a, results_b, allow_other_machine=allow_other_machine)
    changes = changes_of(matches.pairs)
    outcomes = [
        outcome
        for condition in conditions
        for outcome in evaluate(condition, changes, matches, strict=strict)
    ]
    notes = [*matches.notes, *_refusals(matches.refused)]
    if json_:
        print_json(_as_json(changes, outcomes, notes))
    else:
        named = {condition.figure for condition in conditions}
        _print(changes, outcomes, notes, None if all_ else named)
    unclear = [outcome for outcome in outcomes if outcome.holds is None]
    if unclear:
        raise DataError("\n".join(_unclear(outcome, changes) for outcome in unclear))
    if any(outcome.holds for outcome in outcomes):
        raise typer.Exit(1)


def _refusals(refused: dict[tuple[str, str], str]) -> list[str]:
    """One sentence per reason."""
    by_reason: dict[str, list[str]] = {}
    for (figure, variant), why in refused.items():
        by_reason.setdefault(why, []).append(f"{figure}.{variant}")
    return [
        f"not compared, {why}: {', '.join(names[:4])}"
        + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        + (" (--allow-other-machine compares them)" if "machine" in why else "")
        for why, names in by_reason.items()
    ]


def _unclear(outcome: Outcome, changes: list[Change]) -> str:
    return (
        f"--fail-if {outcome.condition.text!r}: {_change_text(outcome, changes)} is beyond the"
        f" bound, but cannot be shown or ruled out ({outcome.why}). Measure with more --runs, or"
        " judge the values with --strict"
    )


def _change_text(outcome: Outcome, changes: list[Change]) -> str:
    from alpine_cli.compare.table import cell_name

    unit = outcome.condition.unit or outcome.change.pair.candidate.figure.unit
    space = "" if unit == "%" else " "
    name = f"{outcome.change.pair.figure} of {outcome.change.pair.variant}"
    cell = cell_name(outcome.change, changes)
    if cell:
        name += f" ({cell})"
    text = f"{name} changed by {outcome.value:+.3g}{space}{unit}"
    if outcome.low is None:
        return text
    return f"{text} (95 % CI {outcome.low:+.3g} to {outcome.high:+.3g})"


def _print(
    changes: list[Change], outcomes: list[Outcome], notes: list[str], figures: set[str] | None
) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    from alpine_cli.compare.table import change_tables

    out = console()
    said: set[str] = set()
    for table in change_tables(changes, figures=figures):
        shown = RichTable(
            title=table.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
        )
        for column in table.columns[:-1]:
            shown.add_column(
                column.title, justify="right" if column.numeric else "left", no_wrap=True
            )
        shown.add_column(table.columns[-1].title, style="dim")
        styles = {"better": "green", "worse": "red", "absent": "dim"}
        label = ""
        for row in table.rows:
            cells = [Text(cell.text, style=styles.get(cell.style, "")) for cell in row]
            if row[0].text == label:
                cells[0] = Text("")
            label = row[0].text
            shown.add_row(*cells)
        out.print(shown)
        for note in table.notes:
            if note not in said:
                out.print(note, style="dim", markup=False, highlight=False)
            said.add(note)
    for note in notes:
        error_console().print(f"mind: {note}", style="yellow", markup=False, highlight=False)
    for outcome in outcomes:
        word = {True: "FAILS", False: "passes", None: "unclear"}[outcome.holds]
        style = {True: "bold red", False: "green", None: "yellow"}[outcome.holds]
        out.print(word, style=style, end="  ")
        text = f"{outcome.condition.text}: {_change_text(outcome, changes)}; {outcome.why}"
        out.print(text, markup=False, highlight=False, soft_wrap=True)


def _as_json(changes: list[Change], outcomes: list[Outcome], notes: list[str]) -> dict[str, Any]:
    return {
        "fails": any(outcome.holds for outcome in outcomes),
        "changes": [
            {
                "figure": change.pair.figure,
                "variant": change.pair.variant,
                "unit": change.pair.candidate.figure.unit,
                "a": {
                    "value": change.pair.baseline.figure.value,
                    "result": change.pair.baseline.result.id,
                },
                "b": {
                    "value": change.pair.candidate.figure.value,
                    "result": change.pair.candidate.result.id,
                },
                **change.found.model_dump(mode="json", exclude={"figure", "variant", "baseline"}),
                "notes": list(change.pair.notes),
            }
            for change in changes
        ],
        "conditions": [
            {
                **asdict(outcome.condition),
                "on_variant": outcome.change.pair.variant,
                "on_result": outcome.change.pair.candidate.result.id,
                "value": outcome.value,
                "low": outcome.low,
                "high": outcome.high,
                "holds": outcome.holds,
                "why": outcome.why,
            }
            for outcome in outcomes
        ],
        "notes": notes,
    }
