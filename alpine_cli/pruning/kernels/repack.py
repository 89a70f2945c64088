"""Applying a plan to packed hidden states in one launch, backward in another.

Twin: `plan.apply_plan`, which widens all rows to float32 and adds them up by index: on CUDA with
atomics, whose order changes from run to run. Here each row of the result is gathered by one program
in the order of the tokens, so results repeat bit for bit, and only what is summed is widened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from alpine_cli.pruning.plan import PruningPlan

__all__ = ["repack", "takes"]

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def takes(hidden_TD: Tensor) -> bool:
    """Whether the kernel knows the dtype."""
    return hidden_TD.dtype in _DTYPES


def repack(hidden_TD: Tensor, plan: PruningPlan, rows: int) -> Tensor:
    """(T, D) → (`rows`, D): see `plan.apply_plan`. Differentiable, once.

    For devices where `kernels.chosen`, dtypes that it `takes`, and plans that remove something.
    """
    return _Repack.apply(hidden_TD, plan, rows)


class _Repack(torch.autograd.Function):
    """Forward: gather and sum. Backward: each token's share of the gradient of its row."""

    @staticmethod
    def forward(ctx: Any, hidden_TD: Tensor, plan: PruningPlan, rows: int) -> Tensor:
        from alpine_cli.pruning.kernels import repack_triton

        ctx.plan = plan
        ctx.weight_T = None if plan.size_T is None else plan.weight_T
        return repack_triton.gather(hidden_TD, plan.members, ctx.weight_T, plan.after.total, rows)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad_RD: Tensor) -> tuple[Tensor, None, None]:
        from alpine_cli.pruning.kernels import repack_triton

        plan: PruningPlan = ctx.plan
        count_R, total = plan.members.count_R, plan.after.total
        return repack_triton.spread(grad_RD, plan.slot_T, count_R, ctx.weight_T, total), None, None
