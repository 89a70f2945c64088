"""Attention over packed sequences by the package `flash-attn`, where it is installed, for CUDA.

FlashAttention 2 in half precision, with dropout, so that it serves training. The backward pass adds
up in no fixed order unless PyTorch's deterministic algorithms are switched on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpine_cli.pruning.attention.fused import attend_fused
from alpine_cli.pruning.attention.protocol import Attended
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged

__all__ = ["attend_flash_attn"]


def attend_flash_attn(
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
    """All sequences in one kernel, without padding. See `Attend`; biases of keys."""
    return attend_fused(
        _kernel,
        q_THd,
        k_THd,
        v_THd,
        ragged,
        scaling=scaling,
        dropout=dropout,
        score=score,
        bias=bias,
        causal=causal,
    )


def _kernel(
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
    """See `FusedKernel`."""
    import flash_attn

    # With dropout the function would also return a (B, H, L, L) matrix of what was dropped.
    returns_lse = wants_lse and not dropout
    found = flash_attn.flash_attn_varlen_func(
        q_THd,
        k_THd,
        v_THd,
        ragged.offsets_int32,
        ragged.offsets_int32,
        ragged.longest,
        ragged.longest,
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=causal,
        deterministic=torch.are_deterministic_algorithms_enabled(),
        return_attn_probs=returns_lse,
    )
    if not returns_lse:
        return found, None
    out_THd, lse, _ = found
    return out_THd, lse
