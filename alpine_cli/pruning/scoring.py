"""Attention → scores: how much attention each token receives.

The score of a token is the mean, over heads and over the *valid query* tokens of its own
sequence, of the attention probability it receives (ALPINE §3). The published code averages over
padded query rows too, so that a sample's scores depend on its batch mates; pass no query mask to
reproduce that.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpine_cli.pruning.config import Score

__all__ = ["received_attention", "token_scores"]


def token_scores(probs_BHLL: Tensor, score: Score, query_mask_BL: Tensor | None = None) -> Tensor:
    """(B, L) float32 scores of the kind asked for, without gradient.

    "received": see `received_attention`. "cls": the attention of the first token of each sequence,
    mean over heads, as token pruning of vision transformers uses it (Liang et al., EViT, 2022).
    """
    if score == "cls":
        return probs_BHLL.detach()[:, :, 0].to(torch.float32).mean(dim=1)
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
    received_BL = torch.einsum("bhqk,bq->bk", probs, weights_BL)
    queries_B = weights_BL.sum(1).clamp(min=1)
    return received_BL / (probs.shape[1] * queries_B[:, None])
