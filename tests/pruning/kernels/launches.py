"""Launches as Triton binds them on a GPU, of tensors on a CPU: nothing runs, no GPU is needed.

For a process where Triton's interpreter is off. Triton compiles a kernel anew for every type of an
argument, number divisible by 16 or equal to 1, and address divisible by 16; `variant` is all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, make_backend
from triton.runtime.jit import create_function_from_signature

from alpine_cli.pruning.kernels import (
    carry_triton,
    layout,
    layout_triton,
    repack_triton,
    scores_triton,
    selection_triton,
)
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import Members

KERNELS = [
    (carry_triton, "_carry"),
    (layout_triton, "_lay_out"),
    (repack_triton, "_gather"),
    (repack_triton, "_spread"),
    (scores_triton, "_received"),
    (scores_triton, "_log_sum_exp"),
    (selection_triton, "_keep_by_spread"),
]


class Launch(NamedTuple):
    """One launch: the kernel, and what it would be compiled for."""

    name: str
    variant: str
    compile: Callable[[int], Any]


@contextmanager
def watched() -> Iterator[list[Launch]]:
    """The launches made within, none of which runs."""
    seen: list[Launch] = []
    with ExitStack() as stack:
        for room, name in KERNELS:
            stack.enter_context(patch.object(room, name, _Watched(name, getattr(room, name), seen)))
        yield seen


class _Watched:
    def __init__(self, name: str, kernel: Any, seen: list[Launch]) -> None:
        self.name, self.kernel, self.seen = name, kernel, seen

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        assert all(programs > 0 for programs in grid)
        return self._launch

    def _launch(self, *args: Any, **kwargs: Any) -> None:
        def bound(capability: int) -> tuple[ASTSource, Any, dict[str, Any]]:
            kernel, target = self.kernel, GPUTarget("cuda", capability, 32)
            backend = make_backend(target)
            bind = create_function_from_signature(kernel.signature, kernel.params, backend)
            values, specialization, options = bind(*args, **kwargs)
            _, signature, constants, attrs = kernel._pack_args(
                backend, kwargs, values, specialization, options
            )
            return ASTSource(kernel, signature, constants, attrs), target, options

        def compiled(capability: int) -> Any:
            source, target, options = bound(capability)
            return triton.compile(source, target=target, options=options)

        source, _, options = bound(80)
        variant = repr((source.signature, source.constants, source.attrs, options))
        self.seen.append(Launch(self.name, variant, compiled))


def scores(
    ragged: Ragged, heads: int, dim: int, dtype: torch.dtype, *, biased: bool, causal: bool
) -> None:
    """Log-sum-exp and scores of a fused projection's queries and keys."""
    qkv = torch.empty(ragged.total, 3, heads, dim, dtype=dtype)
    bias = torch.empty(ragged.total) if biased else None
    q, k = qkv[:, 0], qkv[:, 1]
    lse = scores_triton.log_sum_exp(q, k, ragged, 0.1, bias, causal)
    scores_triton.received(q, k, lse, ragged, 0.1, bias, causal)


def plans(ragged: Ragged, width: int, dtype: torch.dtype, *, sized: bool, causal: bool) -> None:
    """From scores to shorter hidden states and their gradient, half the tokens staying."""
    total, kept = ragged.total, [n // 2 for n in ragged.lengths]
    after = sum(kept) + ragged.batch
    keep = torch.empty(total, dtype=torch.bool)
    kept_B = torch.empty(ragged.batch, dtype=torch.int64)
    selection_triton.keep_by_spread(
        torch.empty(total),
        keep.view(torch.uint8),
        ragged.cu_seqlens,
        keep.view(torch.uint8),
        kept_B,
        0.7,
        2e-6,
        True,
    )
    made = layout.lay_out(keep, kept_B, ragged, merges=True, causal=causal)
    weight = torch.empty(total) if sized else None
    members = Members(*made.members.__dict__.values())
    hidden = torch.empty(total, width, dtype=dtype)
    out = repack_triton.gather(hidden, members, weight, after, after)
    repack_triton.spread(out, made.slot_T, members.count_R, weight, after)
    carry_triton.carry(
        torch.empty(total, dtype=torch.int64),
        keep.view(torch.uint8),
        keep.view(torch.uint8),
        made.slot_T,
        torch.empty(after, dtype=torch.int64),
        torch.empty(after, dtype=torch.uint8),
        -1,
        sized,
    )
