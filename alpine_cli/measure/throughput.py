"""Samples and tokens per second over the real lengths of a split, with all that hangs on it.

    passes         throughput, token_throughput; by length: see `by_length`
    single samples latency and its percentiles: see `latency`
    training steps training_throughput: see `training_step`
    source text    tokenisation_throughput, on its own: pruning plays no part in it

One run is one pass over the split, or over evenly spaced batches of it, bucketed by length. All
variants live in one process and take turns in random order (see `blocks`), each after a full pass
of warm-up. Batches are put together beforehand and tokenisation is timed apart; the copy to the
device is inside the run, and the clock stops only when the device has finished. The machine is
watched meanwhile (see `watch`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from alpine_cli.measure import cautions
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.by_length import length_bins, throughput_by_length
from alpine_cli.measure.gpu_uuid import gpu_uuid_of
from alpine_cli.measure.latency import measure_latency
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval, spread
from alpine_cli.measure.timing import TimedPass, timed_pass
from alpine_cli.measure.training_step import measure_training_steps
from alpine_cli.measure.watch import watch_machine
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import (
    Batch,
    LoadedVariant,
    Workload,
    WorkloadRequest,
    load_workload,
)
from alpine_cli.pruning.apply import trace
from alpine_cli.results import Figure, Part
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.encoding import encode

__all__ = ["TimedPass", "attention_backends", "measure_throughput", "timed_pass"]

_TOKENISATION_RUNS = 3


def measure_throughput(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data.

    Args:
        request: `workload`, `pairs`, `runs`, `min_seconds`, `timed_samples` and `latency`;
            `training` (default: no) and then `training_batch_size` or
            `training_tokens_per_batch`.
    """
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    with watch_machine(_gpu_uuid(workload.device)) as watch:
        part = _passes(workload, request)
        if request["latency"]:
            part = part.merged(
                measure_latency(workload, request["pairs"], min_seconds=request["min_seconds"])
            )
    part = part.merged(_tokenisation(workload), Part(cautions=cautions.of_watch(watch.seen())))
    if request.get("training", False):
        part = part.merged(_training(workload, request))
    return part.model_dump(mode="json")


def _passes(workload: Workload, request: Mapping[str, Any]) -> Part:
    """Whole passes: rates over the split and by length."""
    seed, pairs = workload.request.seed, request["pairs"]
    batches = workload.timed_batches(request["timed_samples"])
    for name, variant in workload.variants.items():
        report_progress(0, 1000, f"warm-up of {name}")
        timed_pass(variant, batches[name])
    attended = {
        name: attention_backends(variant, batches[name][0])
        for name, variant in workload.variants.items()
        if workload.device.type == "cuda"  # elsewhere there is no choice
    }
    passes = run_blocks(
        list(workload.variants),
        lambda name: timed_pass(workload.variants[name], batches[name]),
        runs=request["runs"],
        min_seconds=request["min_seconds"],
        seed=seed,
        on_progress=report_progress,
    )
    figures: list[Figure] = []
    for name, variant in workload.variants.items():
        seconds = [run.seconds for run in passes[name]]
        figures += _rates(
            variant, seconds, batches[name], workload.request.batch_limit, attended.get(name, ())
        )
    first = next(iter(workload.variants.values()))
    curves = throughput_by_length(
        length_bins(batches[first.name], first.encoded),
        passes,
        pairs,
        functions=len(first.encoded.rows[0]),
        seed=seed,
    )
    return Part(figures=figures, comparisons=compare_all(figures, pairs, seed=seed)).merged(curves)


def _training(workload: Workload, request: Mapping[str, Any]) -> Part:
    with watch_machine(_gpu_uuid(workload.device)) as watch:
        part = measure_training_steps(
            workload,
            request["pairs"],
            limit=BatchLimit.named(request, "training_"),
            runs=request["runs"],
            min_seconds=request["min_seconds"],
            timed_samples=request["timed_samples"],
        )
    return part.merged(Part(cautions=cautions.of_watch(watch.seen(), "training steps")))


def _gpu_uuid(device: torch.device) -> str | None:
    if device.type != "cuda":
        return None
    return gpu_uuid_of(torch.cuda.current_device() if device.index is None else device.index)


def attention_backends(variant: LoadedVariant, batch: Batch) -> tuple[str, ...]:
    """What computes the variant's attention, by name, from one forward pass; () for stock."""
    if variant.pruning is None:
        return ()
    with torch.inference_mode(), trace(variant.model) as traced:
        variant.forward(batch)
    return tuple(sorted({name for call in traced.calls for name in call.backends.values()}))


def _rates(
    variant: LoadedVariant,
    seconds: list[float],
    batches: Sequence[Batch],
    limit: BatchLimit,
    attended: Sequence[str] = (),
) -> list[Figure]:
    timed = [i for batch in batches for i in batch.indices]
    samples, tokens = len(timed), sum(variant.encoded.length(i) for i in timed)
    share = "all" if samples == len(variant.encoded) else "evenly spaced over the lengths,"
    method = (
        f"one run = {share} {samples} samples in length-bucketed batches of {limit}; variants"
        " take turns in random order after a full pass of warm-up; tokenisation not included"
    )
    if variant.precision != "float32":
        method += f"; in {variant.precision}"
    if attended:
        method += f"; attention by {', '.join(attended)}"
    figures = []
    for name, unit, amount, what in (
        ("throughput", "samples/s", samples, "samples"),
        ("token_throughput", "tokens/s", tokens, "input tokens, padding not counted"),
    ):
        rates = [amount / second for second in seconds]
        figures.append(
            Figure(
                name=name,
                variant=variant.name,
                unit=unit,
                # The harmonic mean of the rates is all work over all time.
                value=float(aggregate(rates, "harmonic_mean")),
                provenance="measured",
                method=f"{what} over wall time; {method}",
                better="higher",
                n=len(rates),
                aggregate="harmonic_mean",
                interval=mean_interval(rates, "harmonic_mean"),
                spread=spread(rates),
                samples=rates,
            )
        )
    return figures


def _tokenisation(workload: Workload) -> Part:
    """Time of turning source text into token ids, once per checkpoint: pruning plays no part."""
    figures = []
    timed: set[int] = set()
    for name, variant in workload.variants.items():
        if id(variant.encoded) in timed:
            continue
        timed.add(id(variant.encoded))
        report_progress(999, 1000, f"tokenisation of {name}")
        rates = []
        for _ in range(_TOKENISATION_RUNS):
            start = time.perf_counter()
            encode(workload.samples, variant.tokenizer, variant.encoding)
            rates.append(len(workload.samples) / (time.perf_counter() - start))
        figures.append(
            Figure(
                name="tokenisation_throughput",
                variant=name,
                unit="samples/s",
                value=float(aggregate(rates, "harmonic_mean")),
                provenance="measured",
                method="source text to token ids, one thread, each distinct text once",
                better="higher",
                n=len(rates),
                aggregate="harmonic_mean",
                spread=spread(rates),
                samples=rates,
            )
        )
    return Part(figures=figures)
