"""Which samples make an optimiser step, who computes which of them, and with which weight.

The batch of a step is a function of (seed, epoch, step) alone. It is dealt out to
`world_size × grad_accum` slots, and every sample carries the weight that makes the sum over all
slots the mean over the batch:

    batch of 8, 2 processes, grad_accum 2     process 0: samples 0 4 | 2 6
                                              process 1: samples 1 5 | 3 7

So the gradient depends neither on the number of processes nor on accumulation (up to rounding and
dropout), not even in the last, shorter batch of an epoch, where averaging per-slot means would
favour the samples of the emptier slots. A resumed run skips to its step without reading anything.

With a budget of tokens the batches differ in their number of samples, but not in number: every
epoch has as many steps (see `TokenBatchSampler`). The loss stays the mean over the samples of the
step, whatever their number; short functions, which share a step with many others, therefore weigh
less in an epoch than long ones. Padding is counted as if the step were computed in one piece.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.encoding import EncodedSplit
from alpine_cli.tasks.loading import Collator, LengthGroupedSampler, TokenBatchSampler

__all__ = ["LOSS_WEIGHT", "Draw", "StepBatches", "make_train_loader"]

LOSS_WEIGHT = "loss_weight"


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of a slot. The loss of a slot is its samples' mean times the sum of weights."""

    index: int
    weight: float


class StepBatches(Sampler[list[Draw]]):
    """The slots of one process, in order: `grad_accum` of them per optimiser step.

    A slot that has no sample left (the last batch may be smaller than the number of slots, and one
    within a budget as small as it must) gets the batch's first sample with weight 0, because every
    process must take part in every step.

    Args:
        lengths: (N,) what to group by: tokens of each sample's longest row, and of all its rows.
        batch_size: samples per optimiser step over all slots; None with `tokens_per_batch`.
        tokens_per_batch: tokens per optimiser step over all slots, padding counted, instead.
        functions: rows per sample; only `tokens_per_batch` asks.
        grad_accum: slots per process and step.
        rank: this process, 0 … world_size − 1.
        world_size: number of processes.
        seed: of the shuffling.
        group_by_length: batch samples of similar length; batches are shuffled either way.

    Raises:
        ValueError: there are no samples; `batch_size` has fewer samples than slots; both or neither
            of the limits are given; or a budget without `group_by_length`.
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]],
        *,
        batch_size: int | None = None,
        tokens_per_batch: int | None = None,
        functions: int = 1,
        grad_accum: int = 1,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        group_by_length: bool = True,
    ) -> None:
        if not len(lengths):
            raise ValueError("there are no samples to train on")
        BatchLimit(batch_size, tokens_per_batch)  # exactly one, at least 1
        if batch_size is not None and batch_size < world_size * grad_accum:
            raise ValueError(
                f"batch_size ({batch_size}) must be at least processes ({world_size})"
                f" × grad_accum ({grad_accum})"
            )
        self.grad_accum = grad_accum
        self.rank, self.world_size = rank, world_size
        self._batches: LengthGroupedSampler | TokenBatchSampler
        if tokens_per_batch is not None:
            self._batches = TokenBatchSampler(
                lengths,
                tokens_per_batch,
                functions=functions,
                shuffle=True,
                group_by_length=group_by_length,
                seed=seed,
            )
        else:
            assert batch_size is not None
            self._batches = LengthGroupedSampler(
                lengths, batch_size, shuffle=True, group_by_length=group_by_length, seed=seed
            )

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps per epoch, the same in each; their batches may differ in size."""
        if isinstance(self._batches, TokenBatchSampler):
            return len(self._batches)
        return math.ceil(len(self._batches) / self._batches.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        self._batches.set_epoch(epoch)

    def __len__(self) -> int:
        return self.steps_per_epoch * self.grad_accum

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self._of_steps():
            # DDP averages gradients over processes; the factor world_size turns that into a sum.
            weight = self.world_size / len(batch)
            slots = self.world_size * self.grad_accum
            for piece in range(self.grad_accum):
                # Every slots-th sample: batches may be sorted by length, and so each slot gets
                # long and short ones alike.
                mine = batch[piece * self.world_size + self.rank :: slots]
                yield [Draw(index, weight) for index in mine] or [Draw(batch[0], 0.0)]

    def _of_steps(self) -> Iterator[list[int]]:
        """The samples of each optimiser step."""
        if isinstance(self._batches, TokenBatchSampler):
            yield from self._batches
            return
        order, size = list(self._batches), self._batches.batch_size
        for start in range(0, len(order), size):
            yield order[start : start + size]


class _DrawnSplit(Dataset[dict[str, Any]]):
    """An encoded split whose items are asked for by `Draw`."""

    def __init__(self, encoded: EncodedSplit) -> None:
        self.encoded = encoded

    def __len__(self) -> int:
        return len(self.encoded)

    def __getitem__(self, draw: Any) -> dict[str, Any]:
        return {**self.encoded[draw.index], "weight": draw.weight}


@dataclass(frozen=True)
class _WeightedCollator:
    """The task's batch plus `loss_weight`, a float: what the batch's mean loss is scaled by."""

    collate: Collator

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Any]:
        # Weights of a slot are all equal or all zero, so mean × sum is the weighted sum.
        weight = math.fsum(item["weight"] for item in items)
        return {**self.collate(items), LOSS_WEIGHT: weight}


def make_train_loader(
    encoded: EncodedSplit, batches: StepBatches, pad_id: int
) -> DataLoader[dict[str, Any]]:
    """Batches of this process: the task's tensors plus `loss_weight`, a float."""
    return DataLoader(
        _DrawnSplit(encoded),
        batch_sampler=batches,
        collate_fn=_WeightedCollator(Collator(pad_id)),
        # A loader draws one number per epoch from its generator: its own, so that the stream of
        # dropout does not depend on how often loaders were made (as on resuming).
        generator=torch.Generator().manual_seed(0),
    )
