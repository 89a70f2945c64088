"""The kernel of `selection`: one program owns one sequence."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from alpine_cli.pruning.kernels.launch import index_of

__all__ = ["keep_by_spread"]

_BLOCK = 1024
_SPLIT = 2.0**29 + 1
_WIDEST = 1e30
"""α that float32 holds, and that no score exceeds."""


@triton.jit
def _keep_by_spread(
    scores,
    protected,
    cu_seqlens,
    keep,
    kept,
    alpha,
    alpha_rest,
    TOLERANCE: tl.constexpr,
    TWO_SIDED: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sequence = tl.program_id(0)
    start = tl.load(cu_seqlens + sequence)
    length = (tl.load(cu_seqlens + sequence + 1) - start).to(tl.int32)
    columns = tl.arange(0, BLOCK)

    sums = tl.zeros((BLOCK,), dtype=tl.float64)
    counts = tl.zeros((BLOCK,), dtype=tl.int32)
    for first in range(0, length, BLOCK):
        there = first + columns < length
        rows = start + first + columns
        free = tl.load(protected + rows, mask=there, other=1) == 0
        score = tl.load(scores + rows, mask=there, other=0.0).to(tl.float64)
        sums += tl.where(free, score, 0.0)
        counts += free.to(tl.int32)
    counted = tl.maximum(tl.sum(counts, axis=0), 1).to(tl.float64)
    mean = tl.sum(sums, axis=0) / counted

    squares = tl.zeros((BLOCK,), dtype=tl.float64)
    for first in range(0, length, BLOCK):
        there = first + columns < length
        rows = start + first + columns
        free = tl.load(protected + rows, mask=there, other=1) == 0
        score = tl.load(scores + rows, mask=there, other=0.0).to(tl.float64)
        deviation = tl.where(free, score - mean, 0.0)
        squares += deviation * deviation
    sigma = tl.sqrt(tl.sum(squares, axis=0) / counted)
    width = alpha * sigma + alpha_rest * sigma + TOLERANCE * mean

    stays = tl.zeros((BLOCK,), dtype=tl.int32)
    for first in range(0, length, BLOCK):
        there = first + columns < length
        rows = start + first + columns
        is_protected = tl.load(protected + rows, mask=there, other=0) != 0
        deviation = tl.load(scores + rows, mask=there, other=0.0).to(tl.float64) - mean
        within = deviation >= -width
        if TWO_SIDED:
            within = within & (deviation <= width)
        keeps = (is_protected | within) & there
        tl.store(keep + rows, keeps.to(tl.uint8), mask=there)
        stays += keeps.to(tl.int32)
    tl.store(kept + sequence, tl.sum(stays, axis=0).to(tl.int64))


def keep_by_spread(
    scores_T: Tensor,
    protected_T: Tensor,
    cu_seqlens: Tensor,
    keep_T: Tensor,
    kept_B: Tensor,
    alpha: float,
    tolerance: float,
    two_sided: bool,
) -> None:
    """Fill `keep_T` (T,) uint8 and `kept_B` (B,) int64; B is at least 1.

    α goes as a sum of two float32 numbers: Triton takes no float64 number as an argument.
    """
    alpha = min(alpha, _WIDEST)
    # rounded to the 24 bits of float32 by arithmetic (Veltkamp), which torch.compile can trace
    coarse = alpha * _SPLIT - (alpha * _SPLIT - alpha)
    with torch.cuda.device(index_of(scores_T)):
        _keep_by_spread[(kept_B.shape[0],)](
            scores_T,
            protected_T,
            cu_seqlens,
            keep_T,
            kept_B,
            coarse,
            alpha - coarse,
            TOLERANCE=tolerance,
            TWO_SIDED=two_sided,
            BLOCK=_BLOCK,
            num_warps=4,
        )
