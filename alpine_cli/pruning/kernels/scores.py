"""Attention received, from queries, keys and the log-sum-exp: no attention matrix.

Fused attention kernels keep no probabilities, but they can return the logarithm of each query's
softmax denominator. With it any entry of the attention matrix is one dot product and one
exponential, so the column sums that scores need are one more pass over QKᵀ. That pass costs
2·n²·D FLOPs a sequence, half of what attention itself does. A layer of RoBERTa-base (D = 768,
feed-forward 3072) costs n·(14.2 M + 4·n·D): a pruned one gains 2.6 % at n = 256 tokens, 5.0 % at
512. A back end that does not return the log-sum-exp pays the same again for `log_sum_exp`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.scoring import causal_units

__all__ = ["WIDEST_HEAD", "log_sum_exp", "log_sum_exp_plain", "received", "received_plain"]

_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
WIDEST_HEAD = 128
"""A tile of wider heads does not fit the shared memory of every GPU in float32."""


@torch.no_grad()
def log_sum_exp(
    q_THd: Tensor,
    k_THd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    key_bias_T: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """Logarithm of the softmax denominator of every query: log Σ_j exp(scaling·q·k_j + bias_j).

    For back ends whose attention does not return it.

    Args:
        q_THd: (T, H, d) queries, any strides.
        k_THd: (T, H, d) keys, any strides.
        ragged: layout of the T tokens; each sees those of its own sequence.
        scaling: multiplies the products of queries and keys.
        key_bias_T: (T,) added to the logits of every query and head; None adds nothing.
        causal: whether a query sees itself and earlier keys only.

    Returns:
        (H, T) float32, without gradient.
    """
    if not _takes(q_THd, k_THd, ragged):
        return log_sum_exp_plain(
            q_THd, k_THd, ragged, scaling=scaling, key_bias_T=key_bias_T, causal=causal
        )
    from alpine_cli.pruning.kernels import scores_triton

    return scores_triton.log_sum_exp(q_THd, k_THd, ragged, scaling, key_bias_T, causal)


@torch.no_grad()
def received(
    q_THd: Tensor,
    k_THd: Tensor,
    lse_HT: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    key_bias_T: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """The score "received" of every token: `scoring.received_attention` over packed sequences.

    With `causal`, that of `scoring.received_by_later`.

    Args:
        q_THd: (T, H, d) queries, any strides.
        k_THd: (T, H, d) keys, any strides.
        lse_HT: (H, T) float32, see `log_sum_exp`; any strides. It must come of the same
            `scaling`, `key_bias_T` and `causal`.
        ragged: layout of the T tokens.
        scaling: multiplies the products of queries and keys.
        key_bias_T: (T,) added to the logits of every query and head; None adds nothing.
        causal: whether a query sees itself and earlier keys only.

    Returns:
        (T,) float32 mean over heads and queries, without gradient.
    """
    if not _takes(q_THd, k_THd, ragged):
        return received_plain(
            q_THd, k_THd, lse_HT, ragged, scaling=scaling, key_bias_T=key_bias_T, causal=causal
        )
    from alpine_cli.pruning.kernels import scores_triton

    return scores_triton.received(q_THd, k_THd, lse_HT, ragged, scaling, key_bias_T, causal)


def _takes(q_THd: Tensor, k_THd: Tensor, ragged: Ragged) -> bool:
    """Whether the kernels take these; else the twins do."""
    return (
        kernels.chosen(q_THd.device)
        and q_THd.dtype == k_THd.dtype
        and q_THd.dtype in _DTYPES
        and q_THd.shape[2] <= WIDEST_HEAD
        and ragged.total > 0
    )


@torch.no_grad()
def log_sum_exp_plain(
    q_THd: Tensor,
    k_THd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    key_bias_T: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """`log_sum_exp` in plain PyTorch: holds the (H, n, n) logits of one sequence at a time."""
    lse_HT = q_THd.new_empty(q_THd.shape[1], ragged.total, dtype=torch.float32)
    for start, stop in ragged.spans():
        logits_Hnn = _logits(q_THd, k_THd, start, stop, scaling, key_bias_T, causal)
        lse_HT[:, start:stop] = logits_Hnn.logsumexp(dim=-1)
    return lse_HT


@torch.no_grad()
def received_plain(
    q_THd: Tensor,
    k_THd: Tensor,
    lse_HT: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    key_bias_T: Tensor | None = None,
    causal: bool = False,
) -> Tensor:
    """`received` in plain PyTorch: holds the (H, n, n) probabilities of one sequence at a time."""
    heads = q_THd.shape[1]
    scores_T = q_THd.new_empty(ragged.total, dtype=torch.float32)
    for start, stop in ragged.spans():
        n = stop - start
        logits_Hnn = _logits(q_THd, k_THd, start, stop, scaling, key_bias_T, causal)
        probs_Hnn = (logits_Hnn - lse_HT[:, start:stop, None]).exp()
        if causal:
            units_n = causal_units(n, scores_T.device)
            received_n = torch.mv(probs_Hnn.sum(dim=0).T.float(), units_n)
            scores_T[start:stop] = received_n / (heads * units_n.flip(0))
        else:
            scores_T[start:stop] = probs_Hnn.sum(dim=(0, 1)) / (heads * n)
    return scores_T


def _logits(
    q_THd: Tensor,
    k_THd: Tensor,
    start: int,
    stop: int,
    scaling: float,
    key_bias_T: Tensor | None,
    causal: bool,
) -> Tensor:
    """(H, n, n) of the sequence in rows [start, stop), float32 at least; −inf hides a key."""
    wide = torch.promote_types(q_THd.dtype, torch.float32)
    q_Hnd, k_Hnd = (x[start:stop].transpose(0, 1).to(wide) for x in (q_THd, k_THd))
    logits_Hnn = torch.matmul(q_Hnd, k_Hnd.transpose(1, 2)) * scaling
    if key_bias_T is not None:
        logits_Hnn = logits_Hnn + key_bias_T[start:stop]
    if causal:
        n = stop - start
        later_nn = torch.ones(n, n, dtype=torch.bool, device=logits_Hnn.device).triu_(1)
        logits_Hnn = logits_Hnn.masked_fill(later_nn, -torch.inf)
    return logits_Hnn
