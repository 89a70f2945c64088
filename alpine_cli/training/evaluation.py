"""Predictions and metrics of a split, with the tokens that were left; over all processes at once.

Shape letters: B samples of a batch, N samples of the split.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import torch

from alpine_cli.models import TaskModel
from alpine_cli.pruning.apply import trace
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.encoding import EncodedSplit
from alpine_cli.tasks.loading import make_loader, model_inputs
from alpine_cli.tasks.metrics import compute_metrics
from alpine_cli.training.kept import TokensKept
from alpine_cli.training.ranks import Ranks

__all__ = ["Evaluation", "evaluate_split"]


@dataclass(frozen=True)
class Evaluation:
    """What a model says about a split, in the split's order.

    Attributes:
        ids, labels: the samples' names and true labels (N,).
        scores: probability of label 1 (N,).
        predictions: the likelier label (N,); ties go to 0.
        loss: mean cross-entropy in nats.
        kept: sequence lengths per layer.
    """

    ids: Sequence[str]
    labels: Sequence[int]
    scores: Sequence[float]
    predictions: Sequence[int]
    loss: float
    kept: TokensKept = field(default_factory=TokensKept)

    def metrics(self) -> dict[str, float]:
        """Loss, accuracy, precision, recall, F1, MCC and the summary of tokens kept."""
        return {
            "loss": self.loss,
            **compute_metrics(self.labels, self.predictions),
            **self.kept.summary(),
        }

    def to_jsonl(self) -> str:
        """One line per sample: id, label, prediction, score."""
        rows = zip(self.ids, self.labels, self.predictions, self.scores, strict=True)
        keys = ("id", "label", "prediction", "score")
        return "".join(
            json.dumps(dict(zip(keys, row, strict=True)), ensure_ascii=False) + "\n" for row in rows
        )


@torch.no_grad()
def evaluate_split(
    model: TaskModel,
    encoded: EncodedSplit,
    *,
    batch_size: int | BatchLimit,
    pad_id: int,
    bf16: bool = False,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Run a pruned model (layers "none" included) over a split, in evaluation mode.

    Each process takes every world_size-th batch; all get the whole result. Neither the model's
    mode nor the random state is changed by it.

    Args:
        model: on its device already.
        encoded: the split, at least one sample.
        batch_size: samples per forward pass, or a limit by tokens.
        pad_id: the tokenizer's padding token.
        bf16: autocast to bfloat16, as in training.
        ranks: the processes that share the work; None for this one alone.
    """
    ranks = ranks or Ranks()
    loader = make_loader(encoded, batch_size, shuffle=False, group_by_length=True, pad_id=pad_id)
    found: list[tuple[int, float, int, float]] = []  # index, score, prediction, loss
    kept = TokensKept()
    was_training = model.training
    model.eval()
    try:
        # fork_rng: iterating a DataLoader draws a number from the global state
        with torch.random.fork_rng(devices=[]), trace(model) as traced:
            for batch in islice(loader, ranks.rank, None, ranks.world_size):
                found += _evaluate_batch(model, batch, bf16)
                for call in traced.calls:
                    kept.add(call)
                traced.calls.clear()
    finally:
        model.train(was_training)
    return _assemble(encoded, ranks.gather((found, kept)))


def _evaluate_batch(
    model: TaskModel, batch: dict[str, Any], bf16: bool
) -> list[tuple[int, float, int, float]]:
    device = model.device
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        logits_B2 = model(**model_inputs(batch, device)).logits
    log_probs_B2 = logits_B2.float().log_softmax(dim=-1).cpu()
    loss_B = -log_probs_B2.gather(1, batch["labels"][:, None])[:, 0]
    columns = (
        batch["index"].tolist(),
        log_probs_B2[:, 1].exp().tolist(),
        log_probs_B2.argmax(dim=-1).tolist(),
        loss_B.tolist(),
    )
    return list(zip(*columns, strict=True))


def _assemble(
    encoded: EncodedSplit, parts: list[tuple[list[tuple[int, float, int, float]], TokensKept]]
) -> Evaluation:
    rows = sorted(row for found, _ in parts for row in found)
    kept = TokensKept()
    for _, part in parts:
        kept.merge(part)
    return Evaluation(
        ids=encoded.ids,
        labels=encoded.labels,
        scores=[score for _, score, _, _ in rows],
        predictions=[prediction for _, _, prediction, _ in rows],
        loss=sum(loss for *_, loss in rows) / len(rows),
        kept=kept,
    )
