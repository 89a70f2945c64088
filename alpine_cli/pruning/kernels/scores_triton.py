"""The kernels of `scores`: one program owns a block of keys (or queries) of one head.

A program loops over the other side of the attention matrix in tiles, which stay in registers.
Sums are float32 and their order is fixed: no atomics, so results repeat bit for bit. Products of
float32 inputs are IEEE float32, or TF32 where PyTorch's own CUDA products are
(`torch.backends.cuda.matmul`); those of half precision are exact, summed in float32.

Programs: heads × sequences × blocks of the longest sequence. Those behind the end of their own
sequence leave at once. Nothing is autotuned: compiled for compute capabilities 8.0 and 9.0, the
tiles below fit the 99 KiB of shared memory that every such GPU has. Half precision needs the least;
the most, 97 KiB, heads of 128 in TF32 on 9.0. Numbers and pointers are such that each kernel is
compiled once for a model, whatever the lengths.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from alpine_cli.pruning.kernels.launch import index_of
from alpine_cli.pruning.packed import Ragged

__all__ = ["log_sum_exp", "received"]

# What `triton.jit` below goes by, too. Read once: torch.compile cannot read it.
_INTERPRETED = bool(triton.knobs.runtime.interpret)
_TILE = 64
_TILE_IEEE = 32
"""Without matrix units, larger tiles do not fit the registers."""


# Numbers that follow from lengths: specialised, they would have it compiled anew now and then.
@triton.jit
def _tile(head_rows, rows, row_stride, dims, there, DIM: tl.constexpr, WIDEN: tl.constexpr):
    """Rows of one head, zeros where there is no row or no column."""
    tile = tl.load(
        head_rows + rows[:, None] * row_stride + dims[None, :],
        mask=there[:, None] & (dims[None, :] < DIM),
        other=0.0,
    )
    if WIDEN:
        tile = tile.to(tl.float32)
    return tile


@triton.jit(do_not_specialize=["lse_row", "lse_head", "out_head", "key_blocks"])
def _received(
    q,
    k,
    lse,
    bias,
    cu_seqlens,
    out,
    q_row,
    q_head,
    k_row,
    k_head,
    lse_row,
    lse_head,
    out_head,
    scaling,
    key_blocks,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BIASED: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    program = tl.program_id(0)
    block = program % key_blocks
    head = ((program // key_blocks) % HEADS).to(tl.int64)
    sequence = program // (key_blocks * HEADS)
    start = tl.load(cu_seqlens + sequence)
    length = (tl.load(cu_seqlens + sequence + 1) - start).to(tl.int32)
    if block * BLOCK_K >= length:
        return
    dims = tl.arange(0, BLOCK_D)
    keys = block * BLOCK_K + tl.arange(0, BLOCK_K)
    key_rows = start + keys  # int64, as everything that is multiplied with a stride
    there_k = keys < length
    k_tile = _tile(k + head * k_head, key_rows, k_row, dims, there_k, DIM, WIDEN)
    if BIASED:
        bias_k = tl.load(bias + key_rows, mask=there_k, other=0.0).to(tl.float32)
    received = tl.zeros((BLOCK_K,), dtype=tl.float32)
    first = 0
    if CAUSAL:  # earlier queries do not see these keys
        first = block * BLOCK_K // BLOCK_Q * BLOCK_Q
    for q_start in range(first, length, BLOCK_Q):
        queries = q_start + tl.arange(0, BLOCK_Q)
        query_rows = start + queries
        there_q = queries < length
        q_tile = _tile(q + head * q_head, query_rows, q_row, dims, there_q, DIM, WIDEN)
        # exp(… − ∞) is 0: what queries that do not exist give
        lse_q = tl.load(
            lse + head * lse_head + query_rows * lse_row, mask=there_q, other=float("inf")
        )
        logits = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION) * scaling
        if BIASED:
            logits += bias_k[None, :]
        probs = tl.exp(logits - lse_q[:, None])
        if CAUSAL:
            units = (queries + 1).to(tl.float32)
            probs = tl.where(queries[:, None] >= keys[None, :], probs * units[:, None], 0.0)
        received += tl.sum(probs, axis=0)
    if CAUSAL:
        queries_that_see = tl.maximum(length - keys, 1).to(tl.float32)
        received = received / (HEADS * queries_that_see)
    else:
        received = received / (HEADS * length).to(tl.float32)
    tl.store(out + head * out_head + key_rows, received, mask=there_k)


@triton.jit(do_not_specialize=["out_head", "query_blocks"])
def _log_sum_exp(
    q,
    k,
    bias,
    cu_seqlens,
    out,
    q_row,
    q_head,
    k_row,
    k_head,
    out_head,
    scaling,
    query_blocks,
    HEADS: tl.constexpr,
    DIM: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BIASED: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
    WIDEN: tl.constexpr,
):
    program = tl.program_id(0)
    block = program % query_blocks
    head = ((program // query_blocks) % HEADS).to(tl.int64)
    sequence = program // (query_blocks * HEADS)
    start = tl.load(cu_seqlens + sequence)
    length = (tl.load(cu_seqlens + sequence + 1) - start).to(tl.int32)
    if block * BLOCK_Q >= length:
        return
    dims = tl.arange(0, BLOCK_D)
    queries = block * BLOCK_Q + tl.arange(0, BLOCK_Q)
    query_rows = start + queries
    there_q = queries < length
    q_tile = _tile(q + head * q_head, query_rows, q_row, dims, there_q, DIM, WIDEN)
    highest = tl.full((BLOCK_Q,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_Q,), dtype=tl.float32)
    stop = length
    if CAUSAL:  # later keys are hidden from these queries
        stop = tl.minimum(length, (block + 1) * BLOCK_Q)
    for k_start in range(0, stop, BLOCK_K):
        keys = k_start + tl.arange(0, BLOCK_K)
        key_rows = start + keys
        there_k = keys < length
        k_tile = _tile(k + head * k_head, key_rows, k_row, dims, there_k, DIM, WIDEN)
        logits = tl.dot(q_tile, tl.trans(k_tile), input_precision=PRECISION) * scaling
        if BIASED:
            logits += tl.load(bias + key_rows, mask=there_k, other=0.0).to(tl.float32)[None, :]
        seen = there_k[None, :]
        if CAUSAL:
            seen = seen & (queries[:, None] >= keys[None, :])
        logits = tl.where(seen, logits, float("-inf"))
        higher = tl.maximum(highest, tl.max(logits, axis=1))
        # as long as all keys are hidden the highest is −∞, and −∞ − (−∞) would be NaN
        safe = tl.where(higher == float("-inf"), 0.0, higher)
        total = total * tl.exp(highest - safe) + tl.sum(tl.exp(logits - safe[:, None]), axis=1)
        highest = higher
    tl.store(out + head * out_head + query_rows, highest + tl.log(total), mask=there_q)


def received(
    q_THd: Tensor,
    k_THd: Tensor,
    lse_HT: Tensor,
    ragged: Ragged,
    scaling: float,
    key_bias_T: Tensor | None,
    causal: bool,
) -> Tensor:
    """See `scores.received`; T is at least 1."""
    q_THd, k_THd, shape = _prepared(q_THd, k_THd, causal, key_bias_T)
    heads = q_THd.shape[1]
    by_head_HT = torch.empty(heads, ragged.total, dtype=torch.float32, device=q_THd.device)
    key_blocks = triton.cdiv(ragged.longest, shape["BLOCK_K"])
    with torch.cuda.device(index_of(q_THd)):
        _received[(ragged.batch * heads * key_blocks,)](
            q_THd,
            k_THd,
            lse_HT,
            None if key_bias_T is None else key_bias_T.contiguous(),
            ragged.cu_seqlens,
            by_head_HT,
            q_THd.stride(0),
            q_THd.stride(1),
            k_THd.stride(0),
            k_THd.stride(1),
            lse_HT.stride(1),
            lse_HT.stride(0),
            by_head_HT.stride(0),
            scaling,
            key_blocks,
            **shape,
        )
    return by_head_HT.sum(dim=0)


def log_sum_exp(
    q_THd: Tensor,
    k_THd: Tensor,
    ragged: Ragged,
    scaling: float,
    key_bias_T: Tensor | None,
    causal: bool,
) -> Tensor:
    """See `scores.log_sum_exp`; T is at least 1."""
    q_THd, k_THd, shape = _prepared(q_THd, k_THd, causal, key_bias_T)
    heads = q_THd.shape[1]
    lse_HT = torch.empty(heads, ragged.total, dtype=torch.float32, device=q_THd.device)
    query_blocks = triton.cdiv(ragged.longest, shape["BLOCK_Q"])
    with torch.cuda.device(index_of(q_THd)):
        _log_sum_exp[(ragged.batch * heads * query_blocks,)](
            q_THd,
            k_THd,
            None if key_bias_T is None else key_bias_T.contiguous(),
            ragged.cu_seqlens,
            lse_HT,
            q_THd.stride(0),
            q_THd.stride(1),
            k_THd.stride(0),
            k_THd.stride(1),
            lse_HT.stride(0),
            scaling,
            query_blocks,
            **shape,
        )
    return lse_HT


@torch.compiler.assume_constant_result  # torch.compile cannot read it, but guards what it says
def _products_are_tf32() -> bool:
    # not allow_tf32: reading that raises where the newer setting was written
    return torch.backends.cuda.matmul.fp32_precision == "tf32"


def _prepared(
    q_THd: Tensor, k_THd: Tensor, causal: bool, key_bias_T: Tensor | None
) -> tuple[Tensor, Tensor, dict[str, int | bool | str]]:
    """Queries and keys with dense last dimensions, and what the kernels are compiled for."""
    q_THd, k_THd = (x if x.stride(2) == 1 else x.contiguous() for x in (q_THd, k_THd))
    single = q_THd.dtype == torch.float32
    tf32 = single and _products_are_tf32()
    tile = _TILE_IEEE if single and not tf32 else _TILE
    return (
        q_THd,
        k_THd,
        {
            "HEADS": q_THd.shape[1],
            "DIM": q_THd.shape[2],
            "BLOCK_D": max(16, triton.next_power_of_2(q_THd.shape[2])),
            "BLOCK_Q": tile,
            "BLOCK_K": tile,
            "BIASED": key_bias_T is not None,
            "CAUSAL": causal,
            "PRECISION": "tf32" if tf32 else "ieee",  # of float32; else without meaning
            # the interpreter multiplies the bits of bfloat16 as if they were integers
            "WIDEN": _INTERPRETED and q_THd.dtype == torch.bfloat16,
            "num_warps": 4,
            "num_stages": 2,
        },
    )
