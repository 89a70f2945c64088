"""What each measure asks of its worker process, and how its answer becomes a part of the result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from alpine_cli.measure.batch_search import find_batch_sizes
from alpine_cli.measure.carbon import GridIntensity
from alpine_cli.measure.isolation import run_isolated
from alpine_cli.measure.memory_trials import measure_memory_trials
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.partial import KeptParts
from alpine_cli.measure.plan import Plan
from alpine_cli.results import Part

__all__ = ["MEASURES", "Cell"]


@dataclass(frozen=True)
class Cell:
    """What each measure needs: the plan, the grid, and a place for answers of single processes."""

    plan: Plan
    grid: GridIntensity
    kept: KeptParts


Progress = Callable[[int, int, str], None]


def _isolated(cell: Cell, kind: str, progress: Progress, **extra: Any) -> Part:
    plan = cell.plan
    request = {
        "workload": plan.request.model_dump(mode="json"),
        "pairs": plan.pairs,
        **extra,
    }
    answer = run_isolated(kind, request, threads=plan.options.threads, on_progress=progress)
    return Part.model_validate(answer)


def _accuracy(cell: Cell, progress: Progress) -> Part:
    return _isolated(cell, "accuracy", progress)


def _flops(cell: Cell, progress: Progress) -> Part:
    return _isolated(cell, "flops", progress, **cell.plan.options.flops_batch_limit.by_name())


def _memory(cell: Cell, progress: Progress) -> Part:
    if cell.plan.options.find_batch_size:
        return find_batch_sizes(cell.plan, progress, run_isolated)
    return measure_memory_trials(cell.plan, progress, cell.kept, run_isolated)


def _throughput(cell: Cell, progress: Progress) -> Part:
    options = cell.plan.options
    return _isolated(
        cell,
        "throughput",
        progress,
        **_timing(options),
        latency=options.latency,
        training=options.training_throughput,
        **options.training_batch_limit.by_name("training_"),
    )


def _anatomy(cell: Cell, progress: Progress) -> Part:
    options = cell.plan.options
    return _isolated(
        cell,
        "anatomy",
        progress,
        runs=options.runs,
        timed_samples=options.timed_samples,
        training=False,
    )


def _energy(cell: Cell, progress: Progress) -> Part:
    options = cell.plan.options
    return _isolated(
        cell,
        "energy",
        progress,
        **_timing(options),
        grid=asdict(cell.grid),
        pue=options.pue,
        training=options.training_energy,
        **options.training_batch_limit.by_name("training_"),
    )


def _timing(options: MeasureOptions) -> dict[str, Any]:
    return {
        "runs": options.runs,
        "min_seconds": options.min_seconds,
        "timed_samples": options.timed_samples,
    }


MEASURES: Mapping[str, Callable[[Cell, Progress], Part]] = {
    "accuracy": _accuracy,
    "flops": _flops,
    "memory": _memory,
    "throughput": _throughput,
    "anatomy": _anatomy,
    "energy": _energy,
}
"""By name: run it, telling how far it is, and return its part."""
