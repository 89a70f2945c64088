"""What pruning itself computes in one layer, by formula: scoring, choosing, merging.

Most of it are additions, which no counter of matrix products sees; `products` are the multiply-adds
among it that such counters do see. None of it is part of `total_macs`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpine_cli.measure.cost import EncoderShape
from alpine_cli.pruning.config import PruningConfig

__all__ = ["Overhead", "pruning_overhead"]

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Overhead:
    """FLOPs, and the MACs of the matrix products among them; shaped as the lengths given."""

    flops: Counts
    products: Counts


def pruning_overhead(
    shape: EncoderShape,
    lengths: Counts,
    removed: Counts,
    compared: Counts,
    config: PruningConfig,
    *,
    weights_queries: bool,
    score_passes: int = 0,
) -> Overhead:
    """Overhead of a pruning layer.

    Scores: H n² additions over heads and queries ("cls": H n, one query's row). On a padded grid
    the heads are summed and n² products with the mask of valid queries do the rest: n² FLOPs more.
    Where no probabilities are at hand QKᵀ comes first, once or twice: 2 D n² each ("cls": 2 D n),
    in kernels of alpine's own, which no counter sees.
    Choosing: 6 n for the division, mean, deviation and band; rules by share only sort, and those
    that read no scores make none. Merging: D per removed token for the mean; "nearest" normalises
    n vectors (3 n D), compares pairs of them (D multiply-adds each) and averages all by size
    (2 n D).

    Args:
        shape: H and D.
        lengths: tokens that enter attention, at the length it runs at.
        removed: tokens that leave.
        compared: pairs of tokens whose similarity is computed.
        config: rule, score and merge.
        weights_queries: whether scores are a product with the mask of valid queries.
        score_passes: how often QKᵀ is computed for the scores alone.
    """
    n, hidden = lengths, shape.hidden
    flops, products = np.zeros_like(n), np.zeros_like(n)
    if config.needs_scores and config.score == "cls":
        flops = flops + (shape.heads + 2 * hidden * (score_passes > 0)) * n
    elif config.needs_scores:
        flops = flops + (shape.heads + weights_queries + 2 * hidden * score_passes) * n * n
        products = products + weights_queries * n * n
    if config.rule in ("band", "floor"):
        flops = flops + 6 * n
    if config.merge == "mean":
        flops = flops + removed * hidden
    elif config.merge == "nearest":
        flops = flops + 5 * n * hidden * (removed > 0) + 2 * compared * hidden
        products = products + compared * hidden
    return Overhead(flops, products)
