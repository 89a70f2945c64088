"""Attention over packed sequences by the package `flash-attn`, where it is installed, for CUDA.

FlashAttention 2 in half precision, with dropout, so that it serves training. The backward pass adds
up in no fixed order unless PyTorch's deterministic algorithms are switched on.
"""

from __future__ import annotations

import torch
from torch import Tensor

from alpine_cli.pruning.attention.fused import attends_by
from alpine_cli.pruning.packed import Ragged

__all__ = ["attend_flash_attn"]


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


attend_flash_attn = attends_by(_kernel, "attend_flash_attn")
"""All sequences in one kernel, without padding. See `Attend`; biases of keys."""
