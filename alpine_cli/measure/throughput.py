"""Samples and tokens per second over the real lengths of a split, and latency at batch size 1.

One run is one pass over the split, or over evenly spaced batches of it, bucketed by length. All
variants live in one process and take turns in random order (see `blocks`), each after a full pass
of warm-up. Batches are put together beforehand and tokenisation is timed apart; the copy to the
device is inside the run, and the clock stops only when the device has finished.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval, spread
from alpine_cli.measure.timing import TimedPass, timed_pass
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import (
    Batch,
    LoadedVariant,
    Workload,
    WorkloadRequest,
    load_workload,
)
from alpine_cli.results import Figure, Part
from alpine_cli.tasks.encoding import encode

__all__ = ["TimedPass", "measure_throughput", "timed_pass"]

_LATENCY_SAMPLES = 32
_LATENCY_ROUNDS = 3
_TOKENISATION_RUNS = 3


def measure_throughput(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data."""
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    seed, pairs = workload.request.seed, request["pairs"]
    batches = workload.timed_batches(request["timed_samples"])
    for name, variant in workload.variants.items():
        report_progress(0, 1000, f"warm-up of {name}")
        timed_pass(variant, batches[name])
    blocks = run_blocks(
        list(workload.variants),
        lambda name: timed_pass(workload.variants[name], batches[name]),
        runs=request["runs"],
        min_seconds=request["min_seconds"],
        seed=seed,
        on_progress=report_progress,
    )
    figures: list[Figure] = []
    for name, variant in workload.variants.items():
        seconds = [block.seconds for block in blocks[name]]
        figures += _rates(variant, seconds, batches[name], workload.request.batch_size)
    part = Part(figures=figures, comparisons=compare_all(figures, pairs, seed=seed))
    if request["latency"]:
        part = part.merged(_latency(workload, pairs))
    return part.merged(_tokenisation(workload)).model_dump(mode="json")


def _rates(
    variant: LoadedVariant, seconds: list[float], batches: Sequence[Batch], batch_size: int
) -> list[Figure]:
    timed = [i for batch in batches for i in batch.indices]
    samples, tokens = len(timed), sum(variant.encoded.length(i) for i in timed)
    share = "all" if samples == len(variant.encoded) else "evenly spaced over the lengths,"
    method = (
        f"one run = {share} {samples} samples in length-bucketed batches of {batch_size}; variants"
        " take turns in random order after a full pass of warm-up; tokenisation not included"
    )
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


def _latency(workload: Workload, pairs: Sequence[Sequence[str]]) -> Part:
    """Wall time of single samples: evenly spaced over the lengths, several times each."""
    any_variant = next(iter(workload.variants.values()))
    by_length = sorted(
        range(len(any_variant.encoded)), key=lambda i: (any_variant.encoded.length(i), i)
    )
    count = min(_LATENCY_SAMPLES, len(by_length))
    # The middle of each of `count` equal slices of the sorted split.
    chosen = [by_length[(2 * k + 1) * len(by_length) // (2 * count)] for k in range(count)]
    milliseconds: dict[str, list[float]] = {name: [] for name in workload.variants}
    singles = {
        name: [variant.batch_of([i]) for i in chosen] for name, variant in workload.variants.items()
    }
    for name, variant in workload.variants.items():
        timed_pass(variant, singles[name])  # warm-up: single rows are shapes not seen before
    for k in range(count):
        report_progress(k, count, "latency at batch size 1")
        one = {name: [batches[k]] for name, batches in singles.items()}
        blocks = run_blocks(
            list(workload.variants),
            lambda name, one=one: timed_pass(workload.variants[name], one[name]),  # type: ignore[misc]
            runs=_LATENCY_ROUNDS,
            min_seconds=0,
            seed=workload.request.seed + k,
        )
        for name in workload.variants:
            taken = [block.seconds * 1000 for block in blocks[name]]
            milliseconds[name].append(float(aggregate(taken, "median")))
    method = (
        f"median of {_LATENCY_ROUNDS} interleaved runs per sample, mean over {count} samples"
        " evenly spaced over the split's lengths; batch size 1, tokenisation not included"
    )
    figures = [
        Figure(
            name="latency",
            variant=name,
            unit="ms",
            value=float(aggregate(values, "mean")),
            provenance="measured",
            method=method,
            per="sample",
            better="lower",
            n=count,
            aggregate="mean",
            interval=mean_interval(values, "mean", unit="sample"),
            spread=spread(values),
            samples=values,
        )
        for name, values in milliseconds.items()
    ]
    seed = workload.request.seed
    return Part(figures=figures, comparisons=compare_all(figures, pairs, unit="sample", seed=seed))


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
