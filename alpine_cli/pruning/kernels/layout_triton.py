"""The kernel of `layout`: one program owns one sequence, and counts the rows of those before it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl
from torch import Tensor

from alpine_cli.pruning.kernels.launch import index_of
from alpine_cli.pruning.packed import Ragged

if TYPE_CHECKING:
    from alpine_cli.pruning.kernels.layout import Layout

__all__ = ["lay_out"]

_BLOCK = 1024
_SEQUENCES = 128


@triton.jit(do_not_specialize=["batch"])
def _lay_out(
    keep,
    kept,
    cu_before,
    cu_after,
    segment,
    slot,
    merged_row,
    removed,
    order,
    first_member,
    member_count,
    batch,
    MERGES: tl.constexpr,
    CAUSAL: tl.constexpr,
    BLOCK: tl.constexpr,
    SEQUENCES: tl.constexpr,
):
    sequence = tl.program_id(0)
    start = tl.load(cu_before + sequence)
    length = tl.load(cu_before + sequence + 1) - start
    stays = tl.load(kept + sequence)
    gone = length - stays
    merged = 0
    if MERGES:
        merged = (gone > 0).to(tl.int64)

    # rows of the sequences before this one, and of all
    earlier = tl.zeros((SEQUENCES,), dtype=tl.int64)
    everything = tl.zeros((SEQUENCES,), dtype=tl.int64)
    for first in range(0, batch, SEQUENCES):
        others = first + tl.arange(0, SEQUENCES)
        there = others < batch
        rows = tl.load(kept + others, mask=there, other=0)
        if MERGES:
            before = tl.load(cu_before + others, mask=there, other=0)
            behind = tl.load(cu_before + others + 1, mask=there, other=0)
            rows += (behind - before > rows).to(tl.int64)
        everything += rows
        earlier += tl.where(others < sequence, rows, 0)
    start_after = tl.sum(earlier, axis=0)
    nowhere = tl.sum(everything, axis=0)

    columns = tl.arange(0, BLOCK)
    last_gone = tl.full((), -1, dtype=tl.int64)
    if CAUSAL:
        highest = tl.full((BLOCK,), -1, dtype=tl.int64)
        for first in range(0, length, BLOCK):
            index = first + columns.to(tl.int64)
            keeps = tl.load(keep + start + index, mask=index < length, other=1) != 0
            highest = tl.maximum(highest, tl.where(keeps, -1, index))
        last_gone = tl.max(highest, axis=0)

    merged_at = nowhere
    if MERGES:
        # before the last removed token stand all the others that are removed, and kept ones
        within = last_gone - gone + 1 if CAUSAL else stays
        merged_at = tl.where(gone > 0, start_after + within, nowhere)
        has_merged = gone > 0
        tl.store(segment + merged_at, sequence.to(tl.int64), mask=has_merged)
        tl.store(first_member + merged_at, (start + stays).to(tl.int32), mask=has_merged)
        tl.store(member_count + merged_at, gone.to(tl.int32), mask=has_merged)
    tl.store(merged_row + sequence, merged_at)
    tl.store(removed + sequence, gone)
    tl.store(cu_after + sequence + 1, start_after + stays + merged)
    tl.store(cu_after + sequence, start_after, mask=sequence == 0)

    rank_before = tl.zeros((), dtype=tl.int64)
    for first in range(0, length, BLOCK):
        index = first + columns.to(tl.int64)
        there = index < length
        keeps = (tl.load(keep + start + index, mask=there, other=0) != 0) & there
        keeps_1 = keeps.to(tl.int64)
        rank = rank_before + tl.cumsum(keeps_1, axis=0) - keeps_1
        row = start_after + rank
        if MERGES and CAUSAL:
            row += ((gone > 0) & (index > last_gone)).to(tl.int64)
        # members in order: kept tokens, each alone in its row, then the removed ones
        place = start + tl.where(keeps, rank, stays + index - rank)
        tl.store(slot + start + index, tl.where(keeps, row, merged_at), mask=there)
        tl.store(order + place, (start + index).to(tl.int32), mask=there)
        tl.store(segment + row, tl.zeros_like(row) + sequence, mask=keeps)
        tl.store(first_member + row, place.to(tl.int32), mask=keeps)
        tl.store(member_count + row, keeps_1.to(tl.int32), mask=keeps)
        rank_before += tl.sum(keeps_1, axis=0)


def lay_out(
    keep_T: Tensor, kept_B: Tensor, ragged: Ragged, layout: Layout, merges: bool, causal: bool
) -> None:
    """Fill `layout`; `keep_T` is (T,) uint8, B at least 1."""
    with torch.cuda.device(index_of(keep_T)):
        _lay_out[(ragged.batch,)](
            keep_T,
            kept_B,
            ragged.cu_seqlens,
            layout.cu_seqlens,
            layout.segment_R,
            layout.slot_T,
            layout.merged_row_B,
            layout.removed_B,
            layout.members.order_T,
            layout.members.first_R,
            layout.members.count_R,
            ragged.batch,
            MERGES=merges,
            CAUSAL=causal,
            BLOCK=_BLOCK,
            SEQUENCES=_SEQUENCES,
            num_warps=4,
        )
