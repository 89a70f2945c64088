"""Batches: which samples go together, and how their rows become tensors.

The order is made by one index sampler, `LengthGroupedSampler`, below a plain
`torch.utils.data.BatchSampler`. That split is what data-parallel training needs: accelerate (and
with it transformers' Trainer) shards a BatchSampler over processes and forwards `set_epoch` to
its `.sampler`, so every process sees the same order and takes its own batches of it. Give it the
loader through `accelerator.prepare` or `Trainer.get_train_dataloader`; nothing else is to be done.

Batches within a token budget differ in size, so that no flat order can say where they end:
`TokenBatchSampler` yields them whole, and is its own `.sampler`. accelerate wants
`even_batches=False` for batches of unequal size.

Shape letters: B samples, R = B × functions per sample (rows of one sample adjacent), L tokens.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import BatchSampler, DataLoader, Sampler

from alpine_cli.tasks.batching import BatchLimit, bucket_length, cut_into_batches
from alpine_cli.tasks.encoding import EncodedSplit
from alpine_cli.tasks.graph import RowGraph

__all__ = [
    "MODEL_INPUTS",
    "Collator",
    "LengthGroupedSampler",
    "TokenBatchSampler",
    "make_loader",
    "model_inputs",
]

MODEL_INPUTS = ("input_ids", "attention_mask", "position_ids", "graph_mask")
"""What of a batch a `TaskModel` reads; the last two exist where data flow is read."""

_BATCHES_PER_GROUP = 50  # as in transformers: groups are shuffled, only inside one is sorted


class LengthGroupedSampler(Sampler[int]):
    """Sample indices in an order that suits batches of `batch_size`.

    shuffle  group_by_length
    no       no               file order
    no       yes              longest first: least padding; memory trouble shows at once
    yes      no               a random permutation
    yes      yes              random groups of 50 batches, sorted inside, batches then shuffled

    The order is a function of (seed, epoch) alone. A batch that is not full is always the last, so
    cutting the order into pieces of `batch_size` gives the batches that were meant. In epoch 0 of
    a grouped shuffle the batch with the longest sample comes first, for early memory trouble.

    Args:
        lengths: (N,) what to sort by, one comparable value per sample.
        batch_size: B.
        shuffle: see above.
        group_by_length: see above.
        seed: of the shuffling.
    """

    def __init__(
        self,
        lengths: Sequence[Any],
        batch_size: int,
        *,
        shuffle: bool,
        group_by_length: bool,
        seed: int,
    ) -> None:
        self.lengths = lengths
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.group_by_length = group_by_length
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = list(range(len(self.lengths)))
        # A string seed is hashed with SHA-512, so (1, 23) and (12, 3) are different streams.
        stream = random.Random(f"{self.seed}:{self.epoch}")
        if self.shuffle:
            stream.shuffle(order)
        if not self.group_by_length:
            return iter(order)
        if not self.shuffle:
            return iter(self._longest_first(order))
        return iter([i for batch in self._shuffled_batches(order, stream) for i in batch])

    def _shuffled_batches(self, order: list[int], stream: random.Random) -> list[list[int]]:
        size, group = self.batch_size, self.batch_size * _BATCHES_PER_GROUP
        # The remainder is taken off first: it must stand last (see the class), and taken off
        # after sorting it would always hold the shortest samples.
        whole = len(order) - len(order) % size
        batches = []
        for start in range(0, whole, group):
            members = self._longest_first(order[start : min(start + group, whole)])
            batches += [members[at : at + size] for at in range(0, len(members), size)]
        stream.shuffle(batches)
        if self.epoch == 0 and batches:
            # Found before sorting: a list is empty to those who look at it while it is sorted.
            longest = max(self.lengths[batch[0]] for batch in batches)  # each batch is sorted
            batches.sort(key=lambda batch: self.lengths[batch[0]] == longest, reverse=True)
        if remainder := order[whole:]:
            batches.append(remainder)
        return batches

    def _longest_first(self, indices: list[int]) -> list[int]:
        return sorted(indices, key=lambda i: self.lengths[i], reverse=True)  # stable


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of sample indices, each within a budget of tokens; see `batching`.

    shuffle  group_by_length
    no       no               file order, cut where the budget is used up
    no       yes              longest first: least padding; memory trouble shows at once
    yes      yes              random within buckets of similar length, batches then shuffled

    Every epoch of a shuffled order has the same number of batches: samples change places only
    within their bucket (`bucket_length`), and the budget is reckoned with the ends of buckets. The
    batches are a function of (seed, epoch) alone. In epoch 0 of a shuffled order the batch with
    the longest sample comes first, for early memory trouble.

    Args:
        lengths: (N,) tokens of each sample's longest row, and of all its rows.
        tokens: of a batch at most, padding counted.
        functions: rows per sample.
        shuffle, group_by_length: see above.
        seed: of the shuffling.

    Raises:
        ValueError: `tokens` is below 1; or `shuffle` without `group_by_length`: the longest of a
            random batch would rule its size, and epochs would differ in their number of batches.
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]],
        tokens: int,
        *,
        functions: int = 1,
        shuffle: bool,
        group_by_length: bool,
        seed: int,
    ) -> None:
        if shuffle and not group_by_length:
            raise ValueError("shuffled batches within a token budget are grouped by length")
        self.lengths = lengths
        self.limit = BatchLimit(tokens=tokens)
        self.functions = functions
        self.shuffle = shuffle
        self.group_by_length = group_by_length
        self.seed = seed
        self.epoch = 0
        self._count: int | None = None

    @property
    def sampler(self) -> TokenBatchSampler:
        """Itself: where accelerate and Trainer look for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose batches the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        if self._count is None:
            self._count = len(self._batches())
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())

    def _batches(self) -> list[list[int]]:
        order = list(range(len(self.lengths)))
        longest = [row for row, _ in self.lengths]
        if not self.shuffle:
            if self.group_by_length:
                order.sort(key=lambda i: self.lengths[i], reverse=True)  # stable
            return cut_into_batches(order, self.limit, longest, functions=self.functions)
        stream = random.Random(f"{self.seed}:{self.epoch}")  # as in LengthGroupedSampler
        stream.shuffle(order)
        ends = [bucket_length(length) for length in longest]
        order.sort(key=lambda i: ends[i], reverse=True)
        batches = cut_into_batches(order, self.limit, ends, functions=self.functions)
        first = max(batches, key=lambda batch: max(longest[i] for i in batch), default=None)
        stream.shuffle(batches)
        if self.epoch == 0:
            batches.sort(key=lambda batch: batch is not first)
        return batches


@dataclass(frozen=True)
class Collator:
    """Puts items of an `EncodedSplit` together; usable as Trainer's `data_collator`.

    Attributes:
        pad_id: the tokenizer's padding token.
        pad_to: pad every row to this length; None pads to the longest row of the batch.
    """

    pad_id: int
    pad_to: int | None = None

    def __call__(self, items: Sequence[dict[str, Any]]) -> dict[str, Tensor]:
        """Make one batch.

        Returns:
            input_ids (R, L) int64, attention_mask (R, L) int64, labels (B,) int64, and
            index (B,) int64, the sample's place in the split. Of items with data flow also
            position_ids (R, L) int64 and graph_mask (R, L, L) bool: which token (row) attends to
            which; rows of padding see the first token, since no token can see nothing.

        Raises:
            ValueError: a row is longer than `pad_to`.
        """
        rows = [row for item in items for row in item["rows"]]
        longest = max(len(row) for row in rows)
        width = longest if self.pad_to is None else self.pad_to
        if longest > width:
            raise ValueError(f"a row of {longest} tokens does not fit pad_to ({width})")
        input_ids_RL = np.full((len(rows), width), self.pad_id, dtype=np.int64)
        attention_mask_RL = np.zeros((len(rows), width), dtype=np.int64)
        for at, row in enumerate(rows):
            input_ids_RL[at, : len(row)] = row
            attention_mask_RL[at, : len(row)] = 1
        graphs = [graph for item in items for graph in item.get("graphs", ())]
        return {
            **(self._graph_tensors(graphs, width) if graphs else {}),
            "input_ids": torch.from_numpy(input_ids_RL),
            "attention_mask": torch.from_numpy(attention_mask_RL),
            "labels": torch.tensor([item["label"] for item in items], dtype=torch.int64),
            "index": torch.tensor([item["index"] for item in items], dtype=torch.int64),
        }

    def _graph_tensors(self, graphs: Sequence[RowGraph], width: int) -> dict[str, Tensor]:
        position_ids_RL = np.full((len(graphs), width), self.pad_id, dtype=np.int64)
        graph_mask_RLL = np.zeros((len(graphs), width, width), dtype=np.bool_)
        for at, graph in enumerate(graphs):
            n = len(graph)
            position_ids_RL[at, :n] = graph.positions(self.pad_id)
            graph_mask_RLL[at, :n, :n] = graph.mask()
            graph_mask_RLL[at, n:, 0] = True
        return {
            "position_ids": torch.from_numpy(position_ids_RL),
            "graph_mask": torch.from_numpy(graph_mask_RLL),
        }


def model_inputs(
    batch: Mapping[str, Tensor], device: torch.device | str, *, non_blocking: bool = False
) -> dict[str, Tensor]:
    """The tensors of a batch that a `TaskModel` reads, on its device."""
    return {
        name: batch[name].to(device, non_blocking=non_blocking)
        for name in MODEL_INPUTS
        if name in batch
    }


def make_loader(
    encoded: EncodedSplit,
    batch_size: int | BatchLimit,
    *,
    shuffle: bool,
    group_by_length: bool,
    seed: int = 0,
    pad_id: int,
    pad_to: int | None = None,
    drop_last: bool = False,
) -> DataLoader[dict[str, Tensor]]:
    """A loader of batches as `Collator` makes them.

    For evaluation in the order of least padding: `shuffle=False, group_by_length=True`; the
    batch's `index` says where each result belongs. For training call
    `loader.batch_sampler.sampler.set_epoch(epoch)` per epoch, or let accelerate do it.

    Args:
        encoded: a split as `encode` returned it.
        batch_size: samples (not rows) per batch, or a limit by tokens.
        shuffle: random order, by `seed` and epoch.
        group_by_length: put samples of similar length together; see `LengthGroupedSampler` and
            `TokenBatchSampler`.
        seed: of the shuffling.
        pad_id: the tokenizer's padding token.
        pad_to: fixed row length; None pads to the longest of the batch.
        drop_last: leave out a batch that is not full.

    Raises:
        ValueError: `batch_size` is not positive; or by tokens, a random order that is not grouped,
            or `drop_last`: no batch within a budget is full.
    """
    limit = BatchLimit(samples=batch_size) if isinstance(batch_size, int) else batch_size
    # Padding is paid for the longest row; the total breaks ties between pairs.
    lengths = [(encoded.longest_row(i), encoded.length(i)) for i in range(len(encoded))]
    batches: Sampler[list[int]]
    if limit.tokens is not None:
        if drop_last:
            raise ValueError("drop_last: batches within a token budget are never full")
        batches = TokenBatchSampler(
            lengths,
            limit.tokens,
            functions=encoded.functions,
            shuffle=shuffle,
            group_by_length=group_by_length,
            seed=seed,
        )
    else:
        assert limit.samples is not None
        order = LengthGroupedSampler(
            lengths, limit.samples, shuffle=shuffle, group_by_length=group_by_length, seed=seed
        )
        batches = BatchSampler(order, limit.samples, drop_last)
    return DataLoader(
        encoded,  # type: ignore[arg-type]  # a map-style dataset by shape, without torch
        batch_sampler=batches,
        collate_fn=Collator(pad_id, pad_to),
    )
