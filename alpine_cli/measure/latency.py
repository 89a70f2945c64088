"""Latency at batch size 1: its mean and its percentiles over the samples of a split.

Each sample, evenly spaced over the lengths of the split, runs alone, three times per variant and
in turns; its latency is the median of the three, which filters out what the machine does to single
calls. So the percentiles tell how latency differs between samples, not how the machine jitters.

A percentile needs samples beyond it. The p-th is given only from n samples on, with n so large that
the largest of them exceeds it with probability 97.5 % (1 − pⁿ): 36 for p90, 72 for p95, 368 for
p99. That is where a distribution-free 95 % interval of a quantile has an upper end at all (Hahn and
Meeker 1991, Statistical Intervals, §5.2). How many samples are timed follows from a first pass: as
many of 40, 80, 400 as fit three times the seconds that each variant is measured for at least.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval, spread
from alpine_cli.measure.timing import timed_pass
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Batch, Workload, evenly_over_lengths
from alpine_cli.results import Aggregate, Figure, Part

__all__ = ["latency_figures", "measure_latency", "samples_needed"]

ROUNDS = 3
COUNTS = (40, 80, 400)
_TIMES_MIN_SECONDS = 3

_PERCENTILES: tuple[tuple[str, Aggregate, float], ...] = (
    ("latency_p50", "median", 0.50),
    ("latency_p90", "p90", 0.90),
    ("latency_p95", "p95", 0.95),
    ("latency_p99", "p99", 0.99),
)


def samples_needed(share: float) -> int:
    """How many samples the quantile `share` (0 < share < 1) takes; see the head of this module."""
    return math.ceil(math.log(0.025) / math.log(share))


def measure_latency(
    workload: Workload, pairs: Sequence[Sequence[str]], *, min_seconds: float
) -> Part:
    """Latency figures of every variant and their comparisons, paired by sample.

    Args:
        pairs: (variant, baseline).
        min_seconds: what each variant is measured for at least; decides how many samples are timed.
    """
    budget = _TIMES_MIN_SECONDS * min_seconds * len(workload.variants)
    encoded = next(iter(workload.variants.values())).encoded
    chosen = evenly_over_lengths(encoded, COUNTS[0])
    batches, spent = _warmed_up(workload, chosen)
    per_sample = spent / len(chosen)
    # Each sample runs once more for its warm-up.
    fitting = [count for count in COUNTS if count * (ROUNDS + 1) * per_sample <= budget]
    if fitting and fitting[-1] > COUNTS[0] and len(workload.samples) > COUNTS[0]:
        chosen = evenly_over_lengths(encoded, fitting[-1])
        batches, _ = _warmed_up(workload, chosen)
    milliseconds: dict[str, list[float]] = {name: [] for name in workload.variants}
    for k in range(len(chosen)):
        report_progress(k, len(chosen), "latency at batch size 1")
        one = {name: [found[k]] for name, found in batches.items()}
        blocks = run_blocks(
            list(workload.variants),
            lambda name, one=one: timed_pass(workload.variants[name], one[name]),  # type: ignore[misc]
            runs=ROUNDS,
            min_seconds=0,
            seed=workload.request.seed + k,
        )
        for name in workload.variants:
            taken = [block.seconds * 1000 for block in blocks[name]]
            milliseconds[name].append(float(aggregate(taken, "median")))
    in_split = len(workload.samples)
    figures = latency_figures(milliseconds, in_split=in_split, seed=workload.request.seed)
    comparisons = compare_all(figures, pairs, unit="sample", seed=workload.request.seed)
    return Part(figures=figures, comparisons=comparisons)


def _warmed_up(workload: Workload, chosen: Sequence[int]) -> tuple[dict[str, list[Batch]], float]:
    """One batch per sample and variant, each run once; and the seconds of all those runs.

    Single rows are shapes that the passes over whole batches have not shown to the kernels.
    """
    batches, seconds = {}, 0.0
    for name, variant in workload.variants.items():
        report_progress(0, len(chosen), f"warm-up of latency, {name}")
        batches[name] = [variant.batch_of([i]) for i in chosen]
        seconds += timed_pass(variant, batches[name]).seconds
    return batches, seconds


def latency_figures(
    milliseconds: Mapping[str, Sequence[float]], *, in_split: int, seed: int = 0
) -> list[Figure]:
    """Mean and percentiles of each variant.

    Args:
        milliseconds: by variant, one latency per sample, index i of the same sample in all.
        in_split: samples the split has, for the reason of a percentile that is absent.
        seed: of the bootstrap.
    """
    figures = []
    for variant, values in milliseconds.items():
        figures.append(_figure("latency", variant, values, "mean", seed))
        for name, how, share in _PERCENTILES:
            needed = samples_needed(share)
            if len(values) >= needed:
                figures.append(_figure(name, variant, values, how, seed))
            else:
                figures.append(_absent(name, variant, needed, len(values), in_split))
    return figures


def _figure(name: str, variant: str, values: Sequence[float], how: Aggregate, seed: int) -> Figure:
    what = {"mean": "mean", "median": "median"}.get(how, f"{how[1:]}th percentile")
    return Figure(
        name=name,
        variant=variant,
        unit="ms",
        value=float(aggregate(values, how)),
        provenance="measured",
        method=f"{what} over {len(values)} samples evenly spaced over the split's lengths, each the"
        f" median of {ROUNDS} interleaved runs; batch size 1, tokenisation not included",
        per="sample",
        better="lower",
        n=len(values),
        aggregate=how,
        interval=mean_interval(values, how, seed=seed, unit="sample"),
        spread=spread(list(values)),
        samples=list(values),
    )


def _absent(name: str, variant: str, needed: int, timed: int, in_split: int) -> Figure:
    remedy = (
        f"the split has {in_split}"
        if in_split < needed
        else "a larger --min-seconds makes room for more"
    )
    return Figure.absent(
        name,
        variant,
        "ms",
        f"takes {needed} samples, {timed} were timed: {remedy}",
        better="lower",
        per="sample",
    )
