"""Samples per second of training steps: forward, backward and AdamW, in training mode.

    for every variant but `reference`:  own weights, own optimiser state
    one run = one pass over a share of the timed batches, at the batch size of training
    variants take turns in random order, each after a full pass of warm-up

Dropout is active, as in fine-tuning. The learning rate is 0: AdamW does the same arithmetic, but
the weights stay what they are, so that every run does the same work and a pruned model keeps
pruning the same tokens. Clipping, schedules and the reading of data are left out.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import psutil
import torch
from torch.nn import functional as F

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.options import Precision
from alpine_cli.measure.statistics import (
    MIN_RUNS_FOR_INTERVAL,
    aggregate,
    compare_all,
    mean_interval,
    spread,
)
from alpine_cli.measure.timing import TimedPass
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Batch, LoadedVariant, Workload, synchronise
from alpine_cli.results import Caution, Figure, Part
from alpine_cli.tasks.batching import BatchLimit

__all__ = [
    "TrainingRun",
    "half_budget",
    "is_out_of_memory",
    "lacks_memory",
    "measure_training_steps",
    "release",
    "trained_in",
    "training_batches",
    "training_optimiser",
    "training_variants",
]

# A step costs about three forward passes, so that an eighth of the samples and half the runs
# (see `half_budget`) take about a fifth of what inference takes.
_SHARE_OF_TIMED = 8
_MIN_STEPS = 4
_METHOD = (
    "forward, backward and AdamW (learning rate 0, so that every run does the same work), training"
    " mode with dropout"
)


class TrainingRun:
    """Runs training steps of one variant; holds its optimiser. Leaves the weights unchanged.

    In half precision weights are float32 and products are autocast's, as `alpine finetune --bf16`
    trains: weights that inference was measured with in half precision are widened for good.
    """

    def __init__(self, variant: LoadedVariant) -> None:
        self.variant = variant
        variant.model.float()
        self._autocast = partial(
            torch.autocast,
            variant.device.type,
            dtype=getattr(torch, variant.precision),
            enabled=variant.precision != "float32",
        )
        self._optimiser = training_optimiser(variant)

    def run(self, batches: Sequence[Batch]) -> TimedPass:
        """One step on each of the batches, waiting for the device at the end.

        The model is in training mode during the steps and in evaluation mode afterwards.
        """
        variant = self.variant
        variant.model.train()
        labels = [
            torch.tensor([variant.encoded.labels[i] for i in batch.indices]) for batch in batches
        ]
        synchronise(variant.device)
        start = time.perf_counter()
        for batch, labels_B in zip(batches, labels, strict=True):
            with self._autocast():
                logits_B2 = variant.forward(batch)
            F.cross_entropy(logits_B2.float(), labels_B.to(variant.device)).backward()
            self._optimiser.step()
            self._optimiser.zero_grad(set_to_none=True)
        synchronise(variant.device)
        seconds = time.perf_counter() - start
        variant.model.eval()
        return TimedPass(seconds)


def trained_in(precision: Precision) -> str:
    """How training steps are computed, in words."""
    if precision == "float32":
        return "float32"
    scaled = "" if precision == "bfloat16" else " without loss scaling"
    return f"float32 weights, products in {precision} by autocast{scaled}"


def training_optimiser(variant: LoadedVariant) -> torch.optim.AdamW:
    """AdamW over all parameters with a learning rate of 0; its state is made in the first step."""
    return torch.optim.AdamW(variant.model.parameters(), lr=0.0)


def training_variants(workload: Workload) -> dict[str, LoadedVariant]:
    """The variants whose training is measured: `reference` exists to be compared with only."""
    return {name: found for name, found in workload.variants.items() if name != "reference"}


def training_batches(
    workload: Workload, limit: BatchLimit, timed_samples: int | None
) -> dict[str, list[Batch]]:
    """Batches of training steps by variant: length-bucketed, an eighth of the timed samples.

    Args:
        limit: how large the batch of a step is.
        timed_samples: as many as inference is timed on; None: the whole split.
    """
    samples = (timed_samples or len(workload.samples)) // _SHARE_OF_TIMED
    request = workload.request.limited(limit)
    return replace(workload, request=request).timed_batches(samples, least=_MIN_STEPS)


def half_budget(runs: int, min_seconds: float) -> tuple[int, float]:
    """Half the runs and seconds, but runs enough for an interval, or as many as there were.

    For training steps, which are long, and long runs vary less.
    """
    return min(runs, max(MIN_RUNS_FOR_INTERVAL, runs // 2)), min_seconds / 2


def measure_training_steps(
    workload: Workload,
    pairs: Sequence[Sequence[str]],
    *,
    limit: BatchLimit,
    runs: int,
    min_seconds: float,
    timed_samples: int | None,
) -> Part:
    """The figure training_throughput of every variant, and its comparisons.

    `runs` and `min_seconds` are those of inference, see `half_budget`.

    Memory that does not suffice makes the figures absent and loses nothing else, as far as it can
    be told beforehand or is reported by the allocator.
    """
    variants = training_variants(workload)
    reason = lacks_memory(variants)
    runs, min_seconds = half_budget(runs, min_seconds)
    trainers: dict[str, TrainingRun] = {}
    try:
        if reason is None:
            batches = training_batches(workload, limit, timed_samples)
            trainers = {name: TrainingRun(variant) for name, variant in variants.items()}
            for name, trainer in trainers.items():
                report_progress(0, 1000, f"warm-up of training steps of {name}")
                trainer.run(batches[name])
            blocks = run_blocks(
                list(trainers),
                lambda name: trainers[name].run(batches[name]),
                runs=runs,
                min_seconds=min_seconds,
                seed=workload.request.seed,
                on_progress=lambda done, total, text: report_progress(
                    done, total, f"training steps, {text}"
                ),
            )
    except (
        RuntimeError
    ) as error:  # torch.OutOfMemoryError is one; a CPU allocator raises a bare one
        if not is_out_of_memory(error):
            raise
        reason = f"memory ran out at {limit.words}: smaller ones may fit"
    finally:
        trainers.clear()
        release(variants)
    if reason is not None:
        caution = Caution(
            code="not-measured", text=f"throughput of training steps was not measured: {reason}"
        )
        figures = [
            Figure.absent("training_throughput", name, "samples/s", reason, better="higher")
            for name in variants
        ]
        return Part(figures=figures, cautions=[caution])
    figures = [
        _figure(
            name,
            [block.seconds for block in blocks[name]],
            batches[name],
            limit,
            trained_in(workload.request.precision),
        )
        for name in variants
    ]
    comparisons = compare_all(figures, pairs, seed=workload.request.seed)
    return Part(figures=figures, comparisons=comparisons)


def lacks_memory(variants: Mapping[str, LoadedVariant]) -> str | None:
    """Why training cannot start; None if it can.

    AdamW keeps two values per parameter, in every variant at once; gradients are freed after each
    step, so that they count once. What activations need is not known beforehand.
    """
    sizes = [
        sum(p.numel() * max(4, p.element_size()) for p in variant.model.parameters())
        for variant in variants.values()
    ]
    if not sizes:
        return "no variant that can be trained"
    needed = 2 * sum(sizes) + max(sizes)
    device = next(iter(variants.values())).device
    free = (
        torch.cuda.mem_get_info(device)[0]
        if device.type == "cuda"
        else psutil.virtual_memory().available
    )
    if needed < free:
        return None
    return (
        f"gradients and optimisers of {len(sizes)} variants need {needed / 2**30:.1f} GiB,"
        f" {free / 2**30:.1f} GiB are free"
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an allocator gave up: CUDA's with a class of its own, a CPU's with words."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release(variants: Mapping[str, LoadedVariant]) -> None:
    """Leave every model as it was found: evaluation mode, no gradients, no optimiser state."""
    for variant in variants.values():
        variant.model.eval()
        variant.model.zero_grad(set_to_none=True)
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _figure(
    variant: str, seconds: Sequence[float], batches: Sequence[Batch], limit: BatchLimit, how: str
) -> Figure:
    samples = sum(len(batch.indices) for batch in batches)
    rates = [samples / second for second in seconds]
    return Figure(
        name="training_throughput",
        variant=variant,
        unit="samples/s",
        # The harmonic mean of the rates is all work over all time.
        value=float(aggregate(rates, "harmonic_mean")),
        provenance="measured",
        method=f"samples over wall time of training steps; {_METHOD}, {how}; one run ="
        f" {len(batches)} steps on {samples} samples evenly spaced over the lengths, in"
        f" length-bucketed batches of {limit}; variants take turns in random order after a full"
        " pass of warm-up",
        better="higher",
        n=len(rates),
        aggregate="harmonic_mean",
        interval=mean_interval(rates, "harmonic_mean"),
        spread=spread(rates),
        samples=rates,
    )
