"""A session: cells measured one after the other, a result file each, resumable at any instant.

    plan all ─▶ for each cell: parts (`partial`) ─▶ result file ─▶ … ─▶ parts removed
       │                            │
       nothing is measured          a bench that is interrupted loses no more than
       while any input is wrong     the measure, or memory process, under way

All cells are planned before the first is measured, so that a typing error in the last one does not
come to light at night. Results of a session with several cells carry the same `session`.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alpine_cli.errors import BadInput, ConfigError, MeasurementError, OutputExistsError
from alpine_cli.files import refuse_existing
from alpine_cli.measure.bench import KINDS, Watcher, measure_cell
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.partial import CellParts, Key, key_of, refuse_other_conditions
from alpine_cli.measure.plan import Plan, make_plan
from alpine_cli.pruning.errors import PruningError
from alpine_cli.result_files import read_result, write_result
from alpine_cli.results import Result, Subject

__all__ = ["Measured", "SessionWatcher", "check_output", "plan_cells", "run_session"]


@dataclass(frozen=True)
class Measured:
    """One cell's result and its file."""

    result: Result
    path: Path


class SessionWatcher(Protocol):
    """Is told how a session goes."""

    def planned(
        self,
        plans: Sequence[Plan],
        kinds: Sequence[str],
        kept: Sequence[Sequence[str]] | None,
    ) -> None:
        """All input is right; this will be measured.

        `kept`: of each cell the names of answers that are taken up; None where nobody asked for it.
        """

    def cell(self, number: int) -> Watcher:
        """The watcher of a cell that begins now."""

    def written(self, number: int, measured: Measured) -> None:
        """A cell has its result file."""

    def failed(self, number: int, error: MeasurementError) -> None:
        """Not one measure of a cell could be taken; the others go on."""


def run_session(
    cells: Sequence[MeasureOptions],
    output: Path,
    watcher: SessionWatcher,
    *,
    kinds: Sequence[str] = KINDS,
    resume: bool | None = None,
) -> list[Measured]:
    """Plan all cells, then measure each and write its result file.

    Args:
        cells: at least one.
        output: directory of result files; made when the first thing is written.
        watcher: is told how it goes.
        kinds: which measures.
        resume: True takes up parts of an earlier bench of these cells, and measures from the start
            what has none; False removes them; None refuses to go on where there are any.

    Returns:
        The results in the order of the cells, without those of which nothing could be measured.

    Raises:
        BadInput, PruningError: nothing was measured.
        OutputExistsError: `output` cannot be a directory of results, or `resume` is None and parts
            of these cells are there.
        MeasurementError: not one measure could be taken in any cell.
    """
    check_output(output)
    plans = plan_cells(cells)
    session = secrets.token_hex(4) if len(plans) > 1 else None
    conditions = describe_environment()
    kept = [_parts(output, key_of(plan, kinds, conditions), session, resume) for plan in plans]
    # A session that is taken up again stays the session it was.
    begun = (parts.session for parts in kept if parts.begun())
    session = next((earlier for earlier in begun if earlier is not None), session)
    watcher.planned(plans, kinds, [parts.answers() for parts in kept] if resume else None)
    measured: list[Measured] = []
    failures: list[MeasurementError] = []
    for number, (plan, parts) in enumerate(zip(plans, kept, strict=True)):
        parts.session = session
        try:
            found = _measure(plan, kinds, output, parts, watcher.cell(number))
        except MeasurementError as error:
            failures.append(error)
            watcher.failed(number, error)
            continue
        measured.append(found)
        watcher.written(number, found)
    # Only now: until here the parts tell a resumed session which cells have been written.
    for parts in kept:
        parts.discard()
    if failures and not measured:
        raise failures[0]
    return measured


def _measure(
    plan: Plan, kinds: Sequence[str], output: Path, parts: CellParts, watcher: Watcher
) -> Measured:
    """Measure a cell and write its result; an earlier bench may have done so already."""
    path = _result_file(output, parts.result_id)
    if path is not None:
        return Measured(read_result(path), path)
    parts.begin()
    options = plan.options
    environment = describe_environment(threads=options.threads, seed=options.seed)
    result = measure_cell(
        plan,
        kinds,
        environment,
        kept=parts,
        watcher=watcher,
        id=parts.result_id,
        session=parts.session,
    )
    return Measured(result, write_result(result, output))


def plan_cells(cells: Sequence[MeasureOptions]) -> list[Plan]:
    """Check the input of all cells.

    Raises:
        BadInput: one line for each thing that is wrong; where it is one thing only, its own class.
        ConfigError: two checkpoints hold the same bytes.
    """
    subjects: dict[str, Subject] = {}
    plans: list[Plan] = []
    problems: dict[str, BadInput | PruningError] = {}
    for options in cells:
        try:
            grid_intensity(options.country, options.carbon_intensity)
            plans.append(make_plan(options, subjects))
        except (BadInput, PruningError) as error:
            text = str(error)
            if len(cells) > 1 and str(options.checkpoint) not in text:
                text = f"{options.checkpoint}: {text}"
            problems.setdefault(text, error)
    if problems:
        first = next(iter(problems.values()))
        kind = type(first) if len({type(error) for error in problems.values()}) == 1 else BadInput
        raise kind("\n".join(problems)) from first
    _refuse_copies(plans)
    return plans


def _refuse_copies(plans: Sequence[Plan]) -> None:
    """Two names for the same weights would be taken for two seeds.

    Raises:
        ConfigError: names both.
    """
    seen: dict[str, Path] = {}
    for plan in plans:
        name = "pruned" if "pruned" in plan.variants else "unpruned"
        digest, path = plan.variants[name].checkpoint_sha256, plan.options.checkpoint
        other = seen.setdefault(digest, path)
        if other != path:
            raise ConfigError(
                f"--checkpoint: {path} and {other} hold the same bytes and would count as two"
                " repeats; give each checkpoint once"
            )


def check_output(output: Path) -> None:
    """Find out before hours of measuring whether results can be written, not after.

    Raises:
        OutputExistsError: `output` or a folder above it is a file.
        OutputError: it cannot be written to.
    """
    if output.exists() and not output.is_dir():
        raise OutputExistsError(
            f"{output}: is a file; --output names the directory of result files"
        )
    refuse_existing(output, force=True)


def _parts(output: Path, key: Key, session: str | None, resume: bool | None) -> CellParts:
    """The parts of a cell: those of an earlier bench, or a place for new ones.

    Raises:
        ConfigError: `resume`, and its parts were measured under other conditions.
        OutputExistsError: `resume` is None, and there are parts.
    """
    parts = CellParts(output, key, session)
    if resume is True and not parts.begun():
        refuse_other_conditions(output, key)
    elif resume is False or not (parts.answers() or _result_file(output, parts.result_id)):
        parts.discard()
        parts = CellParts(output, key, session)
    elif resume is None:
        raise OutputExistsError(
            f"{parts.folder}: holds {len(parts.answers())} answers of this very bench, which was"
            " interrupted. --resume goes on from them, --no-resume throws them away"
        )
    return parts


def _result_file(output: Path, result_id: str) -> Path | None:
    """The result file of that id, if it has been written."""
    return next(iter(sorted(output.glob(f"*-{result_id}.json"))), None)
