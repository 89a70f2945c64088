"""How long every sequence is in every layer: the facts from which costs are computed.

True lengths come from tracing a forward pass. The lengths a variant *executes* are those, or, for
an engine that pads, the longest of the batch in that layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from alpine_cli.measure.workload import LoadedVariant
from alpine_cli.pruning.apply import trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.tracing import TracedForward
from alpine_cli.results import Series

__all__ = ["LayerLengths", "layer_lengths", "mean_length_series"]


@dataclass(frozen=True)
class LayerLengths:
    """Lengths of the rows of a split.

    Attributes:
        entering: (samples, functions per sample, layers + 1) int64; entry l is the length that
            enters layer l's attention, the last one what leaves the encoder. Entry l + 1 is the
            length at which layer l's feed-forward part runs.
        removed: (samples, functions per sample, layers) int64, tokens that each layer removed.
        pruned_layers: indices of the layers that prune.
        merges: whether pruning layers append a merged token.
    """

    entering: NDArray[np.int64]
    removed: NDArray[np.int64]
    pruned_layers: tuple[int, ...]
    merges: bool

    @classmethod
    def unpruned(cls, rows: Sequence[Sequence[Sequence[int]]], num_layers: int) -> LayerLengths:
        """Of these encoded samples, where nothing is pruned: their input lengths everywhere."""
        inputs = np.array([[len(row) for row in sample] for sample in rows], dtype=np.int64)
        entering = np.repeat(inputs[:, :, None], num_layers + 1, axis=2)
        return cls(entering, np.zeros_like(entering[:, :, 1:]), (), merges=False)

    @classmethod
    def traced(cls, forward: TracedForward, functions: int, pruning: PruningConfig) -> LayerLengths:
        """Of the samples of one traced batch; rows of one sample are adjacent."""
        lengths_LR = np.array(forward.lengths, dtype=np.int64)
        num_layers = len(lengths_LR) - 1
        removed_LR = np.zeros((num_layers, lengths_LR.shape[1]), dtype=np.int64)
        for layer, plan in forward.plans.items():
            removed_LR[layer] = plan.removed_B.cpu().numpy()
        return cls(
            lengths_LR.T.reshape(-1, functions, num_layers + 1),
            removed_LR.T.reshape(-1, functions, num_layers),
            pruning.resolve(num_layers),
            merges=pruning.merge == "mean",
        )

    @classmethod
    def joined(cls, parts: Sequence[LayerLengths]) -> LayerLengths:
        """The samples of several batches of one variant, one after the other."""
        return replace(
            parts[0],
            entering=np.concatenate([part.entering for part in parts]),
            removed=np.concatenate([part.removed for part in parts]),
        )

    def executed(self, batches: Sequence[Sequence[int]], *, pads: bool) -> NDArray[np.int64]:
        """The lengths computed at when the samples run in these batches; shaped as `entering`."""
        if not pads:
            return self.entering
        executed = self.entering.copy()
        for batch in batches:
            rows = list(batch)
            executed[rows] = self.entering[rows].max(axis=(0, 1))
        return executed


def layer_lengths(variant: LoadedVariant, batch_size: int, num_layers: int) -> LayerLengths:
    """Trace all samples once; a variant that prunes nothing needs no run.

    A sample's lengths do not depend on its batch (a promise of the pruning core), so any batch
    size serves; it only decides how fast this goes.
    """
    if variant.pruning is None or not variant.pruning.resolve(num_layers):
        return LayerLengths.unpruned(variant.encoded.rows, num_layers)
    functions = len(variant.encoded.rows[0])
    parts: list[LayerLengths] = []
    order: list[int] = []
    for batch in variant.batches(batch_size, seed=0):
        with torch.inference_mode(), trace(variant.model) as recorded:
            variant.forward(batch)
        parts.append(LayerLengths.traced(recorded.calls[0], functions, variant.pruning))
        order += batch.indices
    found, back = LayerLengths.joined(parts), np.argsort(order)
    return replace(found, entering=found.entering[back], removed=found.removed[back])


def mean_length_series(name: str, lengths: LayerLengths) -> Series:
    """Mean number of tokens of one function entering each layer, and leaving the encoder."""
    means = lengths.entering.reshape(-1, lengths.entering.shape[2]).mean(axis=0)
    return Series(
        name="mean_length",
        variant=name,
        unit="tokens",
        x_name="after n layers",
        x=[float(layer) for layer in range(len(means))],
        y=[float(mean) for mean in means],
        method="mean over all functions of the split; own tokens and merged tokens, no padding",
    )
