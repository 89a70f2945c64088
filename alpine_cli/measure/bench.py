"""Run the measures of one cell in fresh processes and put their figures into one result.

    make_plan ─▶ accuracy ─▶ flops ─▶ memory ─▶ throughput ─▶ anatomy ─▶ energy ─▶ Result
                 one process each; memory: one per variant, purpose and repetition

What a measure answers is kept (`partial`) as soon as it stands, so that an interrupted bench can go
on. A measure that fails does not take the others with it: its headline figures become null with
the reason, and a caution says so. Errors of the input (a bad checkpoint, missing data) stop all.
`session` runs several cells, one after the other.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from alpine_cli.errors import MeasurementError
from alpine_cli.measure import cautions
from alpine_cli.measure.break_even import break_even, find_training_record
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.measures import MEASURES, Cell
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.partial import SITTING, KeptParts
from alpine_cli.measure.plan import Plan, make_plan
from alpine_cli.results import Better, Caution, Environment, Figure, Part, Result

__all__ = [
    "KINDS",
    "OnProgress",
    "Watcher",
    "command_line",
    "measure_cell",
    "run_bench",
    "run_measures",
]

KINDS = ("accuracy", "flops", "memory", "throughput", "anatomy", "energy")

_TIMED = {"throughput", "anatomy", "energy"}

OnProgress = Callable[[str, int, int, str], None]
"""Called with (measure, done, total, what is going on)."""

# What a table shows first of each measure: (figure, unit, good direction).
_HEADLINES: dict[str, tuple[str, str, Better]] = {
    "accuracy": ("accuracy", "1", "higher"),
    "flops": ("total_macs", "MACs", "lower"),
    "memory": ("inference_memory_run", "bytes", "lower"),
    "throughput": ("throughput", "samples/s", "higher"),
    "energy": ("energy_gross", "J", "lower"),
}


class Watcher(Protocol):
    """Is told how the measures of a cell go."""

    def progress(self, kind: str, done: int, total: int, text: str) -> None:
        """A measure has done so much of what it is doing just now."""

    def finished(self, kind: str, seconds: float, how: str) -> None:
        """A measure has ended: "measured", "kept" (by an earlier bench) or "failed"."""


class _Quiet:
    """Tells nobody, or one function."""

    def __init__(self, on_progress: OnProgress | None = None) -> None:
        self._on_progress = on_progress

    def progress(self, kind: str, done: int, total: int, text: str) -> None:
        if self._on_progress is not None:
            self._on_progress(kind, done, total, text)

    def finished(self, kind: str, seconds: float, how: str) -> None:
        pass


def run_bench(options: MeasureOptions, on_progress: OnProgress | None = None) -> Result:
    """Everything: accuracy, FLOPs, memory, throughput, the speed-up's anatomy, energy.

    Raises:
        BadInput, PruningError: nothing was measured.
        MeasurementError: not one measure could be taken.
    """
    return run_measures(options, KINDS, on_progress)


def run_measures(
    options: MeasureOptions, kinds: Sequence[str], on_progress: OnProgress | None = None
) -> Result:
    """The measures named, in that order, as one result. A single one gives its kind its name.

    Raises:
        BadInput, PruningError: nothing was measured.
        MeasurementError: not one measure could be taken.
    """
    grid_intensity(options.country, options.carbon_intensity)
    plan = make_plan(options)
    environment = describe_environment(threads=plan.options.threads, seed=options.seed)
    return measure_cell(plan, kinds, environment, watcher=_Quiet(on_progress))


def measure_cell(
    plan: Plan,
    kinds: Sequence[str],
    environment: Environment,
    *,
    kept: KeptParts | None = None,
    watcher: Watcher | None = None,
    **about: Any,
) -> Result:
    """Take up what is kept, measure the rest, and make the result.

    Args:
        plan: the cell.
        kinds: measures, in their order; those that the plan has no use for are passed over.
        environment: as described just before.
        kept: parts of an earlier, interrupted bench of this very cell; grows as measures end.
        watcher: is told how it goes.
        about: more fields of the result (`id`, `session`).

    Raises:
        BadInput, PruningError: found by a worker.
        MeasurementError: not one measure could be taken.
    """
    kept, watcher = kept or KeptParts(), watcher or _Quiet()
    options = plan.options
    cell = Cell(plan, grid_intensity(options.country, options.carbon_intensity), kept)
    parts = [Part(cautions=plan.cautions)]
    if _TIMED & set(kinds):
        parts.append(_sitting(kept, environment, options))
    wanted = [kind for kind in kinds if _applies(kind, plan)]
    failures: list[MeasurementError] = []
    for kind in wanted:
        part, error = _measure(cell, kind, watcher)
        parts.append(part)
        if error is not None:
            failures.append(error)
    if failures and len(failures) == len(wanted):
        raise failures[0]
    if _TIMED & set(kinds):
        parts.append(Part(cautions=cautions.after(environment, device=options.device)))
    part = parts[0].merged(*parts[1:])
    record = find_training_record(options.checkpoint) if "pruned" in plan.variants else None
    if record is not None:
        part = part.merged(break_even(part, record, environment=environment))
    part = part.merged(Part(cautions=cautions.of_figures(part.figures)))
    return Result(
        **dict(part),
        **about,
        command=command_line(sys.argv),
        kind="bench" if len(kinds) > 1 else kinds[0],  # type: ignore[arg-type]
        subject=plan.subject,
        variants=plan.variants,
        settings={**options.settings(), "max_length": plan.max_length},
        environment=environment,
    )


def _applies(kind: str, plan: Plan) -> bool:
    """Without a pruned variant, or where nobody wants it, there is no speed-up to take apart."""
    return kind != "anatomy" or (plan.options.anatomy and "pruned" in plan.variants)


def _sitting(kept: KeptParts, environment: Environment, options: MeasureOptions) -> Part:
    """Cautions of the machine before this sitting and before those whose parts are kept."""
    earlier = [name for name in kept.names() if name.startswith(SITTING)]
    told = [kept.get(name) or {} for name in earlier]
    parts = [Part.model_validate(sitting.get("part", {})) for sitting in told]
    now = Part(cautions=cautions.before(environment, device=options.device))
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    kept.keep(f"{SITTING}.{len(earlier)}", {"begun": stamp, "part": now.model_dump(mode="json")})
    if told:
        begun = ", ".join(str(sitting.get("begun")) for sitting in told)
        parts.append(Part(cautions=[_resumed(begun)]))
    return now.merged(*parts)


def _resumed(begun: str) -> Caution:
    return Caution(
        code="resumed",
        text=f"the bench was interrupted and resumed; earlier sittings began {begun}",
        effect="each measure was taken in one sitting, so its ratios stand; memory processes may"
        " come from several",
    )


def _measure(cell: Cell, kind: str, watcher: Watcher) -> tuple[Part, MeasurementError | None]:
    answer = cell.kept.get(kind)
    if answer is not None:
        watcher.finished(kind, float(answer["seconds"]), "kept")
        return Part.model_validate(answer["part"]), None
    began = time.monotonic()

    def progress(done: int, total: int, text: str) -> None:
        watcher.progress(kind, done, total, text)

    try:
        part = MEASURES[kind](cell, progress)
    except MeasurementError as error:
        watcher.finished(kind, time.monotonic() - began, "failed")
        return _failed(cell.plan, kind, error), error
    seconds = time.monotonic() - began
    cell.kept.keep(kind, {"part": part.model_dump(mode="json"), "seconds": seconds})
    watcher.finished(kind, seconds, "measured")
    return part, None


def _failed(plan: Plan, kind: str, error: MeasurementError) -> Part:
    """The measure's headline figure without a value, and a caution."""
    figures = []
    if kind in _HEADLINES:
        name, unit, better = _HEADLINES[kind]
        figures = [
            Figure.absent(name, variant, unit, str(error), better=better)
            for variant in plan.variants
        ]
    caution = Caution(code="not-measured", text=f"{kind} was not measured: {error}")
    return Part(figures=figures, cautions=[caution])


def command_line(argv: Sequence[str]) -> list[str]:
    """The command as typed, with absolute paths cut to their last part."""

    def shorten(word: str) -> str:
        option, equals, value = word.rpartition("=")
        return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else word

    return ["alpine", *map(shorten, argv[1:])]
