"""One batched call over left-aligned padding: the back end that takes everything.

Any device, dtype, bias and dropout; what others cannot do falls to it. The engines `padded` and
`reference`, whose layout is this grid, use its parts.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from alpine_cli.pruning.attention.availability import availability
from alpine_cli.pruning.attention.fused import attention_dtype, has_score_kernel, score_tokens
from alpine_cli.pruning.attention.logits import later_keys, softmax_over_keys
from alpine_cli.pruning.attention.protocol import Attended
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged, pack, unpack
from alpine_cli.pruning.scoring import token_scores

__all__ = ["attend_grid", "attend_padded", "grid_probabilities"]


def attend_padded(
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
    """All sequences in one call, padded to the longest for the time of it. See `Attend`.

    Where Triton computes scores from queries and keys no probabilities are held for their sake.
    """
    apart: Score | None = None
    dtype = attention_dtype(q_THd)
    if (
        score is not None
        and has_score_kernel(q_THd.device, dtype, q_THd.shape[2])
        and availability(q_THd.device).kernels
    ):
        key_T = None if bias is None else bias.key_T()
        if bias is None or key_T is not None:
            apart, score = score, None
    q, k, v = (_grid(x, ragged).transpose(1, 2) for x in (q_THd, k_THd, v_THd))
    out_BHLd, scores_BL = attend_grid(
        q, k, v, ragged, scaling=scaling, dropout=dropout, score=score, bias=bias, causal=causal
    )
    out_THd = _packed(out_BHLd.transpose(1, 2), ragged)
    if apart is not None:
        scores_T = score_tokens(
            q_THd.to(dtype),
            k_THd.to(dtype),
            ragged,
            score=apart,
            scaling=scaling,
            key_T=key_T,
            causal=causal,
        )
        return Attended(out_THd, scores_T)
    return Attended(out_THd, None if scores_BL is None else pack(scores_BL, ragged))


def _grid(x_THd: Tensor, ragged: Ragged) -> Tensor:
    """(B, L, H, d); without a copy where all sequences are of one length."""
    if ragged.even:
        return x_THd.unflatten(0, (ragged.batch, ragged.longest))
    return unpack(x_THd, ragged)


def _packed(x_BLHd: Tensor, ragged: Ragged) -> Tensor:
    """The way back."""
    return x_BLHd.flatten(0, 1) if ragged.even else pack(x_BLHd, ragged)


def attend_grid(
    q_BHLd: Tensor,
    k_BHLd: Tensor,
    v_BHLd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    dropout: float,
    score: Score | None,
    bias: LogitBias | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention over left-aligned padding: (B, H, L, d) values and, if asked, (B, L) scores.

    Rows of padding hold finite values that nobody may read.
    """
    if score is None:
        # no token sees padding, which stands behind all of them
        plain = causal and bias is None
        out = F.scaled_dot_product_attention(
            q_BHLd,
            k_BHLd,
            v_BHLd,
            attn_mask=None if plain else _grid_mask(ragged, bias, q_BHLd.dtype, causal),
            dropout_p=dropout,
            is_causal=plain,
            scale=scaling,
        )
        return out, None
    probs = grid_probabilities(q_BHLd, k_BHLd, ragged, scaling=scaling, bias=bias, causal=causal)
    scores_BL = token_scores(probs, score, ragged.mask_BL, causal)
    probs = F.dropout(probs.to(v_BHLd.dtype), p=dropout, training=dropout > 0)
    return torch.matmul(probs, v_BHLd), scores_BL


def grid_probabilities(
    q_BHLd: Tensor,
    k_BHLd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    bias: LogitBias | None = None,
    causal: bool = False,
) -> Tensor:
    """(B, H, L, L) attention probabilities over left-aligned padding, float32 at least."""
    logits = torch.matmul(q_BHLd, k_BHLd.transpose(2, 3)) * scaling
    if bias is not None:
        logits = logits + bias.of_grid(ragged)
    mask = _key_mask(ragged)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    if causal:
        logits = logits + later_keys(ragged.longest, logits.device)
    return softmax_over_keys(logits)


def _key_mask(ragged: Ragged) -> Tensor | None:
    """(B, 1, 1, L) bool: keys that exist. None where every sequence is of full length.

    An empty sequence sees its first padding key: softmax over nothing would be NaN, and nobody
    reads the row.
    """
    if all(length == ragged.longest for length in ragged.lengths):
        return None
    columns = torch.arange(ragged.longest, device=ragged.cu_seqlens.device)
    return (columns < ragged.lengths_B.clamp(min=1)[:, None])[:, None, None, :]


def _grid_mask(
    ragged: Ragged, bias: LogitBias | None, dtype: torch.dtype, causal: bool
) -> Tensor | None:
    """What SDPA takes: bool keys, or the bias in `dtype` with −inf where there is no key."""
    mask = _key_mask(ragged)
    if bias is None:
        return mask
    added = bias.of_grid(ragged).to(dtype)
    if causal:
        added = added + later_keys(ragged.longest, added.device).to(dtype)
    return added if mask is None else added.masked_fill(~mask, -torch.inf)
