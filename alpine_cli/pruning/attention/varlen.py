"""PyTorch's own attention over packed sequences (`torch.nn.attention.varlen`), for CUDA.

FlashAttention in half precision, without dropout, from PyTorch 2.11 on. The backward pass is the
library's.

A sample's result must not depend on its batch mates. Of the kernels behind `varlen_attn` only
FlashAttention 3, which a user can activate, may split the keys of a sequence depending on the
batch; it is told not to (`num_splits=1`). The default, FlashAttention 2, splits keys for paged
caches only, and PyTorch 2.12 refuses the option there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from alpine_cli.pruning.attention.fused import attends_by
from alpine_cli.pruning.packed import Ragged

__all__ = ["attend_varlen"]


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
    from torch.nn.attention import varlen

    if dropout:
        raise ValueError(f"varlen_attn drops nothing (got dropout {dropout})")
    attend: Callable[..., Any] = varlen.varlen_attn
    found = attend(
        q_THd,
        k_THd,
        v_THd,
        ragged.offsets_int32,
        ragged.offsets_int32,
        ragged.longest,
        ragged.longest,
        return_aux=varlen.AuxRequest(lse=True) if wants_lse else None,
        scale=scaling,
        # a tuple: the function compares it with (-1, 0) to see that attention is causal
        window_size=(-1, 0) if causal else (-1, -1),
        **_unsplit(attend),
    )
    return found if wants_lse else (found, None)


attend_varlen = attends_by(_kernel, "attend_varlen")
"""All sequences in one kernel, without padding. See `Attend`; no dropout, biases of keys."""


def _unsplit(attend: Callable[..., Any]) -> dict[str, int]:
    """The option that keeps FlashAttention 3 from splitting keys, where it runs and is offered."""
    active = getattr(torch.nn.attention, "current_flash_attention_impl", lambda: None)()
    return {"num_splits": 1} if active == "FA3" and _offers_splits(attend) else {}


@cache
def _offers_splits(attend: Callable[..., Any]) -> bool:
    return "num_splits" in inspect.signature(attend).parameters
