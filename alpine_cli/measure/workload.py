"""What is measured: which variants of which weights, on which samples, in which batches.

A `WorkloadRequest` is plain data: the parent process makes it, writes it to the worker's request
file, and every worker builds the very same models and batches from it.

Variants, always by these names:
    stock      transformers as it ships (SDPA), padded to the longest of a length-bucketed batch
    unpruned   alpine's engine, no layer pruned: the gain of the engine alone
    pruned     the same engine, pruning as the checkpoint (or the command line) says
    reference  the published algorithm's engine, pruned; on request only, it is slow

Shape letters: B samples, R = B x functions per sample (rows), L tokens.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from alpine_cli.checkpoint import Checkpoint, load_checkpoint
from alpine_cli.devices import resolve_device
from alpine_cli.errors import CheckpointError
from alpine_cli.measure.options import Precision
from alpine_cli.models import TaskModel
from alpine_cli.pruning.apply import prune
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.tasks.batching import BatchLimit, grouped_by_length
from alpine_cli.tasks.data import Columns, Sample, load_splits
from alpine_cli.tasks.encoding import EncodedSplit, EncodingSpec, encode
from alpine_cli.tasks.loading import MODEL_INPUTS, Collator, model_inputs

__all__ = [
    "Batch",
    "LoadedVariant",
    "VariantName",
    "VariantRequest",
    "Workload",
    "WorkloadRequest",
    "bucketed_batches",
    "build_from",
    "evenly_over_lengths",
    "evenly_spaced",
    "grouped_by_length",
    "load_samples",
    "load_workload",
    "synchronise",
]

Item = TypeVar("Item")
VariantName = Literal["stock", "unpruned", "pruned", "reference"]


class _Request(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class VariantRequest(_Request):
    """One variant: weights and what is pruned."""

    name: VariantName
    checkpoint: str = Field(description="path of a ckpt.pt")
    pruning: dict[str, Any] | None = Field(description="None: transformers as it ships")


class WorkloadRequest(_Request):
    """Everything a worker needs to build models and batches."""

    variants: list[VariantRequest] = Field(min_length=1)
    data: str
    columns: dict[str, str] | None = None
    split: str = "test"
    limit: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=32, ge=1)
    tokens_per_batch: int | None = Field(
        default=None, ge=1, description="instead of `batch_size`, which is then None"
    )
    device: str = "cpu"
    threads: int | None = Field(default=None, ge=1)
    precision: Precision = "float32"
    seed: int = 0

    @property
    def batch_limit(self) -> BatchLimit:
        """How large a batch is."""
        return BatchLimit(self.batch_size, self.tokens_per_batch)

    def limited(self, limit: BatchLimit) -> WorkloadRequest:
        """The same workload in batches of another size."""
        return self.model_copy(update=limit.by_name())

    def only(self, *names: str) -> WorkloadRequest:
        """The same workload with some of its variants."""
        kept = [variant for variant in self.variants if variant.name in names]
        return self.model_copy(update={"variants": kept})


@dataclass(frozen=True)
class Batch:
    """Model input for B samples, on the CPU; `indices` are their places in the split."""

    input_ids: Tensor  # (R, L) int64
    attention_mask: Tensor  # (R, L) int64
    indices: tuple[int, ...]
    position_ids: Tensor | None = None  # (R, L) int64; this and the next where data flow is read
    graph_mask: Tensor | None = None  # (R, L, L) bool

    def inputs(self, device: torch.device) -> dict[str, Tensor]:
        """What the model is called with, on its device."""
        tensors = {name: getattr(self, name) for name in MODEL_INPUTS}
        present = {name: tensor for name, tensor in tensors.items() if tensor is not None}
        return model_inputs(present, device, non_blocking=True)

    def first_tokens(self) -> Batch:
        """The same samples, each function cut to its first token."""
        return Batch(self.input_ids[:, :1], self.attention_mask[:, :1], self.indices)


@dataclass
class LoadedVariant:
    """A variant ready to run: model in evaluation mode on the device, and its encoded samples.

    `precision` is that of its weights, until training steps (`training_step`) widen them.
    """

    name: str
    model: TaskModel
    tokenizer: Any
    encoding: EncodingSpec
    encoded: EncodedSplit
    pruning: PruningConfig | None
    device: torch.device
    precision: Precision = "float32"

    @property
    def pads(self) -> bool:
        """Whether the variant computes at the length of the longest row of a batch."""
        return self.pruning is None or self.pruning.engine != "packed"

    def batches(self, limit: BatchLimit, seed: int) -> list[Batch]:
        """All samples in length-bucketed batches; see `bucketed_batches`."""
        return bucketed_batches(self.encoded, limit, self.tokenizer.pad_token_id, seed)

    def batch_of(self, indices: list[int]) -> Batch:
        """One batch of the samples named."""
        return _collate(self.encoded, indices, self.tokenizer.pad_token_id)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (B, 2) of a batch; the copy to the device is part of the call."""
        logits: Tensor = self.model(**batch.inputs(self.device)).logits
        return logits


@dataclass
class Workload:
    """The loaded variants by name, in the order asked for, and the samples they share."""

    request: WorkloadRequest
    variants: dict[str, LoadedVariant]
    samples: list[Sample]
    device: torch.device

    def timed_batches(self, limit: int | None, *, least: int = 1) -> dict[str, list[Batch]]:
        """The batches whose run is timed, by variant: the same samples together in each.

        All batches are formed over the whole split first; then, with `limit`, as many of them as
        hold about that many samples (but at least `least`) are taken, evenly spaced over the
        lengths. So neither the mix of lengths nor the padding of a batch changes.
        """
        first = next(iter(self.variants.values()))
        groups = grouped_by_length(first.encoded, self.request.batch_limit)
        if limit is not None and limit < len(self.samples):
            # Within a budget of tokens batches differ in size: the mean tells how many to take.
            size = self.request.batch_size or len(self.samples) / len(groups)
            count = max(least, round(limit / size))
            if count * size < len(self.samples):
                groups = evenly_spaced(groups, count)
        random.Random(self.request.seed).shuffle(groups)
        return {
            name: [variant.batch_of(group) for group in groups]
            for name, variant in self.variants.items()
        }


def load_workload(request: WorkloadRequest, *, widened: bool = False) -> Workload:
    """Build every variant of `request`.

    Each variant has its own copy of the weights, so that none warms another's cache lines.

    Args:
        request: what to build.
        widened: keep weights in float32, for training steps alone.

    Raises:
        CheckpointError, DataError, PruningError: see `load_checkpoint`, `load_splits`, `prune`.
        ModelError: the device is absent.
    """
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    torch.manual_seed(request.seed)
    device = resolve_device(request.device)
    checkpoints: dict[str, Checkpoint] = {}
    encoded: dict[str, EncodedSplit] = {}
    variants: dict[str, LoadedVariant] = {}
    samples: list[Sample] = []
    for wanted in request.variants:
        path = wanted.checkpoint
        if path not in checkpoints:
            checkpoints[path] = load_checkpoint(path)
        checkpoint = checkpoints[path]
        if not samples:
            samples = load_samples(request, checkpoint.task)
        model, tokenizer = build_from(checkpoint, path, device)
        if not widened:
            model.to(getattr(torch, request.precision))
        encoding = EncodingSpec.from_dict(checkpoint.encoding)
        if path not in encoded:
            encoded[path] = encode(samples, tokenizer, encoding)
        pruning = None
        if wanted.pruning is not None:
            pruning = PruningConfig.from_dict(wanted.pruning)
            prune(model, pruning)
        variants[wanted.name] = LoadedVariant(
            wanted.name,
            model.eval(),
            tokenizer,
            encoding,
            encoded[path],
            pruning,
            device,
            request.precision,
        )
    checkpoints.clear()  # the models hold copies; memory figures must not count weights twice
    gc.collect()
    return Workload(request, variants, samples, device)


def build_from(
    checkpoint: Checkpoint, path: str | Path, device: torch.device | str = "cpu"
) -> tuple[TaskModel, Any]:
    """`Checkpoint.build`, with errors that name the file: there may be several.

    Raises:
        CheckpointError: weights and config do not belong together.
    """
    try:
        return checkpoint.build(device)
    except CheckpointError as error:
        message = str(error)
        named = message if message.startswith(str(path)) else f"{path}: {message}"
        raise CheckpointError(named) from error


def load_samples(request: WorkloadRequest, task: str) -> list[Sample]:
    """The samples of the split asked for."""
    columns = Columns.from_mapping(request.columns) if request.columns else None
    limit = {request.split: request.limit} if request.limit else None
    splits = load_splits(task, request.data, columns=columns, limit=limit, splits=(request.split,))
    return splits.require(request.split).samples


def bucketed_batches(
    encoded: EncodedSplit, limit: BatchLimit, pad_id: int, seed: int
) -> list[Batch]:
    """All samples in batches of similar length, the batches in random order.

    Sorted by length, so that padding is as small as it gets and no variant is flattered by a
    baseline that pads needlessly; shuffled as whole batches, so that a run does not end on its
    shortest ones.
    """
    groups = grouped_by_length(encoded, limit)
    random.Random(seed).shuffle(groups)
    return [_collate(encoded, group, pad_id) for group in groups]


def evenly_spaced(items: Sequence[Item], count: int) -> list[Item]:
    """`count` of the items, each from the middle of one of as many equal slices."""
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]


def evenly_over_lengths(encoded: EncodedSplit, count: int) -> list[int]:
    """Indices of `count` samples (all, if there are fewer), evenly spaced over the lengths."""
    by_length = sorted(range(len(encoded)), key=lambda i: (encoded.length(i), i))
    return evenly_spaced(by_length, min(count, len(by_length)))


def _collate(encoded: EncodedSplit, indices: list[int], pad_id: int) -> Batch:
    made = Collator(pad_id)([encoded[i] for i in indices])
    return Batch(
        made["input_ids"],
        made["attention_mask"],
        tuple(indices),
        made.get("position_ids"),
        made.get("graph_mask"),
    )


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given; without effect on a CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
