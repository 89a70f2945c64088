"""The rules "band" and "floor" of all sequences in one launch; see `selection` for the rule.

Twins: `selection.band` and `rules.floor`, and the sum of what they keep. As there, statistics are
float64: a few additions a token, which even GPUs of little float64 throughput do in passing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpine_cli.pruning.packed import Ragged

__all__ = ["keep_by_spread"]


def keep_by_spread(
    scores_T: Tensor,
    protected_T: Tensor,
    ragged: Ragged,
    alpha: float,
    tolerance: float,
    *,
    two_sided: bool,
) -> tuple[Tensor, Tensor]:
    """Tokens within α standard deviations of their sequence's mean.

    For devices where `kernels.chosen`. Deterministic; copies nothing to the host.

    Args:
        scores_T: (T,) scores ≥ 0, any float dtype.
        protected_T: (T,) bool, tokens that stay whatever their score.
        ragged: layout of the T tokens.
        alpha: half-width of the band in standard deviations.
        tolerance: widening of the band relative to the mean.
        two_sided: the band; else the floor, which keeps high scores.

    Returns:
        (T,) bool, and (B,) int64, how many of each sequence stay.
    """
    from alpine_cli.pruning.kernels import selection_triton

    keep_T = torch.empty_like(protected_T)
    kept_B = torch.empty_like(ragged.cu_seqlens[1:])
    if ragged.batch:
        selection_triton.keep_by_spread(
            scores_T.contiguous(),
            protected_T.contiguous().view(torch.uint8),
            ragged.cu_seqlens,
            keep_T.view(torch.uint8),
            kept_B,
            alpha,
            tolerance,
            two_sided,
        )
    return keep_T, kept_B
