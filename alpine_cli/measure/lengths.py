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
from alpine_cli.pruning.plan import TokenState
from alpine_cli.pruning.selection import protected_tokens
from alpine_cli.pruning.tracing import TracedForward
from alpine_cli.results import Series
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["LayerLengths", "layer_lengths", "mean_length_series", "pruning_layers"]


@dataclass(frozen=True)
class LayerLengths:
    """Lengths of the rows of a split.

    Attributes:
        entering: (samples, functions per sample, layers + 1) int64; entry l is the length that
            enters layer l's attention, the last one what leaves the encoder. Entry l + 1 is the
            length at which layer l's feed-forward part runs.
        removed: (samples, functions per sample, layers) int64, tokens that each layer removed.
        compared: as `removed`; pairs of tokens whose similarity the layer computed.
        pruned_layers: indices of the layers that prune by their scores or a share.
        pruning: how; None for transformers as it ships.
    """

    entering: NDArray[np.int64]
    removed: NDArray[np.int64]
    compared: NDArray[np.int64]
    pruned_layers: tuple[int, ...]
    pruning: PruningConfig | None

    @classmethod
    def unpruned(
        cls,
        rows: Sequence[Sequence[Sequence[int]]],
        num_layers: int,
        pruning: PruningConfig | None = None,
    ) -> LayerLengths:
        """Of these encoded samples where no layer prunes: their input lengths everywhere.

        But for output="first", with which only the first token leaves the last layer.
        """
        inputs = np.array([[len(row) for row in sample] for sample in rows], dtype=np.int64)
        entering = np.repeat(inputs[:, :, None], num_layers + 1, axis=2)
        if pruning is not None and pruning.output == "first":
            entering[:, :, -1] = np.minimum(entering[:, :, -1], 1)
        nothing = np.zeros_like(entering[:, :, 1:])
        return cls(entering, nothing, nothing, (), pruning)

    @classmethod
    def traced(cls, forward: TracedForward, functions: int) -> LayerLengths:
        """Of the samples of one traced batch; rows of one sample are adjacent."""
        config = forward.config
        lengths_LR = np.array(forward.lengths, dtype=np.int64)
        num_layers = len(lengths_LR) - 1
        layers = pruning_layers(config, num_layers)
        removed_LR = np.zeros((num_layers, lengths_LR.shape[1]), dtype=np.int64)
        compared_LR = np.zeros_like(removed_LR)
        for layer in layers:
            removed_R = forward.plans[layer].removed_B.cpu().numpy()
            removed_LR[layer] = removed_R
            if config.merge == "nearest":
                compared_LR[layer] = _compared(forward.tokens[layer], removed_R, config)
        return cls(
            lengths_LR.T.reshape(-1, functions, num_layers + 1),
            removed_LR.T.reshape(-1, functions, num_layers),
            compared_LR.T.reshape(-1, functions, num_layers),
            layers,
            config,
        )

    @classmethod
    def joined(cls, parts: Sequence[LayerLengths]) -> LayerLengths:
        """The samples of several batches of one variant, one after the other."""
        return replace(
            parts[0],
            entering=np.concatenate([part.entering for part in parts]),
            removed=np.concatenate([part.removed for part in parts]),
            compared=np.concatenate([part.compared for part in parts]),
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


def layer_lengths(variant: LoadedVariant, limit: BatchLimit, num_layers: int) -> LayerLengths:
    """Trace all samples once; a variant that prunes nothing needs no run.

    A sample's lengths do not depend on its batch (a promise of the pruning core), so any limit
    of batches serves; it only decides how fast this goes.
    """
    if variant.pruning is None or not variant.pruning.resolve(num_layers):
        return LayerLengths.unpruned(variant.encoded.rows, num_layers, variant.pruning)
    functions = len(variant.encoded.rows[0])
    parts: list[LayerLengths] = []
    order: list[int] = []
    for batch in variant.batches(limit, seed=0):
        with torch.inference_mode(), trace(variant.model) as recorded:
            variant.forward(batch)
        parts.append(LayerLengths.traced(recorded.calls[0], functions))
        order += batch.indices
    found, back = LayerLengths.joined(parts), np.argsort(order)
    return replace(
        found,
        entering=found.entering[back],
        removed=found.removed[back],
        compared=found.compared[back],
    )


def pruning_layers(config: PruningConfig, num_layers: int) -> tuple[int, ...]:
    """The layers that prune; not the last one where only its first token is read."""
    layers = config.resolve(num_layers)
    return tuple(at for at in layers if config.output != "first" or at < num_layers - 1)


def _compared(
    tokens: TokenState, removed_R: NDArray[np.int64], config: PruningConfig
) -> NDArray[np.int64]:
    """Pairs of tokens whose similarity `merging` computes, in each sequence that loses any.

    "bipartite": the two alternating halves of the unprotected tokens; else removed against kept.
    """
    lengths_R = np.array(tokens.ragged.lengths, dtype=np.int64)
    pairs_R = removed_R * (lengths_R - removed_R)
    if config.rule == "bipartite":
        protected_T = protected_tokens(tokens, config).to(torch.int64)
        free_R = lengths_R - tokens.ragged.sum_by_sequence(protected_T).cpu().numpy()
        pairs_R = (free_R + 1) // 2 * (free_R // 2)
    return pairs_R * (removed_R > 0)


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
