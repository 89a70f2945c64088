"""Stand-ins for attention kernels that run on GPUs only, by their documented contracts.

Each computes attention in plain PyTorch, one sequence after the other, and refuses what the real
function refuses. They stand at the library's boundary: what is tested above them is alpine's own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


class FlashKernel:
    """FlashAttention over packed sequences.

    Attributes:
        layout: of the log-sum-exp: "HT" as CUDA kernels write it, "TH" as documented, "BHL" as
            those of ROCm and older packages write it.
        dtypes: what it takes; real ones take half precision only.
        dropouts: the dropout of every call.
        seen: dtype and head size of every call.
        asked_lse: whether each call asked for the log-sum-exp.
    """

    def __init__(self, layout: str = "HT", dtypes: tuple[torch.dtype, ...] = HALF) -> None:
        self.layout, self.dtypes = layout, dtypes
        self.dropouts: list[float] = []
        self.seen: list[tuple[torch.dtype, int]] = []
        self.asked_lse: list[bool] = []

    def run(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_q: Tensor,
        cu_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        scale: float,
        dropout: float,
        causal: bool,
        wants_lse: bool,
    ) -> tuple[Tensor, Tensor]:
        """Values (T, H, d), and the log-sum-exp in this kernel's layout."""
        self._check(q, k, v, cu_q, cu_k, max_q, max_k)
        self.dropouts.append(dropout)
        self.seen.append((q.dtype, q.shape[2]))
        self.asked_lse.append(wants_lse)
        with torch.autocast("cpu", enabled=False):  # which is nothing to a kernel
            return self._attend(q, k, v, cu_q, scale, dropout, causal)

    def _attend(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_q: Tensor,
        scale: float,
        dropout: float,
        causal: bool,
    ) -> tuple[Tensor, Tensor]:
        outs, lses = [], []
        for start, stop in zip(cu_q.tolist()[:-1], cu_q.tolist()[1:], strict=True):
            rows = slice(start, stop)
            logits = torch.einsum("qhd,khd->hqk", q[rows].float(), k[rows].float()) * scale
            if causal:
                hidden = torch.ones(stop - start, stop - start, dtype=torch.bool).triu(1)
                logits = logits.masked_fill(hidden, -torch.inf)
            lses.append(logits.logsumexp(-1))
            probs = torch.dropout(logits.softmax(-1), dropout, dropout > 0)
            outs.append(torch.einsum("hqk,khd->qhd", probs, v[rows].float()).to(q.dtype))
        return torch.cat(outs), self._laid_out(lses)

    def _check(
        self, q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int
    ) -> None:
        for x in (q, k, v):
            if x.dtype not in self.dtypes:
                raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
            if x.stride(-1) != 1:
                raise RuntimeError("Input tensor must have contiguous last dimension")
        if not q.shape == k.shape == v.shape or q.dim() != 3:
            raise RuntimeError("q, k and v must be (total, heads, head_size)")
        if q.shape[2] % 8 or q.shape[2] > 256:
            raise RuntimeError("head_size must be a multiple of 8 and at most 256")
        if cu_q.dtype != torch.int32 or cu_k.dtype != torch.int32:
            raise RuntimeError("cu_seqlens must have dtype int32")
        lengths = cu_q.diff()
        if cu_q[0] != 0 or cu_q[-1] != q.shape[0] or not torch.equal(cu_q, cu_k):
            raise RuntimeError("cu_seqlens do not cover the rows")
        if int(lengths.min()) < 1:
            raise AssertionError("alpine shows kernels no empty sequence")
        if not max_q == max_k == int(lengths.max()):
            raise RuntimeError("max_seqlen is not the longest sequence's")

    def _laid_out(self, lses: list[Tensor]) -> Tensor:
        if self.layout == "BHL":
            longest = max(lse.shape[1] for lse in lses)
            return torch.stack(
                [torch.nn.functional.pad(x, (0, longest - x.shape[1])) for x in lses]
            )
        lse = torch.cat(lses, 1)
        return lse if self.layout == "HT" else lse.T.contiguous()


def varlen_attn(kernel: FlashKernel, *, has_splits: bool = True) -> Callable[..., Any]:
    """`torch.nn.attention.varlen.varlen_attn`, with the signature of 2.12 or of 2.11."""

    def attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: float | None = None,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Any:
        causal = window_size == (-1, 0)
        if not causal and window_size != (-1, -1):
            raise AssertionError(f"a window of {window_size}")
        wants_lse = return_aux is not None and return_aux.lse
        out, lse = kernel.run(
            query,
            key,
            value,
            cu_seq_q,
            cu_seq_k,
            max_q,
            max_k,
            scale=query.shape[-1] ** -0.5 if scale is None else scale,
            dropout=0.0,
            causal=causal,
            wants_lse=wants_lse,
        )
        return (out, lse) if wants_lse else out

    if not has_splits:
        return attn

    def attn_2_12(*args: Any, num_splits: int | None = None, **kwargs: Any) -> Any:
        splits.append(num_splits)
        return attn(*args, **kwargs)

    splits: list[int | None] = []
    attn_2_12.splits = splits  # type: ignore[attr-defined]
    return attn_2_12


class FlashAttnPackage:
    """The module `flash_attn`."""

    def __init__(self, kernel: FlashKernel) -> None:
        self.kernel = kernel
        self.deterministic: list[bool] = []

    def flash_attn_varlen_func(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        cu_seqlens_q: Tensor,
        cu_seqlens_k: Tensor,
        max_seqlen_q: int,
        max_seqlen_k: int,
        dropout_p: float = 0.0,
        softmax_scale: float | None = None,
        causal: bool = False,
        window_size: tuple[int, int] = (-1, -1),
        softcap: float = 0.0,
        alibi_slopes: Tensor | None = None,
        deterministic: bool = False,
        return_attn_probs: bool = False,
        block_table: Tensor | None = None,
    ) -> Any:
        """As of flash-attn 2.8."""
        if return_attn_probs and dropout_p:
            raise AssertionError("that makes a (B, H, L, L) matrix")
        self.deterministic.append(deterministic)
        out, lse = self.kernel.run(
            q,
            k,
            v,
            cu_seqlens_q,
            cu_seqlens_k,
            max_seqlen_q,
            max_seqlen_k,
            scale=q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale,
            dropout=dropout_p,
            causal=causal,
            wants_lse=return_attn_probs,
        )
        return (out, lse, None) if return_attn_probs else out
