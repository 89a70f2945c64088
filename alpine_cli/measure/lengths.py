"""How long every sequence is in every layer: the facts from which costs are computed.

True lengths come from tracing a forward pass. The lengths a variant *executes* are those, or, for
an engine that pads, the longest of the batch in that layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from alpine_cli.measure.workload import LoadedVariant
from alpine_cli.pruning.apply import trace
from alpine_cli.pruning.tracing import TracedForward
from alpine_cli.results import Series

__all__ = [
    "LayerLengths",
    "layer_lengths",
    "lengths_by_sample",
    "mean_length_series",
    "unpruned_lengths",
]


@dataclass(frozen=True)
class LayerLengths:
    """Lengths of the rows of a split.

    Attributes:
        entering: (samples, functions per sample, layers + 1) int64; entry l is the length that
            enters layer l's attention, the last one what leaves the encoder. Entry l + 1 is the
            length at which layer l's feed-forward part runs.
        pruned_layers: indices of the layers that prune.
        merges: whether pruning layers append a merged token.
    """

    entering: NDArray[np.int64]
    pruned_layers: tuple[int, ...]
    merges: bool

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
    functions = len(variant.encoded.rows[0])
    entering = unpruned_lengths(variant.encoded.rows, num_layers)
    pruned = variant.pruning.resolve(num_layers) if variant.pruning is not None else ()
    if pruned:
        for batch in variant.batches(batch_size, seed=0):
            with torch.inference_mode(), trace(variant.model) as recorded:
                variant.forward(batch)
            entering[list(batch.indices)] = lengths_by_sample(recorded.calls[0], functions)
    merges = variant.pruning is not None and variant.pruning.merge == "mean"
    return LayerLengths(entering, pruned, merges)


def unpruned_lengths(rows: Sequence[Sequence[Sequence[int]]], num_layers: int) -> NDArray[np.int64]:
    """(samples, functions, layers + 1): the input lengths of these encoded samples, everywhere."""
    inputs = np.array([[len(row) for row in sample] for sample in rows], dtype=np.int64)
    return np.repeat(inputs[:, :, None], num_layers + 1, axis=2)


def lengths_by_sample(forward: TracedForward, functions: int) -> NDArray[np.int64]:
    """(samples, functions, layers + 1) lengths of one traced batch; see `LayerLengths.entering`."""
    lengths_LR = np.array(forward.lengths, dtype=np.int64)
    # Rows of one sample are adjacent: (R,) is (B, functions).
    return lengths_LR.T.reshape(-1, functions, len(lengths_LR))


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
