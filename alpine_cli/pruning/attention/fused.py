"""What attention kernels for packed sequences have in common: what they do not take, and scores.

Flash kernels take no bias. One that depends on the key alone (`LogitBias.key_T`: the logarithm of
the sizes of merged tokens) can ride along in the products instead, as columns more of the heads:

    q' = [q, 1, 1, 1, 0 …]    k' = [k, b₁/s, b₂/s, b₃/s, 0 …]    s·q'·k' = s·q·k + b₁ + b₂ + b₃

with scaling s and b = b₁ + b₂ + b₃. Each part is a bfloat16: products of such numbers with 1 are
exact in float16, bfloat16, TF32 and float32 alike, and three of them hold the 24 bits of a float32.
The columns cost what padding to the kernels' head sizes costs: 64 becomes 72, for which they
compute as for 96.

Kernels keep no probabilities. Scores come of queries, keys and the logarithm of each query's
softmax denominator (the log-sum-exp), in a pass of their own; see `kernels.scores`.
"""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.attention.protocol import Attend, Attended
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.kernels.scores import WIDEST_HEAD, log_sum_exp, received
from alpine_cli.pruning.packed import Ragged, pack

__all__ = [
    "FusedKernel",
    "attends_by",
    "attention_dtype",
    "by_head",
    "has_score_kernel",
    "score_tokens",
    "widen",
    "widened_head",
]

_HEAD_MULTIPLE = 8
_BIAS_PARTS = 3


class FusedKernel(Protocol):
    """Attention over packed sequences as a library offers it."""

    def __call__(
        self,
        q_THd: Tensor,
        k_THd: Tensor,
        v_THd: Tensor,
        ragged: Ragged,
        *,
        scaling: float,
        dropout: float,
        causal: bool,
        wants_lse: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """(T, H, d) attended values; and, where it is wanted and to be had, the log-sum-exp.

        The log-sum-exp is (H, T) float32, or whatever else the library gives: see `by_head`.
        """


def attends_by(kernel: FusedKernel, name: str) -> Attend:
    """`Attend` by a kernel that knows neither biases nor odd head sizes nor scores.

    What is returned raises ValueError where the bias depends on more than the key.

    Args:
        kernel: what attends.
        name: of the function returned.
    """

    def attend(
        q_THd: Tensor,
        k_THd: Tensor,
        v_THd: Tensor,
        ragged: Ragged,
        *,
        scaling: float,
        dropout: float,
        score: Score | None,
        bias: LogitBias | None = None,
        causal: bool = False,
    ) -> Attended:
        key_T = None
        if bias is not None:
            key_T = bias.key_T()
            if key_T is None:
                raise ValueError(
                    f"fused attention takes biases of keys only (got {type(bias).__name__})"
                )
        dtype, head = attention_dtype(q_THd), v_THd.shape[2]
        q_THd, k_THd, v_THd = (x.to(dtype) for x in (q_THd, k_THd, v_THd))
        wide = widen(q_THd, k_THd, v_THd, scaling, key_T)
        # kernels take any strides but one in the last dimension
        wide_q, wide_k, wide_v = (x if x.stride(2) == 1 else x.contiguous() for x in wide)
        out_THd, lse = kernel(
            wide_q,
            wide_k,
            wide_v,
            ragged,
            scaling=scaling,
            dropout=dropout,
            causal=causal,
            wants_lse=score == "received",
        )
        if out_THd.shape[2] > head:
            out_THd = out_THd[:, :, :head]
        if score is None:
            return Attended(out_THd, None)
        lse_HT = None if lse is None else by_head(lse, q_THd.shape[1], ragged.total)
        scores_T = score_tokens(
            q_THd,
            k_THd,
            ragged,
            score=score,
            scaling=scaling,
            key_T=key_T,
            causal=causal,
            lse_HT=lse_HT,
        )
        return Attended(out_THd, scores_T)

    attend.__name__ = attend.__qualname__ = name
    return attend


def attention_dtype(q_THd: Tensor) -> torch.dtype:
    """The dtype attention runs in: autocast's, as for PyTorch's SDPA, or the queries' own.

    Queries are of autocast's dtype already where linear layers made them; rotary positions in
    float32 widen them again.
    """
    kind = q_THd.device.type
    if q_THd.dtype != torch.float64 and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return q_THd.dtype


def widened_head(head: int, has_bias: bool) -> int:
    """The head size that a kernel sees: with the columns of a key bias, a multiple of 8."""
    columns = head + (_BIAS_PARTS if has_bias else 0)
    return -(-columns // _HEAD_MULTIPLE) * _HEAD_MULTIPLE


def widen(
    q_THd: Tensor, k_THd: Tensor, v_THd: Tensor, scaling: float, key_T: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of a head size that kernels take; a key bias in the first two.

    Differentiable in all three. Attention of the result, scaled by the same factor and cut to the
    values' own head size, is that of the input with the bias on its logits.
    """
    more = widened_head(q_THd.shape[2], key_T is not None) - q_THd.shape[2]
    if not more:
        return q_THd, k_THd, v_THd
    # kernels want values of the same head size
    wide_v = F.pad(v_THd, (0, more))
    if key_T is None:
        return F.pad(q_THd, (0, more)), F.pad(k_THd, (0, more)), wide_v
    parts_TP = _bfloat16_parts(key_T.detach().to(torch.float32) / scaling).to(k_THd.dtype)
    shape = (*q_THd.shape[:2], more)
    ones_m = F.pad(q_THd.new_ones(_BIAS_PARTS), (0, more - _BIAS_PARTS))
    bias_Tm = F.pad(parts_TP, (0, more - _BIAS_PARTS))
    return (
        torch.cat((q_THd, ones_m.expand(shape)), dim=2),
        torch.cat((k_THd, bias_Tm[:, None].expand(shape)), dim=2),
        wide_v,
    )


def _bfloat16_parts(values_T: Tensor) -> Tensor:
    """(T, 3) float32, each a bfloat16: what they sum up to is `values_T`, to its last bits."""
    parts, rest_T = [], values_T
    for _ in range(_BIAS_PARTS):
        parts.append(rest_T.to(torch.bfloat16).to(torch.float32))
        rest_T = rest_T - parts[-1]
    return torch.stack(parts, dim=1)


def has_score_kernel(device: torch.device, dtype: torch.dtype, head: int) -> bool:
    """Whether a Triton kernel computes scores of attention received, not a loop over sequences."""
    return kernels.chosen(device) and dtype.itemsize <= 4 and head <= WIDEST_HEAD


def by_head(lse: Tensor, heads: int, total: int) -> Tensor | None:
    """(H, T) of the log-sum-exp that a kernel returned; None where its layout is another.

    What is documented and what is returned differ: `varlen_attn` documents (T, H), its kernels on
    CUDA write (H, T), and those of ROCm (B, H, L). Of T = H, where shapes do not tell, (H, T) is
    taken, for that is what CUDA's kernels write.
    """
    if lse.shape == (heads, total):
        return lse
    if lse.shape == (total, heads):
        return lse.T
    return None


def score_tokens(
    q_THd: Tensor,
    k_THd: Tensor,
    ragged: Ragged,
    *,
    score: Score,
    scaling: float,
    key_T: Tensor | None = None,
    causal: bool = False,
    lse_HT: Tensor | None = None,
) -> Tensor:
    """(T,) float32 scores of the kind asked for, from queries and keys; without gradient.

    Args:
        q_THd, k_THd: (T, H, d).
        ragged: layout of the T tokens.
        score: see `scoring.token_scores`.
        scaling: multiplies the logits.
        key_T: (T,) added to the logits of every query.
        causal: each query sees itself and earlier keys only.
        lse_HT: (H, T), where the attention kernel returned it; else it is computed if needed.
    """
    with torch.no_grad(), torch.autocast(q_THd.device.type, enabled=False):
        q_THd, k_THd = q_THd.detach(), k_THd.detach()
        if score == "cls":
            return _attention_of_one(q_THd, k_THd, ragged, scaling, key_T, causal)
        if lse_HT is None:
            lse_HT = log_sum_exp(
                q_THd, k_THd, ragged, scaling=scaling, key_bias_T=key_T, causal=causal
            )
        return received(
            q_THd,
            k_THd,
            lse_HT.detach(),
            ragged,
            scaling=scaling,
            key_bias_T=key_T,
            causal=causal,
        )


def _attention_of_one(
    q_THd: Tensor,
    k_THd: Tensor,
    ragged: Ragged,
    scaling: float,
    key_T: Tensor | None,
    causal: bool,
) -> Tensor:
    """(T,) attention of each sequence's first query, in causal models of its last; head mean.

    One row of the attention matrix per sequence: T · H logits. The last query sees every key.
    """
    segment_T, ends = ragged.segment_T, ragged.cu_seqlens
    # of an empty sequence, whose row nobody reads, some row that exists
    reader_B = (ends[1:] - 1 if causal else ends[:-1]).clamp(0, max(0, ragged.total - 1))
    readers_THd = q_THd[reader_B].float()[segment_T]
    logits_TH = (readers_THd * k_THd.float()).sum(dim=2) * scaling
    if key_T is not None:
        logits_TH = logits_TH + key_T[:, None]
    # Added up in grids, because `index_add` on CUDA adds floats in another order each time.
    grid_NH = logits_TH.new_full((ragged.batch * ragged.longest, logits_TH.shape[1]), -torch.inf)
    grid_NH = grid_NH.index_copy(0, ragged.grid_index_T, logits_TH)
    probs_BLH = grid_NH.unflatten(0, (ragged.batch, ragged.longest)).softmax(dim=1)
    return pack(probs_BLH.mean(dim=2), ragged)
