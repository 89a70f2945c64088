"""Which attention kernels a device offers: looked for, and tried, once per process.

Kernels of libraries are believed only after they have solved one small problem on the device, by
forward and backward pass, as attention written out does. What fails is left out with a warning,
and attention goes on without it.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.attention.flash_attn import attend_flash_attn
from alpine_cli.pruning.attention.nested import attend_nested
from alpine_cli.pruning.attention.per_sequence import attend_per_sequence
from alpine_cli.pruning.attention.protocol import Attend, Attended
from alpine_cli.pruning.attention.varlen import attend_varlen
from alpine_cli.pruning.bias import SizeBias
from alpine_cli.pruning.kernels import scores
from alpine_cli.pruning.packed import Ragged

__all__ = ["Availability", "Trial", "availability", "fault_of", "fault_of_scores"]

_FOUND: dict[int, Mapping[str, str]] = {}
"""By GPU; a dictionary and no `functools.cache`, which torch.compile looks through."""

_LENGTHS = (5, 1, 0, 37)
_HEADS, _HEAD = 2, 16
_SCALING = _HEAD**-0.5

Trial = Callable[[torch.device, torch.dtype], str | None]
"""What is wrong on a device in a dtype; None: nothing."""


@dataclass(frozen=True)
class Availability:
    """What a device offers.

    Attributes:
        reasons: by name of a back end that has to be there, why it is not; none where it is.
            "scores" are Triton's.
        kernels: whether alpine's Triton kernels compute scores there.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    kernels: bool = False

    def missing(self, name: str) -> str | None:
        """Why a back end is not there; None if it is."""
        return self.reasons.get(name)


def availability(device: torch.device) -> Availability:
    """What `device` offers; looked up once."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        reasons = _missing_on_cuda(index)
        return Availability(reasons, kernels.chosen(device) and "scores" not in reasons)
    reasons = dict.fromkeys(("varlen", "flash_attn"), f"it is for CUDA (not for {device.type})")
    if device.type != "cpu":
        reasons["nested"] = f"it is for CUDA and CPU (not for {device.type})"
    return Availability(reasons, kernels.chosen(device))


def _missing_on_cuda(index: int) -> Mapping[str, str]:
    if index not in _FOUND:
        # a compiled model must not trace what is tried
        tried = torch.compiler.disable(_try_all) if torch.compiler.is_compiling() else _try_all
        _FOUND[index] = tried(index)
    return _FOUND[index]


def _try_all(index: int) -> Mapping[str, str]:
    """By name of a back end, or "scores" for their kernels, why that GPU does not have it."""
    device, found = torch.device("cuda", index), dict[str, str]()
    half = torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.half
    old = torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0)
    absent = "its kernels need a GPU of compute capability 8.0 or higher" if old else None
    both = (half, torch.float32)
    no_triton = None if kernels.chosen(device) else "Triton does not run there"
    trials: list[tuple[str, Trial, tuple[torch.dtype, ...], str | None]] = [
        ("varlen", partial(_fault_of_either, attend_varlen), (half,), absent or _no_flash()),
        (
            "flash_attn",
            partial(_fault_of_either, attend_flash_attn),
            (half,),
            absent or _no_package(),
        ),
        ("nested", partial(_fault_of_either, attend_nested), both, None),
        ("scores", fault_of_scores, both, no_triton),
    ]
    for name, trial, dtypes, reason in trials:
        for dtype in dtypes:
            if reason is None:
                reason = trial(device, dtype)
                if reason is not None:
                    warnings.warn(
                        f"attention on {device} goes on without {name!r}: {reason}."
                        " Another way takes its place, and may be slower",
                        RuntimeWarning,
                        stacklevel=2,
                    )
        if reason is not None:
            found[name] = reason
    return found


def _no_flash() -> str | None:
    if importlib.util.find_spec("torch.nn.attention.varlen") is None:
        return f"PyTorch {torch.__version__} has no torch.nn.attention.varlen"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of PyTorch has no FlashAttention"
    return None


def _no_package() -> str | None:
    if importlib.util.find_spec("flash_attn") is None:
        return "the package flash-attn is not installed"
    return None


def _fault_of_either(attend: Attend, device: torch.device, dtype: torch.dtype) -> str | None:
    return fault_of(attend, device, dtype) or fault_of(attend, device, dtype, causal=True)


def fault_of(
    attend: Attend, device: torch.device, dtype: torch.dtype, *, causal: bool = False
) -> str | None:
    """What is wrong with a back end on a device: it raises, or its numbers differ. None: nothing.

    Sequences of several lengths, an empty one among them, with a key bias and scores: attended
    values, gradients and scores against `attend_per_sequence` in float32 on the CPU.
    """
    try:
        # Gradients are part of it, whoever asks first; scores come of plain PyTorch, so that
        # nothing but the back end is tried.
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(device.type, enabled=False),
            kernels.forced(False),
        ):
            ours = _solve(attend, device, dtype, causal)
            theirs = _solve(attend_per_sequence, torch.device("cpu"), torch.float32, causal)
    except Exception as error:  # whatever a library raises: an import, a launch, a check
        return _told(error)
    return _difference(("values", "scores", "gradients"), ours, theirs, dtype)


def fault_of_scores(device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with the Triton kernels of scores on a device, against their twins; or None."""
    try:
        with torch.inference_mode(False), torch.no_grad():
            (q, k, _), ragged, sizes_T = _problem(device, dtype)
            bias_T = sizes_T.log()
            ours: list[Tensor] = []
            theirs: list[Tensor] = []
            for found, log_sums, sums in (
                (ours, scores.log_sum_exp, scores.received),
                (theirs, scores.log_sum_exp_plain, scores.received_plain),
            ):
                lse_HT = log_sums(q, k, ragged, scaling=_SCALING, key_bias_T=bias_T)
                found += [lse_HT, sums(q, k, lse_HT, ragged, scaling=_SCALING, key_bias_T=bias_T)]
    except Exception as error:
        return _told(error)
    return _difference(("log-sum-exp", "scores"), ours, [x.cpu() for x in theirs], dtype)


def _told(error: Exception) -> str:
    first_line = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first_line.rstrip('.')}"


def _difference(
    names: Sequence[str], ours: Sequence[Tensor], theirs: Sequence[Tensor], dtype: torch.dtype
) -> str | None:
    # half precision rounds inputs; float32 may be multiplied as TF32
    bound = 0.05 if dtype.itemsize == 2 else 0.01
    for what, mine, slow in zip(names, ours, theirs, strict=True):
        gap = float((mine.cpu().float() - slow).abs().max() / slow.abs().max())
        if not gap < bound:
            return f"on a small problem its {what} differ by {gap:.2g} of the largest"
    return None


def _problem(
    device: torch.device, dtype: torch.dtype
) -> tuple[tuple[Tensor, Tensor, Tensor], Ragged, Tensor]:
    """Queries, keys, values (T, H, d); their layout; sizes (T,). Draws no random numbers."""
    ragged = Ragged.from_lengths(torch.tensor(_LENGTHS, device=device), _LENGTHS)
    places = torch.arange(ragged.total * _HEADS * _HEAD, dtype=torch.float32)
    shape = (ragged.total, _HEADS, _HEAD)
    q, k, v = ((places * step).sin().view(shape).to(device, dtype) for step in (0.7, 1.3, 2.9))
    return (q, k, v), ragged, 1 + torch.arange(ragged.total, device=device).float() % 4


def _solve(
    attend: Attend, device: torch.device, dtype: torch.dtype, causal: bool
) -> tuple[Tensor, ...]:
    """Values, scores and gradients of the problem."""
    qkv, ragged, sizes_T = _problem(device, dtype)
    q, k, v = (x.requires_grad_() for x in qkv)
    attended: Attended = attend(
        q,
        k,
        v,
        ragged,
        scaling=_SCALING,
        dropout=0.0,
        score="received",
        bias=SizeBias(sizes_T),
        causal=causal,
    )
    weights = torch.linspace(-1, 1, q.numel(), device=device).view(q.shape)
    gradients = torch.autograd.grad((attended.out_THd.float() * weights).sum(), (q, k, v))
    assert attended.scores_T is not None
    return attended.out_THd.detach(), attended.scores_T, torch.stack(gradients)
