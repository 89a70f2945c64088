"""The kernels of `repack`: a program owns a row of the result, or a block of tokens.

Most rows hold one token and are copied as they are. A merged row can have hundreds of members:
they are added up a block at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from alpine_cli.pruning.kernels.launch import index_of

if TYPE_CHECKING:
    from alpine_cli.pruning.plan import Members

__all__ = ["gather", "spread"]

_WIDEST_BLOCK = 256
_TOKENS = 8
_MEMBERS = 16
_MEMBERS_WEIGHTED = 4
"""Where each row takes in those most like it, they are few."""


@triton.jit(do_not_specialize=["total"])
def _gather(
    hidden,
    out,
    order,
    first_member,
    member_count,
    weight,
    hidden_row,
    total,
    WIDTH: tl.constexpr,
    WIDE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    # From the last row on: merged rows, the slow ones, come before the kept ones they stand behind,
    # and are not what a launch waits for in the end.
    row = (tl.num_programs(0) - 1 - tl.program_id(0)).to(tl.int64)
    dims = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    there_d = dims < WIDTH
    count = tl.load(member_count + row, mask=row < total, other=0)
    first = tl.load(first_member + row, mask=row < total, other=0)
    if count == 1:
        token = tl.load(order + first).to(tl.int64)
        alone = tl.load(hidden + token * hidden_row + dims, mask=there_d, other=0.0)
        tl.store(out + row * WIDTH + dims, alone, mask=there_d)
    else:
        merged = tl.zeros((BLOCK_D,), dtype=WIDE)
        for start in range(0, count, BLOCK_M):
            members = start + tl.arange(0, BLOCK_M)
            there_m = members < count
            tokens = tl.load(order + first + members, mask=there_m, other=0).to(tl.int64)
            rows = tl.load(
                hidden + tokens[:, None] * hidden_row + dims[None, :],
                mask=there_m[:, None] & there_d[None, :],
                other=0.0,
            ).to(WIDE)
            if WEIGHTED:
                rows *= tl.load(weight + tokens, mask=there_m, other=0.0).to(WIDE)[:, None]
            merged += tl.sum(rows, axis=0)
        if not WEIGHTED:
            merged *= 1.0 / tl.maximum(count, 1).to(WIDE)
        tl.store(out + row * WIDTH + dims, merged.to(out.dtype.element_ty), mask=there_d)


@triton.jit(do_not_specialize=["tokens_total", "total"])
def _spread(
    grad,
    out,
    slot,
    member_count,
    weight,
    grad_row,
    tokens_total,
    total,
    WIDTH: tl.constexpr,
    WIDE: tl.constexpr,
    WEIGHTED: tl.constexpr,
    BLOCK_T: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    tokens = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    dims = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
    there_d = dims < WIDTH
    there_t = tokens < tokens_total
    rows = tl.load(slot + tokens, mask=there_t, other=0)
    lives = there_t & (rows < total)
    if WEIGHTED:
        share = tl.load(weight + tokens, mask=lives, other=0.0).to(WIDE)
    else:
        share = 1.0 / tl.load(member_count + rows, mask=lives, other=1).to(WIDE)
    grads = tl.load(
        grad + rows[:, None] * grad_row + dims[None, :],
        mask=lives[:, None] & there_d[None, :],
        other=0.0,
    ).to(WIDE)
    grads *= share[:, None]
    tl.store(
        out + tokens[:, None] * WIDTH + dims[None, :],
        grads.to(out.dtype.element_ty),
        mask=there_t[:, None] & there_d[None, :],
    )


def gather(
    hidden_TD: Tensor, members: Members, weight_T: Tensor | None, total: int, rows: int
) -> Tensor:
    """(rows, D): weighted sums, or without weights means, of each row's members; zeros behind T'.

    Args:
        hidden_TD: (T, D).
        members: which tokens share each of the `total` rows.
        weight_T: (T,) float32 that sum to 1 in each row; None weighs them alike.
        total: T'.
        rows: at least T'.
    """
    hidden_TD = hidden_TD if hidden_TD.stride(1) == 1 else hidden_TD.contiguous()
    width = hidden_TD.shape[1]
    out = torch.empty(rows, width, dtype=hidden_TD.dtype, device=hidden_TD.device)
    if out.numel() == 0:
        return out
    block = _block(width)
    with torch.cuda.device(index_of(hidden_TD)):
        _gather[(rows, triton.cdiv(width, block))](
            hidden_TD,
            out,
            members.order_T,
            members.first_R,
            members.count_R,
            weight_T,
            hidden_TD.stride(0),
            total,
            WIDTH=width,
            WIDE=_wide(hidden_TD.dtype),
            WEIGHTED=weight_T is not None,
            BLOCK_M=_MEMBERS if weight_T is None else _MEMBERS_WEIGHTED,
            BLOCK_D=block,
            num_warps=1,  # a warp reads a row's block in vectors, and sums without exchange,
        )
    return out


def spread(
    grad_RD: Tensor, slot_T: Tensor, count_R: Tensor, weight_T: Tensor | None, total: int
) -> Tensor:
    """(T, D): of each token its weight times the gradient of its row; zeros where it has none.

    Args:
        grad_RD: (rows, D), rows at least T'.
        slot_T: (T,) int64, row of each token; T' for none.
        count_R: (T',) int32, members of each row; what weighs them without weights.
        weight_T: (T,) float32 or None, as it was given to `gather`.
        total: T'.
    """
    grad_RD = grad_RD if grad_RD.stride(1) == 1 else grad_RD.contiguous()
    tokens, width = slot_T.shape[0], grad_RD.shape[1]
    out = torch.empty(tokens, width, dtype=grad_RD.dtype, device=grad_RD.device)
    if out.numel() == 0:
        return out
    block = _block(width)
    with torch.cuda.device(index_of(grad_RD)):
        _spread[(triton.cdiv(tokens, _TOKENS), triton.cdiv(width, block))](
            grad_RD,
            out,
            slot_T,
            count_R,
            weight_T,
            grad_RD.stride(0),
            tokens,
            total,
            WIDTH=width,
            WIDE=_wide(grad_RD.dtype),
            WEIGHTED=weight_T is not None,
            BLOCK_T=_TOKENS,
            BLOCK_D=block,
            num_warps=4,
        )
    return out


def _block(width: int) -> int:
    return min(_WIDEST_BLOCK, max(16, triton.next_power_of_2(width)))


def _wide(dtype: torch.dtype) -> tl.dtype:
    return tl.float64 if dtype == torch.float64 else tl.float32
