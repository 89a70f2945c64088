"""Attention over packed sequences as jagged nested tensors through PyTorch's SDPA.

On CUDA SDPA takes its FlashAttention kernel in half precision and its memory-efficient one in
float32, with dropout, on the packed rows as they are: what `varlen` does not do. Each call wraps
its tensors anew, which takes the host a fraction of a millisecond. On a CPU SDPA works through the
sequences one by one, without causal masks; that is for tests.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from alpine_cli.pruning.attention.fused import attends_by
from alpine_cli.pruning.packed import Ragged

__all__ = ["attend_nested"]


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
    """See `FusedKernel`; SDPA returns no log-sum-exp."""
    if torch.is_inference_mode_enabled():
        # Jagged tensors cannot be views of inference tensors: they are given copies.
        with torch.inference_mode(False), torch.no_grad():
            copies = tuple(
                x.clone(memory_format=torch.contiguous_format) for x in (q_THd, k_THd, v_THd)
            )
            return _attend(copies, ragged.offsets.clone(), ragged, scaling, dropout, causal), None
    rows = (q_THd.contiguous(), k_THd.contiguous(), v_THd.contiguous())
    return _attend(rows, ragged.offsets, ragged, scaling, dropout, causal), None


attend_nested = attends_by(_kernel, "attend_nested")
"""All sequences in one call, without padding. See `Attend`; biases of keys."""


def _attend(
    rows: tuple[Tensor, ...],
    offsets: Tensor,
    ragged: Ragged,
    scaling: float,
    dropout: float,
    causal: bool,
) -> Tensor:
    """(T, H, d), from contiguous queries, keys and values.

    The three share one tensor of offsets, by which PyTorch knows that their sequences are as long;
    the bounds of the lengths are named, or they would be looked up on the device.
    """
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            x, offsets=offsets, min_seqlen=ragged.shortest, max_seqlen=ragged.longest
        ).transpose(1, 2)
        for x in rows
    )
    out = F.scaled_dot_product_attention(
        q, k, v, dropout_p=dropout, is_causal=causal, scale=scaling
    )
    return out.transpose(1, 2).values()
