"""What a setting costs before it has run: lengths that follow from the lengths of the input alone.

That is so for rules by share, whose number of kept tokens is a function of the length, and for
truncation. Rules by alpha have to run first. So a strength can be fitted to a budget without a
forward pass, and fitted exactly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alpine_cli.measure.lengths import LayerLengths, pruning_layers
from alpine_cli.pruning.config import SHARE_RULES, PruningConfig

__all__ = ["planned_lengths"]

_PROTECTED = 2  # tokens of a sequence, if it has so many; see `rules.kept_count`


def planned_lengths(
    rows: Sequence[Sequence[Sequence[int]]], pruning: PruningConfig, num_layers: int
) -> LayerLengths | None:
    """The lengths that a trace of these encoded samples would find; None for rules by alpha.

    What the similarities of "nearest" cost is not in it: they count in no total.
    """
    layers = pruning_layers(pruning, num_layers)
    unpruned = LayerLengths.unpruned(rows, num_layers, pruning)
    if not layers:
        return unpruned
    if pruning.rule not in SHARE_RULES:
        return None
    entering = unpruned.entering.copy()
    length = entering[:, :, 0]
    for layer in range(num_layers):
        if layer in layers:
            share = pruning.share_at(pruning.resolve(num_layers).index(layer))
            length = _after(length, share, pruning)
        entering[:, :, layer + 1] = length
    if pruning.output == "first":
        entering[:, :, -1] = np.minimum(entering[:, :, -1], 1)
    nothing = np.zeros_like(unpruned.removed)
    return LayerLengths(entering, nothing, nothing, (), pruning)


def _after(length: NDArray[np.int64], share: float, pruning: PruningConfig) -> NDArray[np.int64]:
    protected = np.minimum(length, _PROTECTED)
    # as `rules.kept_count`
    count = np.minimum(length, np.maximum(np.ceil(share * length - 1e-9).astype(int), protected))
    if pruning.rule == "bipartite":
        free = length - protected
        most = np.where(free >= 2, (free + 1) // 2, 0)  # every other one, if there is another
        return np.asarray(length - np.minimum(length - count, most), dtype=np.int64)
    if pruning.merge == "mean":
        count = count + (count < length)  # the merged token
    return np.asarray(count, dtype=np.int64)
