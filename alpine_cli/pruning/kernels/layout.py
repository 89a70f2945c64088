"""Where kept and removed tokens go, of all sequences in one launch: from a mask to slots.

Twin: what `selection.plan_keep` does in some twenty small operations, and the members of each slot
as `plan.members_by_sort` finds them. All that the kernel computes is known on the device only, so
it can run before the host has learned the lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import Members

__all__ = ["Layout", "lay_out"]


@dataclass(frozen=True)
class Layout:
    """A plan as the device knows it, rows in tensors of T: that there are T' the host must say.

    Attributes:
        cu_seqlens: (B + 1,) int64 of the shorter sequences.
        segment_R: (T,) int64, the sequence of each of the first T' rows.
        slot_T: (T,) int64, see `PruningPlan`.
        merged_row_B: (B,) int64, see `PruningPlan`.
        removed_B: (B,) int64, see `PruningPlan`.
        members: of each of the first T' rows.
    """

    cu_seqlens: Tensor
    segment_R: Tensor
    slot_T: Tensor
    merged_row_B: Tensor
    removed_B: Tensor
    members: Members


def lay_out(
    keep_T: Tensor, kept_B: Tensor, ragged: Ragged, *, merges: bool, causal: bool
) -> Layout:
    """Lay out what `keep_T` leaves. For devices where `kernels.chosen`; copies nothing to the host.

    Args:
        keep_T: (T,) bool.
        kept_B: (B,) int64, how many of each sequence that keeps; B is at least 1.
        ragged: layout of the T tokens.
        merges: whether the removed tokens of a sequence share a slot; else they go nowhere.
        causal: whether that slot stands in the place of the last of them; else behind all.
    """
    from alpine_cli.pruning.kernels import layout_triton

    # Tensors of their own, not rows of one: Triton compiles anew where the alignment of a pointer
    # changes, and that of a row would change with T.
    segment_R, slot_T = (
        torch.empty(ragged.total, dtype=torch.int64, device=keep_T.device) for _ in range(2)
    )
    order_T, first_R, count_R = (
        torch.empty(ragged.total, dtype=torch.int32, device=keep_T.device) for _ in range(3)
    )
    merged_row_B, removed_B = (
        torch.empty(ragged.batch, dtype=torch.int64, device=keep_T.device) for _ in range(2)
    )
    layout = Layout(
        torch.empty_like(ragged.cu_seqlens),
        segment_R,
        slot_T,
        merged_row_B,
        removed_B,
        Members(order_T, first_R, count_R),
    )
    layout_triton.lay_out(
        keep_T.contiguous().view(torch.uint8), kept_B, ragged, layout, merges, causal
    )
    return layout
