"""Between logits and probabilities: what back ends that hold them share."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["later_keys", "softmax_over_keys"]


def softmax_over_keys(logits: Tensor) -> Tensor:
    """Softmax over keys, in float32 at least: scores must not carry half-precision rounding."""
    return torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def later_keys(length: int, device: torch.device) -> Tensor:
    """(n, n): −inf where the key comes after the query, else 0."""
    return torch.full((length, length), -torch.inf, device=device).triu_(1)
