"""The kernel of `carry`: one program owns a block of tokens.

Where removed tokens share a slot, all of them write it, and all the same.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from alpine_cli.pruning.kernels.launch import index_of

__all__ = ["carry"]

_BLOCK = 1024


@triton.jit(do_not_specialize=["merged", "tokens_total", "total"])
def _carry(
    source,
    special,
    keep,
    slot,
    source_out,
    special_out,
    merged,
    tokens_total,
    total,
    SIZED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    tokens = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    there = tokens < tokens_total
    row = tl.load(slot + tokens, mask=there, other=0)
    keeps = tl.load(keep + tokens, mask=there, other=0) != 0
    writes = there & (row < total)
    if SIZED:  # a kept token among those that share a slot speaks for all
        writes = writes & keeps
    own_source = tl.load(source + tokens, mask=there, other=0)
    is_special = (tl.load(special + tokens, mask=there, other=0) != 0) & keeps
    tl.store(source_out + row, tl.where(keeps, own_source, merged), mask=writes)
    tl.store(special_out + row, is_special.to(tl.uint8), mask=writes)


def carry(
    source_T: Tensor,
    special_T: Tensor,
    keep_T: Tensor,
    slot_T: Tensor,
    source_R: Tensor,
    special_R: Tensor,
    merged: int,
    sized: bool,
) -> None:
    """Fill `source_R` (T',) int64 and `special_R` (T',) uint8; masks are uint8, T at least 1."""
    tokens = slot_T.shape[0]
    with torch.cuda.device(index_of(slot_T)):
        _carry[(triton.cdiv(tokens, _BLOCK),)](
            source_T,
            special_T,
            keep_T,
            slot_T,
            source_R,
            special_R,
            merged,
            tokens,
            source_R.shape[0],
            SIZED=sized,
            BLOCK=_BLOCK,
            num_warps=4,
        )
