"""The largest batch that fits into memory: unpruned, pruned and stock, inference and training.

A search per variant and purpose, a fresh process per trial (`batch_size`), one at a time: sizes
are doubled until one fails, then the gap is halved. Above 32 samples the answer is exact to one
part in 32, because a trial of a large batch costs minutes; the method names the size that failed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from alpine_cli.checkpoint import Checkpoint, load_checkpoint
from alpine_cli.measure.isolation import WorkerDied
from alpine_cli.measure.memory import ALLOCATOR
from alpine_cli.measure.memory_limit import DEFAULT_SHARE, available_bytes
from alpine_cli.measure.options import Precision
from alpine_cli.measure.plan import Plan
from alpine_cli.measure.statistics import compare_all
from alpine_cli.measure.training_step import trained_in
from alpine_cli.measure.workload import VariantRequest, build_from, load_samples
from alpine_cli.results import Caution, Figure, Part
from alpine_cli.tasks.encoding import EncodedSplit, encode

__all__ = ["Found", "find_batch_sizes", "largest_batch"]

_LONGEST = 64
_MOST = 65536
_RESOLUTION = 32

RunWorker = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        largest: the largest size that was seen to fit; 0 where not even one sample does.
        fails: the smallest that was seen not to; None where the search ended without one.
        trials: how many sizes were tried.
    """

    largest: int
    fails: int | None
    trials: int


def largest_batch(fits: Callable[[int], bool], *, start: int, most: int = _MOST) -> Found:
    """Search the largest size that fits, taking for granted that whatever is smaller fits, too.

    Args:
        fits: tries a size.
        start: the first size to try, 1 ≤ start ≤ most.
        most: where to stop.
    """
    trials, size = 1, start
    if fits(start):
        low, high = start, None
        while high is None and low < most:
            size = min(2 * low, most)
            trials += 1
            low, high = (size, None) if fits(size) else (low, size)
    else:
        low, high = 0, start
        while low == 0 and high > 1:
            size = high // 2
            trials += 1
            low, high = (size, high) if fits(size) else (0, size)
    while high is not None and high - low > max(1, low // _RESOLUTION):
        size = (low + high) // 2
        trials += 1
        low, high = (size, high) if fits(size) else (low, size)
    return Found(low, high, trials)


def find_batch_sizes(
    plan: Plan, progress: Callable[[int, int, str], None], run_worker: RunWorker
) -> Part:
    """Figures `inference_largest_batch` and `training_largest_batch` of every variant.

    Raises:
        MeasurementError: a trial died of something else than memory.
    """
    options = plan.options
    purposes = ["inference"] + (["training"] if options.training_memory else [])
    searches = [
        (purpose, variant)
        for purpose in purposes
        for variant in plan.request.variants
        # The reference engine exists to be compared with, not to be trained.
        if not (purpose == "training" and variant.name == "reference")
    ]
    limit, bound = _limit(plan)
    samples = _Samples(plan)
    figures = []
    for done, (purpose, variant) in enumerate(searches):
        longest = samples.of(variant)
        request = {
            **variant.model_dump(mode="json"),
            "rows": longest.rows,
            "labels": longest.labels,
            "graphs": _plain_graphs(longest),
            "purpose": purpose,
            "limit_bytes": limit,
            "precision": options.precision,
            "device": options.device,
            "threads": options.threads,
            "seed": options.seed,
        }

        def fits(
            size: int,
            done: int = done,
            request: dict[str, Any] = request,
            what: str = f"{purpose} of {variant.name}",
        ) -> bool:
            progress(done, len(searches), f"{what}: {size:,} samples")
            return _fits(run_worker, {**request, "batch_size": size}, options.threads)

        inference = purpose == "inference"
        start = options.batch_size if inference else options.training_batch_size
        assert start is not None  # `make_plan` refuses a budget of tokens here
        found = largest_batch(fits, start=min(start, _MOST))
        figures.append(_figure(purpose, variant.name, found, bound, longest, options.precision))
    comparisons = [
        comparison.model_copy(update={"reason": "one search each: no interval"})
        if comparison.ratio is not None
        else comparison
        for comparison in compare_all(figures, plan.pairs)
    ]
    return Part(figures=figures, comparisons=comparisons, cautions=_cautions(figures))


def _fits(run_worker: RunWorker, request: dict[str, Any], threads: int | None) -> bool:
    try:
        answer = run_worker("batch_size", request, threads=threads, environment=ALLOCATOR)
    except WorkerDied as death:
        # By the watch of `memory_limit`, or by the kernel for want of memory.
        if death.status == -signal.SIGKILL:
            return False
        raise
    return bool(answer["fits"])


def _limit(plan: Plan) -> tuple[int | None, str]:
    """The limit in bytes, None for a whole GPU; and what it is, in words."""
    asked = plan.options.memory_limit
    on_gpu = (plan.options.device or "cpu").startswith("cuda")
    if asked is not None:
        whose = "GPU memory, as asked" if on_gpu else "resident memory of the process, as asked"
        return asked, f"{asked / 2**30:.2f} GiB of {whose}"
    if on_gpu:
        return None, "the whole memory of the GPU"
    available = available_bytes()
    limit = int(DEFAULT_SHARE * available)
    return limit, (
        f"{limit / 2**30:.2f} GiB of resident memory of the process, {DEFAULT_SHARE:.0%} of what"
        " was available"
    )


def _plain_graphs(samples: EncodedSplit) -> list[list[dict[str, Any]]] | None:
    if samples.graphs is None:
        return None
    return [[graph.to_dict() for graph in graphs] for graphs in samples.graphs]


class _Samples:
    """The longest samples of the split as each checkpoint encodes them; read once."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._encoded: dict[str, EncodedSplit] = {}

    def of(self, variant: VariantRequest) -> EncodedSplit:
        """Longest first, `_LONGEST` at most."""
        path = variant.checkpoint
        if path not in self._encoded:
            self._encoded[path] = self._longest(load_checkpoint(path), path)
        return self._encoded[path]

    def _longest(self, checkpoint: Checkpoint, path: str) -> EncodedSplit:
        samples = load_samples(self._plan.request, checkpoint.task)
        _, tokenizer = build_from(checkpoint, path)
        encoded = encode(samples, tokenizer, checkpoint.encoding_spec)
        order = sorted(
            range(len(encoded)), key=lambda i: (-encoded.longest_row(i), -encoded.length(i), i)
        )[:_LONGEST]
        return encoded.take(order)


def _figure(
    purpose: str,
    variant: str,
    found: Found,
    bound: str,
    samples: EncodedSplit,
    precision: Precision,
) -> Figure:
    work = f"one forward pass, {precision}"
    if purpose == "training":
        work = f"two steps of forward, backward, AdamW, {trained_in(precision)}"
    lengths = [samples.longest_row(i) for i in range(len(samples))]
    batch = f"the {len(samples)} longest samples, {lengths[-1]} to {lengths[0]} tokens, repeated"
    outcome = "no size tried failed" if found.fails is None else f"{found.fails:,} failed"
    method = (
        f"{work}, within {bound}; batches of {batch} as needed; fresh process per size,"
        f" doubling then halving the gap, {found.trials} sizes tried: {outcome}"
    )
    reason = None
    if found.largest == 0:
        reason = f"not even one sample fits into {bound}"
    return Figure(
        name=f"{purpose}_largest_batch",
        variant=variant,
        unit="samples",
        value=float(found.largest) if reason is None else None,
        reason=reason,
        provenance="measured" if reason is None else "absent",
        method=method,
        better="higher",
        n=found.trials,
    )


def _cautions(figures: list[Figure]) -> list[Caution]:
    return [
        Caution(
            code="search-ended",
            text=f"{figure.name} of {figure.variant}: {_MOST:,} samples still fit",
            effect="the largest batch is larger, and ratios with it are lower bounds or upper ones",
            remedy="Set a smaller --memory-limit",
        )
        for figure in figures
        if figure.value == _MOST
    ]
