"""Attention → scores: how much attention each token receives.

The score of a token is the mean, over heads and over the *valid query* tokens of its own
sequence, of the attention probability it receives (ALPINE §3). The published code averages over
padded query rows too, so that a sample's scores depend on its batch mates; pass no query mask to
reproduce that.

In a causal model (a decoder) that mean would be a matter of place above all: the k-th of n tokens
is seen by n − k + 1 queries only, and the early queries, which see few keys, give each of them
much. So attention is counted in units of what a uniform query would give (a query that sees q keys:
1/q), and the mean is taken over the queries that see the token. Under uniform attention every
token then scores 1, and a band or a floor removes nothing: as it is in an encoder, where the same
definition differs from the published score by the factor n, to which no rule is sensitive.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpine_cli.pruning.config import Score

__all__ = ["causal_units", "received_attention", "received_by_later", "token_scores"]


def token_scores(
    probs_BHLL: Tensor, score: Score, query_mask_BL: Tensor | None = None, causal: bool = False
) -> Tensor:
    """(B, L) float32 scores of the kind asked for, without gradient.

    "received": see `received_attention`. "cls": the attention of the first token of each sequence,
    in causal models of the last, mean over heads, as token pruning of vision transformers uses it
    (Liang et al., EViT, 2022).
    """
    if score == "cls":
        rows_BHL = _last_rows(probs_BHLL, query_mask_BL) if causal else probs_BHLL[:, :, 0]
        return rows_BHL.detach().to(torch.float32).mean(dim=1)
    if causal:
        return received_by_later(probs_BHLL, query_mask_BL)
    return received_attention(probs_BHLL, query_mask_BL)


def received_attention(probs_BHLL: Tensor, query_mask_BL: Tensor | None = None) -> Tensor:
    """Mean attention that each key token receives.

    Args:
        probs_BHLL: (B, H, L, L) attention probabilities, rows are queries; no dropout applied.
        query_mask_BL: (B, L) bool, the queries that count; None counts all L rows, as the
            published code does.

    Returns:
        (B, L) float32 scores, without gradient. A sequence without valid queries scores 0.
    """
    probs = probs_BHLL.detach().to(torch.float32)
    if query_mask_BL is None:
        return probs.mean(dim=(1, 2))
    weights_BL = query_mask_BL.to(probs.dtype)
    received_BL = _summed_over_queries(probs, weights_BL)
    queries_B = weights_BL.sum(1).clamp(min=1)
    return received_BL / (probs.shape[1] * queries_B[:, None])


def _summed_over_queries(probs_BHLL: Tensor, weights_BL: Tensor) -> Tensor:
    """(B, L) sums over heads and weighted queries, in float32, from which autocast would cut."""
    with torch.autocast(probs_BHLL.device.type, enabled=False):
        return torch.einsum("bhqk,bq->bk", probs_BHLL, weights_BL)


def causal_units(length: int, device: torch.device) -> Tensor:
    """(n,) float32: how many keys each query of a causal sequence sees, 1 … n."""
    return torch.arange(1, length + 1, device=device, dtype=torch.float32)


def received_by_later(probs_BHLL: Tensor, query_mask_BL: Tensor | None = None) -> Tensor:
    """Mean attention that each key receives from itself and later queries, uniform attention = 1.

    Args:
        probs_BHLL: (B, H, L, L) causal attention probabilities, left-aligned; no dropout applied.
        query_mask_BL: (B, L) bool, the queries that count; None counts all L rows.

    Returns:
        (B, L) float32 scores, without gradient; 0 where there is no token.
    """
    probs = probs_BHLL.detach().to(torch.float32)
    batch, _, length, _ = probs.shape
    units_L = causal_units(length, probs.device)
    counts_BL = probs.new_ones(batch, length) if query_mask_BL is None else query_mask_BL.float()
    received_BL = _summed_over_queries(probs, counts_BL * units_L)
    seen_by_BL = counts_BL.sum(1, keepdim=True) - units_L + 1
    scores_BL = received_BL / (probs.shape[1] * seen_by_BL.clamp(min=1))
    return torch.where(counts_BL > 0, scores_BL, 0.0)


def _last_rows(probs_BHLL: Tensor, query_mask_BL: Tensor | None) -> Tensor:
    """(B, H, L): what the last query of each sequence gives; the first row where there is none."""
    if query_mask_BL is None:
        return probs_BHLL[:, :, -1]
    last_B = (query_mask_BL.sum(1) - 1).clamp(min=0)
    return probs_BHLL[torch.arange(len(last_B), device=last_B.device), :, last_B]
