"""Energy per sample and the CO2 it stands for, of every variant in turn: inference and training.

A block is as many passes over the timed samples as fill a window that the meters can resolve;
variants take turns (see `blocks`). Each component (gpu, cpu, ram) is measured, modelled or absent;
the total says which parts it sums. Idle power is taken while nothing runs, before the first block,
and subtracted only where it was measured: a model's idle share is no fact about the machine.

Training steps are those of `training_step`, at the batch size of training; they come last.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from alpine_cli.measure import cautions
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.carbon import GridIntensity
from alpine_cli.measure.energy_figures import (
    EnergyBlock,
    absent_training_figures,
    energy_figures,
    training_energy_figures,
)
from alpine_cli.measure.meters import Meters, gpu_uuid_of, open_meters
from alpine_cli.measure.statistics import compare_all
from alpine_cli.measure.timing import timed_pass
from alpine_cli.measure.training_step import (
    TrainingRun,
    half_budget,
    is_out_of_memory,
    lacks_memory,
    release,
    trained_in,
    training_batches,
    training_variants,
)
from alpine_cli.measure.watch import watch_machine
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Batch, Workload, WorkloadRequest, load_workload
from alpine_cli.results import Caution, Figure, Part
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["Pass", "energy_of_passes", "measure_energy"]

_IDLE_SECONDS = 5.0

Pass = Callable[[Sequence[Batch]], Any]
"""Runs batches once and returns what has `seconds`."""


def measure_energy(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data.

    Args:
        request: "workload", "pairs", "runs", "min_seconds", "timed_samples"; "grid" (fields of
            `GridIntensity`) and "pue"; "training" (bool) and "training_batch_size" or
            "training_tokens_per_batch".
    """
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    passes: dict[str, Pass] = {
        name: lambda batches, variant=variant: timed_pass(variant, batches)  # type: ignore[misc]
        for name, variant in workload.variants.items()
    }
    batches = workload.timed_batches(request["timed_samples"])
    with _metered(workload.device) as metered:
        figures = _inference(passes, batches, metered, request, workload.request.seed)
        part = _compared(figures, workload, request)
        if request.get("training"):
            part = part.merged(_training(workload, metered.meters, metered.idle_watts, request))
    return part.merged(Part(cautions=metered.cautions)).model_dump(mode="json")


def energy_of_passes(
    passes: Mapping[str, Pass],
    batches: Mapping[str, Sequence[Batch]],
    how: Mapping[str, Any],
    *,
    device: torch.device,
    seed: int,
) -> Part:
    """Energy per sample of inference of several passes in turns, each against the first.

    Args:
        passes: what runs batches, by name; the baseline first.
        batches: of each.
        how: "runs", "min_seconds", "grid", "pue", as for `measure_energy`.
        device: whose GPU is metered, if it is one.
        seed: of the order and of the intervals.
    """
    with _metered(device) as metered:
        figures = _inference(passes, batches, metered, how, seed)
    baseline, *others = passes
    comparisons = compare_all(figures, [(name, baseline) for name in others], seed=seed)
    return Part(figures=figures, comparisons=comparisons, cautions=metered.cautions)


@dataclass
class _Metered:
    """Open meters, idle power, and, once they are closed, what is to be told of them."""

    meters: Meters
    idle_watts: Mapping[str, float]
    cautions: list[Caution] = field(default_factory=list)


@contextmanager
def _metered(device: torch.device) -> Iterator[_Metered]:
    """Meters of the machine and of the GPU in use, with idle power taken first."""
    uuids = []
    if device.type == "cuda":
        index = device.index
        uuids.append(gpu_uuid_of(torch.cuda.current_device() if index is None else index))
    meters = open_meters(uuids)
    try:
        report_progress(0, 1000, "idle power")
        metered = _Metered(meters, _idle_watts(meters))
        with watch_machine(uuids[0] if uuids else None) as watch:
            yield metered
    finally:
        meters.close()
    seen = cautions.of_watch(watch.seen(), "measuring energy")
    metered.cautions = [*meters.cautions(), *seen]


def _inference(
    passes: Mapping[str, Pass],
    batches: Mapping[str, Sequence[Batch]],
    metered: _Metered,
    how: Mapping[str, Any],
    seed: int,
) -> list[Figure]:
    meters = metered.meters
    budget = how["runs"], how["min_seconds"]
    if not _senses(meters):  # energy is then a model of the time, which `throughput` measures
        budget = half_budget(*budget)
    blocks = _blocks(passes, batches, meters, budget, seed, "inference")
    grid = GridIntensity(**how["grid"])
    figures: list[Figure] = []
    for name in passes:
        figures += energy_figures(
            name, blocks[name], meters.sources, meters.absent, metered.idle_watts, grid, how["pue"]
        )
    return figures


def _training(
    workload: Workload, meters: Meters, idle_watts: Mapping[str, float], request: Mapping[str, Any]
) -> Part:
    """Memory that does not suffice makes the figures absent and loses nothing else."""
    variants, limit = training_variants(workload), BatchLimit.named(request, "training_")
    grid = GridIntensity(**request["grid"])
    reason = lacks_memory(variants)
    passes: dict[str, Pass] = {}
    try:
        if reason is None:
            batches = training_batches(workload, limit, request["timed_samples"])
            passes = {name: TrainingRun(variant).run for name, variant in variants.items()}
            budget = half_budget(request["runs"], request["min_seconds"])
            blocks = _blocks(passes, batches, meters, budget, workload.request.seed, "training")
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        reason = f"memory ran out at {limit.words}: smaller ones may fit"
    finally:
        passes.clear()
        release(variants)
    if reason is not None:
        figures = [f for name in variants for f in absent_training_figures(name, reason, grid)]
        text = f"energy of training steps was not measured: {reason}"
        return Part(figures=figures, cautions=[Caution(code="not-measured", text=text)])
    precision = trained_in(workload.request.precision)
    how = (
        f"training steps (forward, backward, AdamW with learning rate 0), {precision},"
        f" in batches of {limit}"
    )
    figures = []
    for name in variants:
        figures += training_energy_figures(
            name, blocks[name], meters.sources, idle_watts, grid, request["pue"], how=how
        )
    return _compared(figures, workload, request)


def _compared(figures: list[Figure], workload: Workload, request: Mapping[str, Any]) -> Part:
    comparisons = compare_all(figures, request["pairs"], seed=workload.request.seed)
    return Part(figures=figures, comparisons=comparisons)


def _blocks(
    passes: Mapping[str, Pass],
    batches: Mapping[str, Sequence[Batch]],
    meters: Meters,
    budget: tuple[int, float],
    seed: int,
    what: str,
) -> dict[str, list[EnergyBlock]]:
    """Interleaved windows of every variant, each long enough for the meters.

    Args:
        budget: windows of each variant, and their seconds, at least.
    """
    runs, min_seconds = budget
    repeats = {}
    for name, run in passes.items():
        report_progress(0, 1000, f"{what}: warm-up of {name}")
        run(batches[name])
        seconds = run(batches[name]).seconds
        repeats[name] = max(1, math.ceil(meters.window_s / max(seconds, 1e-6)))
    return run_blocks(
        list(passes),
        lambda name: _window(passes[name], batches[name], repeats[name], meters),
        runs=runs,
        min_seconds=min_seconds,
        seed=seed,
        on_progress=lambda done, total, text: report_progress(done, total, f"{what}, {text}"),
    )


def _window(run: Pass, batches: Sequence[Batch], repeats: int, meters: Meters) -> EnergyBlock:
    samples = repeats * sum(len(batch.indices) for batch in batches)
    meters.start()
    began = time.perf_counter()
    for _ in range(repeats):
        run(batches)
    seconds = time.perf_counter() - began
    return EnergyBlock(seconds, samples, meters.stop())


def _senses(meters: Meters) -> list[str]:
    """The components whose energy a sensor measures here."""
    return [part for part, found in meters.sources.items() if found.provenance == "measured"]


def _idle_watts(meters: Meters) -> dict[str, float]:
    """Power of the measured components while this process sleeps."""
    measured = _senses(meters)
    if not measured:
        return {}
    meters.start()
    began = time.perf_counter()
    time.sleep(max(_IDLE_SECONDS, meters.window_s))
    seconds = time.perf_counter() - began
    joules = meters.stop()
    return {part: joules[part] / seconds for part in measured}
