"""Run measures of a plan in fresh processes and put their figures into one result.

    make_plan ─▶ accuracy ─▶ flops ─▶ memory ─▶ throughput ─▶ energy ─▶ Result
                 one process each; memory: one per variant, purpose and repetition

A measure that fails does not take the others with it: its headline figures become null with the
reason, and a caution says so. Errors of the input (a bad checkpoint, missing data) do stop all.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.environment import describe_environment, gpu_throttling
from alpine_cli.measure.isolation import run_isolated
from alpine_cli.measure.memory import ALLOCATOR, MEMORY_FIGURES
from alpine_cli.measure.plan import MeasureOptions, Plan, make_plan
from alpine_cli.measure.statistics import aggregate, compare_all, spread
from alpine_cli.results import Better, Caution, Environment, Figure, Part, Result

__all__ = ["KINDS", "OnProgress", "run_bench", "run_measures"]

KINDS = ("accuracy", "flops", "memory", "throughput", "energy")

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
_BUSY_SHARE = 0.15  # of the CPU time, before anything of ours runs


def run_bench(options: MeasureOptions, on_progress: OnProgress | None = None) -> Result:
    """Everything: accuracy, FLOPs, memory, throughput, energy.

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
    grid = grid_intensity(options.country, options.carbon_intensity)
    plan = make_plan(options)
    environment = describe_environment(threads=plan.options.threads, seed=options.seed)
    busy = _busy(environment) if {"throughput", "energy"} & set(kinds) else []
    parts = [Part(cautions=[*plan.cautions, *busy])]
    failures: list[MeasurementError] = []
    for kind in kinds:
        progress = _for_measure(kind, on_progress)
        try:
            parts.append(_MEASURES[kind](plan, progress, asdict(grid)))
        except MeasurementError as error:
            failures.append(error)
            parts.append(_failed(plan, kind, error))
    if len(failures) == len(kinds):
        raise failures[0]
    parts.append(Part(cautions=_throttled()))
    part = parts[0].merged(*parts[1:])
    return Result(
        **dict(part),
        command=_command_line(sys.argv),
        kind="bench" if len(kinds) > 1 else kinds[0],  # type: ignore[arg-type]
        subject=plan.subject,
        variants=plan.variants,
        settings=plan.options.settings(),
        environment=environment,
    )


Progress = Callable[[int, int, str], None]


def _for_measure(kind: str, on_progress: OnProgress | None) -> Progress:
    def report(done: int, total: int, text: str) -> None:
        if on_progress is not None:
            on_progress(kind, done, total, text)

    return report


def _isolated(plan: Plan, kind: str, progress: Progress, **extra: Any) -> Part:
    request = {
        "workload": plan.request.model_dump(mode="json"),
        "pairs": plan.pairs,
        **extra,
    }
    answer = run_isolated(kind, request, threads=plan.options.threads, on_progress=progress)
    return Part.model_validate(answer)


def _accuracy(plan: Plan, progress: Progress, grid: Mapping[str, Any]) -> Part:
    return _isolated(plan, "accuracy", progress)


def _flops(plan: Plan, progress: Progress, grid: Mapping[str, Any]) -> Part:
    return _isolated(plan, "flops", progress, batch_size=plan.options.flops_batch_size)


def _throughput(plan: Plan, progress: Progress, grid: Mapping[str, Any]) -> Part:
    options = plan.options
    return _isolated(
        plan,
        "throughput",
        progress,
        runs=options.runs,
        min_seconds=options.min_seconds,
        timed_samples=options.timed_samples,
        latency=options.latency,
    )


def _energy(plan: Plan, progress: Progress, grid: Mapping[str, Any]) -> Part:
    options = plan.options
    return _isolated(
        plan,
        "energy",
        progress,
        runs=options.runs,
        min_seconds=options.min_seconds,
        timed_samples=options.timed_samples,
        grid=dict(grid),
        pue=options.pue,
    )


def _memory(plan: Plan, progress: Progress, grid: Mapping[str, Any]) -> Part:
    """One process per variant, purpose and repetition, in random order."""
    options = plan.options
    purposes = ["inference"]
    if options.training_memory:
        purposes.append("training")
    runs = [
        (name, purpose, repetition)
        for repetition in range(options.memory_runs)
        for purpose in purposes
        for name in plan.variants
        # The reference engine exists to be compared with, not to be trained.
        if not (purpose == "training" and name == "reference")
    ]
    random.Random(options.seed).shuffle(runs)
    answers: dict[tuple[str, str], dict[int, Mapping[str, Any]]] = {}
    lost: dict[tuple[str, str], str] = {}
    for done, (name, purpose, repetition) in enumerate(runs):
        progress(done, len(runs), f"{purpose} of {name}")
        if (purpose, name) in lost:
            continue
        workload = plan.request.only(name)
        if purpose == "training":
            workload = workload.model_copy(update={"batch_size": options.training_batch_size})
        request = {"workload": workload.model_dump(mode="json"), "purpose": purpose}
        try:
            answer = run_isolated("memory", request, threads=options.threads, environment=ALLOCATOR)
        except MeasurementError as error:  # most likely out of memory: the others may still fit
            lost[purpose, name] = str(error)
            continue
        answers.setdefault((purpose, name), {})[repetition] = answer
    if not answers and lost:
        raise MeasurementError(next(iter(lost.values())))
    figures = []
    sizes = {"inference": options.batch_size, "training": options.training_batch_size}
    for purpose, name in ((purpose, name) for purpose in purposes for name in plan.variants):
        key = (purpose, name)
        if key in lost:
            figures.append(_absent(f"{purpose}_memory_run", "bytes", "lower", name, lost[key]))
        else:
            kept = [answer for _, answer in sorted(answers.get(key, {}).items())]
            figures += memory_figures(purpose, name, kept, sizes[purpose])
    cautions = [
        Caution(code="not-measured", text=f"{purpose} memory of {name} was not measured: {why}")
        for (purpose, name), why in lost.items()
    ]
    comparisons = compare_all(figures, plan.pairs)
    return Part(figures=figures, comparisons=comparisons, cautions=cautions)


def memory_figures(
    purpose: str, variant: str, answers: Sequence[Mapping[str, Any]], batch_size: int
) -> list[Figure]:
    """Peaks of repeated workers as figures: the median over the processes."""
    if not answers:
        return []
    work = {
        "inference": f"inference on the longest batches of {batch_size}",
        "training": f"forward, backward and AdamW, fp32, on the longest batch of {batch_size}",
    }[purpose]
    note = "" if all(a["peak_was_reset"] for a in answers) else "; peak since process start"
    if not any(name.startswith("cuda") for name in answers[0]["bytes"]):
        note += "; freed blocks returned at once (MALLOC_MMAP_THRESHOLD_ pinned)"
    figures = []
    for name in answers[0]["bytes"]:
        values = [float(answer["bytes"][name]) for answer in answers]
        figures.append(
            Figure(
                name=f"{purpose}_memory_{name}",
                variant=variant,
                unit="bytes",
                value=float(aggregate(values, "median")),
                provenance="measured",
                method=f"{MEMORY_FIGURES[name]}; {work}; median of fresh processes{note}",
                better="lower",
                n=len(values),
                aggregate="median",
                spread=spread(values),
                samples=values,
            )
        )
    return figures


_MEASURES: dict[str, Callable[[Plan, Progress, Mapping[str, Any]], Part]] = {
    "accuracy": _accuracy,
    "flops": _flops,
    "memory": _memory,
    "throughput": _throughput,
    "energy": _energy,
}


def _failed(plan: Plan, kind: str, error: MeasurementError) -> Part:
    name, unit, better = _HEADLINES[kind]
    reason = str(error)
    figures = [_absent(name, unit, better, variant, reason) for variant in plan.variants]
    caution = Caution(code="not-measured", text=f"{kind} was not measured: {reason}")
    return Part(figures=figures, cautions=[caution])


def _absent(name: str, unit: str, better: Better, variant: str, reason: str) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=None,
        reason=reason,
        provenance="absent",
        method="not taken",
        better=better,
    )


def _busy(environment: Environment) -> list[Caution]:
    busy = environment.busy_share
    if busy is None or busy < _BUSY_SHARE:
        return []
    return [
        Caution(
            code="busy-machine",
            text="the machine was busy before measuring"
            f" ({busy:.0%} of {environment.logical_cores} cores in use)",
            effect="times spread more and intervals widen",
            remedy="Measure on an idle machine to cite them",
        )
    ]


def _throttled() -> list[Caution]:
    reasons = gpu_throttling()
    if not reasons:
        return []
    return [
        Caution(
            code="gpu-throttled",
            text=f"the GPU ran below its clocks at the end ({', '.join(reasons)})",
            effect="throughput is lower than it would be cool",
            remedy="Wait, or lower the power limit for all variants alike",
        )
    ]


def _command_line(argv: Sequence[str]) -> list[str]:
    """The command as typed, with absolute paths cut to their last part."""

    def shorten(word: str) -> str:
        option, equals, value = word.rpartition("=")
        return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else word

    return ["alpine", *map(shorten, argv[1:])]
