"""Stock transformers with flash attention: through flash-attn, else torch's varlen kernel.

transformers runs flash attention through the package flash-attn (`flash_attention_2`), on padded
batches (it unpads around every attention) and on packed ones (`cu_seq_lens_q` and so on). Where the
package is not installed, the same kernel is in torch (`torch.nn.attention.varlen`, CUDA, half
precision), and transformers takes it through its `AttentionInterface`: a few lines, below. Nothing
else of the model changes, so that it is a fair stand-in, and the result names which one ran.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.utils import is_flash_attn_2_available

from benchmarks.variants import Variant

__all__ = ["TORCH_VARLEN", "flash_implementation", "flash_variants"]

TORCH_VARLEN = "torch-varlen"
_NAMES = ("stock flash bucketed", "stock flash packed")


def flash_variants(
    device: torch.device, dtype: torch.dtype
) -> tuple[list[Variant], dict[str, str]]:
    """Stock models with flash attention, bucketed and packed, or the reason why there are none."""
    chosen, reason = flash_implementation(device, dtype)
    if chosen is None:
        return [], dict.fromkeys(_NAMES, reason)
    unpads = chosen == TORCH_VARLEN
    return [
        Variant(_NAMES[0], None, bucketed=True, attention=chosen, unpads=unpads),
        Variant(_NAMES[1], None, bucketed=True, attention=chosen, packs=True),
    ], {}


def flash_implementation(device: torch.device, dtype: torch.dtype) -> tuple[str | None, str]:
    """transformers' name of the attention function, or None; and why, in words."""
    if device.type != "cuda":
        return None, "flash attention needs a CUDA device"
    if dtype.itemsize != 2:
        return None, f"flash attention takes half precision only (got {dtype})"
    if is_flash_attn_2_available():
        return "flash_attention_2", "the package flash-attn, through transformers"
    try:
        from torch.nn.attention.varlen import varlen_attn  # noqa: F401
    except ImportError as error:
        return None, f"flash-attn is not installed, and torch has no varlen attention: {error}"
    AttentionInterface.register(TORCH_VARLEN, _varlen)
    return TORCH_VARLEN, "torch.nn.attention.varlen through transformers' AttentionInterface"


def _varlen(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: (B, H, L, d) each → (B, L, H, d).

    Packed rows (1, H, T, d) go through as they are; padded ones are unpadded and padded again
    around the kernel, as transformers does for flash-attn, with indices that are made once per
    batch (`workload.unpadding`). Inference only: the kernel drops nothing.
    """
    from torch.nn.attention.varlen import varlen_attn

    batch, _, length, _ = query.shape
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (query, key, value))  # (B·L, H, d)
    valid_T: Tensor | None = kwargs.get("valid_rows_T")
    if valid_T is not None:
        q, k, v = (x.index_select(0, valid_T) for x in (q, k, v))
    cumulative, longest = kwargs["cu_seq_lens_q"], kwargs["max_length_q"]
    window = getattr(module, "sliding_window", None)
    extra: dict[str, Any] = {} if window is None else {"window_size": (window - 1, window - 1)}
    out = varlen_attn(q, k, v, cumulative, cumulative, longest, longest, scale=scaling, **extra)
    assert isinstance(out, Tensor)
    if valid_T is not None:
        whole = out.new_zeros(batch * length, *out.shape[1:])
        out = whole.index_copy(0, valid_T, out)
    return out.unflatten(0, (batch, length)), None
