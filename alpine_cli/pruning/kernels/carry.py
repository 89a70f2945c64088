"""What is known of tokens, carried into their slots. In one launch: the device waits for it.

Twin: the plain part of `plan._carried`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from alpine_cli.pruning.plan import PruningPlan

__all__ = ["carried"]


def carried(
    source_T: Tensor, special_T: Tensor, plan: PruningPlan, merged: int
) -> tuple[Tensor, Tensor]:
    """(T',) int64 sources and (T',) bool special tokens: those of kept tokens.

    `merged` and False where a slot holds removed ones only. For devices where `kernels.chosen`.
    """
    from alpine_cli.pruning.kernels import carry_triton

    source_R = source_T.new_empty(plan.after.total)
    special_R = special_T.new_empty(plan.after.total)
    if plan.before.total:
        carry_triton.carry(
            source_T.contiguous(),
            special_T.contiguous().view(torch.uint8),
            plan.keep_T.contiguous().view(torch.uint8),
            plan.slot_T,
            source_R,
            special_R.view(torch.uint8),
            merged,
            plan.size_T is not None,
        )
    return source_R, special_R
