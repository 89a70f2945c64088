"""Which back end serves an attention call: a choice among those that can, by what is asked for.

    per_sequence   any request; what CPUs use
    varlen         CUDA, half precision, no dropout, biases of keys; PyTorch's own
    flash_attn     CUDA, half precision, biases of keys; the package flash-attn, if installed
    nested         CUDA, biases of keys; dropout and float32, too
    padded         any request; everything else

Of those that can serve a request on CUDA the first in this order does, except that `nested` is left
out where sequences are of one length, for padding then costs nothing, and that none but `padded`
takes scores of attention received without Triton, which computes them from queries and keys
(`kernels.scores`). On a CPU `per_sequence` serves everything, on other devices `padded`.

`attention_backend` overrules the choice, for benchmarks and for finding faults.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from alpine_cli.pruning.attention.availability import Availability, availability
from alpine_cli.pruning.attention.flash_attn import attend_flash_attn
from alpine_cli.pruning.attention.fused import attention_dtype, widened_head
from alpine_cli.pruning.attention.nested import attend_nested
from alpine_cli.pruning.attention.padded import attend_padded
from alpine_cli.pruning.attention.per_sequence import attend_per_sequence
from alpine_cli.pruning.attention.protocol import Attend
from alpine_cli.pruning.attention.varlen import attend_varlen
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.kernels.scores import WIDEST_HEAD
from alpine_cli.pruning.packed import Ragged

__all__ = [
    "BACKENDS",
    "BackendName",
    "Request",
    "attention_backend",
    "backend_name",
    "choose_backend",
    "refusal",
]

BackendName = Literal["per_sequence", "varlen", "flash_attn", "nested", "padded"]

BACKENDS: dict[str, Attend] = {
    "per_sequence": attend_per_sequence,
    "varlen": attend_varlen,
    "flash_attn": attend_flash_attn,
    "nested": attend_nested,
    "padded": attend_padded,
}

_HALF = (torch.float16, torch.bfloat16)
_LARGEST_HEAD = 256
_LARGEST_TRAINED_HEAD = 192
"""Beyond it the backward pass of FlashAttention 2 exists on few GPUs."""

# What `attention_backend` says. A plain global: torch.compile traces no ContextVar.
_forced: BackendName | None = None


@dataclass(frozen=True)
class Request:
    """What an attention call asks for, as far as back ends differ by it.

    Attributes:
        device: where.
        dtype: in which attention runs, autocast considered (`fused.attention_dtype`).
        head: head size.
        bias: "key" if it depends on the key alone; "pair" otherwise.
        causal: whether later keys are hidden.
        dropout: whether attention probabilities are dropped.
        trains: whether gradients may be asked for. Where they are switched off, too: reentrant
            checkpointing runs a layer so first, and again with them. (That inference mode is on,
            which would tell it from this, torch.compile cannot trace.)
        score: which scores are wanted.
        even: whether all sequences are of one length.
    """

    device: torch.device
    dtype: torch.dtype = torch.float32
    head: int = 64
    bias: Literal["none", "key", "pair"] = "none"
    causal: bool = False
    dropout: bool = False
    trains: bool = False
    score: Score | None = None
    even: bool = False

    @classmethod
    def of(
        cls,
        q_THd: Tensor,
        k_THd: Tensor,
        v_THd: Tensor,
        ragged: Ragged,
        *,
        dropout: float,
        score: Score | None,
        bias: LogitBias | None = None,
        causal: bool = False,
    ) -> Request:
        """The request that a call of `Attend` makes."""
        tensors = (q_THd, k_THd, v_THd)
        kind: Literal["none", "key", "pair"] = "none"
        if bias is not None:
            kind = "pair" if bias.key_T() is None else "key"
        return cls(
            device=q_THd.device,
            dtype=attention_dtype(q_THd),
            head=q_THd.shape[2],
            bias=kind,
            causal=causal,
            dropout=dropout > 0,
            trains=not torch.is_grad_enabled() or any(x.requires_grad for x in tensors),
            score=score,
            even=ragged.even,
        )


def choose_backend(request: Request, there: Availability | None = None) -> Attend:
    """The back end that serves a request best, or the one that `attention_backend` names.

    Args:
        request: what is asked for.
        there: what the device offers; None looks.

    Raises:
        PruningError: the back end named cannot serve the request; the message says why.
    """
    if _forced is None and request.device.type == "cpu":
        return attend_per_sequence
    there = availability(request.device) if there is None else there
    if _forced is not None:
        reason = refusal(_forced, request, there)
        if reason is not None:
            raise PruningError(
                f"attention_backend({_forced!r}) cannot serve this model here: {reason}."
                f" On {request.device} would: {', '.join(_able(request, there))}"
            )
        return BACKENDS[_forced]
    return BACKENDS[_best(request, there)]


def backend_name(attend: Attend) -> str:
    """What a back end is called in `BACKENDS`; a stranger's own name."""
    known = (name for name, candidate in BACKENDS.items() if candidate is attend)
    return next(known, getattr(attend, "__name__", type(attend).__name__))


def _best(request: Request, there: Availability) -> BackendName:
    scored = request.score != "received" or (there.kernels and request.head <= WIDEST_HEAD)
    if request.device.type != "cuda" or not scored:
        return "padded"
    able = _able(request, there)
    ranked: tuple[BackendName, ...] = ("varlen", "flash_attn", "nested")
    if request.even:
        ranked = ("varlen", "flash_attn")
    return next((name for name in ranked if name in able), "padded")


def _able(request: Request, there: Availability) -> list[BackendName]:
    return [name for name in get_args(BackendName) if refusal(name, request, there) is None]


def refusal(name: BackendName, request: Request, there: Availability) -> str | None:
    """Why a back end cannot serve a request; None if it can."""
    limits: list[tuple[bool, str]] = []
    if name in ("varlen", "flash_attn", "nested"):
        limits.append(
            (
                request.bias == "pair",
                "it takes biases of keys only, and this layer has"
                " position biases or a mask of who attends to whom",
            )
        )
        missing = there.missing(name)
        limits.append((missing is not None, missing or ""))
        # others are told of below, by what back ends take
        untried = request.dtype in (*_HALF, torch.float32) and request.dtype not in there.dtypes
        limits.append((untried, f"this GPU does not compute in {request.dtype}"))
    if name in ("varlen", "flash_attn"):
        limits += _flash_limits(request)
    if name == "varlen":
        limits.append((request.dropout, "it has no attention dropout"))
    if name == "nested":
        on_cpu = request.device.type == "cpu"
        limits.append((on_cpu and request.causal, "it is not causal on a CPU"))
        wide = not on_cpu and request.dtype not in (*_HALF, torch.float32)
        limits.append((wide, f"it computes in half precision or float32 (got {request.dtype})"))
    return next((reason for holds, reason in limits if holds), None)


def _flash_limits(request: Request) -> list[tuple[bool, str]]:
    head = widened_head(request.head, request.bias == "key")
    largest = _LARGEST_TRAINED_HEAD if request.trains else _LARGEST_HEAD
    return [
        (request.dtype not in _HALF, f"it computes in half precision (got {request.dtype})"),
        (head > largest, f"heads may have {largest} columns at most (got {head})"),
    ]


@contextmanager
def attention_backend(name: BackendName | None) -> Iterator[None]:
    """Let the packed engine attend by one back end, whatever it would choose.

    Holds for what is called within, in all threads: use it in one at a time. None takes the choice
    back. A call that the back end cannot serve raises PruningError and says why, and layers run
    again by gradient checkpointing stay with the back end of the first time.

    Raises:
        PruningError: there is no back end of that name.
    """
    known = get_args(BackendName)
    if name is not None and name not in known:
        raise PruningError(f"attention_backend: must be one of {', '.join(known)} (got {name!r})")
    global _forced
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before
