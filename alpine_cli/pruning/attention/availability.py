"""Which attention kernels a device offers: looked for, and tried, once per process.

Kernels of libraries are believed only after they have solved one small problem on the device, by
forward and backward pass, as attention written out does; those that serve training with dropout
once more with it. What fails is left out with a warning, and attention goes on without it.

Nothing is tried while a CUDA graph is captured: attention is padded then, unless the model ran
before.
"""

from __future__ import annotations

import importlib.util
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from alpine_cli.pruning import kernels, trials
from alpine_cli.pruning.attention.flash_attn import attend_flash_attn
from alpine_cli.pruning.attention.nested import attend_nested
from alpine_cli.pruning.attention.per_sequence import attend_per_sequence
from alpine_cli.pruning.attention.protocol import Attend, Attended
from alpine_cli.pruning.attention.varlen import attend_varlen
from alpine_cli.pruning.bias import SizeBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.kernels import scores
from alpine_cli.pruning.packed import Ragged

__all__ = [
    "Availability",
    "Trial",
    "availability",
    "fault_of",
    "fault_of_dropout",
    "fault_of_scores",
]

_LOCK = threading.Lock()

_LENGTHS = (5, 1, 0, 37)
_HEADS, _HEAD = 2, 16
_SCALING = _HEAD**-0.5
_DROPOUT = 0.1
_HALF = (torch.bfloat16, torch.float16)

Trial = Callable[[torch.device, torch.dtype], str | None]
"""What is wrong on a device in a dtype; None: nothing."""


@dataclass(frozen=True)
class Availability:
    """What a device offers.

    Attributes:
        reasons: by name of a back end that has to be there, why it is not; none where it is.
            "scores" are Triton's.
        kernels: whether alpine's Triton kernels compute scores there.
        dtypes: those in which back ends were tried, as far as they take them.
    """

    reasons: Mapping[str, str] = field(default_factory=dict)
    kernels: bool = False
    dtypes: tuple[torch.dtype, ...] = (*_HALF, torch.float32)

    def missing(self, name: str) -> str | None:
        """Why a back end is not there; None if it is."""
        return self.reasons.get(name)


def availability(device: torch.device) -> Availability:
    """What `device` offers; looked up once."""
    if device.type == "cuda":
        index = torch.cuda.current_device() if device.index is None else device.index
        found = _found_on_cuda(index)
        # asked each time: tests switch kernels off
        sound = "scores" not in found.reasons
        return Availability(found.reasons, sound and kernels.chosen(device), found.dtypes)
    reasons = dict.fromkeys(("varlen", "flash_attn"), f"it is for CUDA (not for {device.type})")
    if device.type != "cpu":
        reasons["nested"] = f"it is for CUDA and CPU (not for {device.type})"
    return Availability(reasons, kernels.chosen(device))


_FOUND: dict[int, Availability] = {}
"""By GPU; a dictionary and no `functools.cache`, which torch.compile looks through."""


def _found_on_cuda(index: int) -> Availability:
    if index in _FOUND:
        return _FOUND[index]
    # a compiled model must not trace what is tried
    find = torch.compiler.disable(_find_out) if torch.compiler.is_compiling() else _find_out
    return find(index)


def _find_out(index: int) -> Availability:
    """Try it all once, in one thread: others wait for what it finds."""
    with _LOCK:
        if index not in _FOUND:
            if not trials.possible():
                untried = "it was not tried before a CUDA graph was captured: run the model once"
                names = ("varlen", "flash_attn", "nested", "scores")
                return Availability(dict.fromkeys(names, untried))
            _FOUND[index] = _try_all(index)
        return _FOUND[index]


def _try_all(index: int) -> Availability:
    """What that GPU offers; `kernels` says whether Triton runs there at all."""
    device, found = torch.device("cuda", index), dict[str, str]()
    old = torch.version.hip is None and torch.cuda.get_device_capability(device) < (8, 0)
    absent = "its kernels need a GPU of compute capability 8.0 or higher" if old else None
    half = _HALF[1:] if old else _HALF  # older GPUs emulate bfloat16
    all_of_them = (*half, torch.float32)
    triton = kernels.available(device)

    def look(name: str, reason: str | None, dtypes: tuple[torch.dtype, ...], *work: Trial) -> None:
        for dtype in dtypes:
            for trial in work:
                if reason is None:
                    reason = trial(device, dtype)
                    if reason is not None:
                        _warn(name, device, reason)
        if reason is not None:
            found[name] = reason

    look("scores", None if triton else "Triton does not run there", all_of_them, fault_of_scores)
    # Back ends are not blamed for kernels that fail: scores of one query need none of them.
    score: Score = "cls" if triton and "scores" in found else "received"
    for name, attend, reason, dtypes in (
        ("varlen", attend_varlen, absent or _no_flash(), half),
        ("flash_attn", attend_flash_attn, absent or _no_package(), half),
        ("nested", attend_nested, None, all_of_them),
    ):
        work: list[Trial] = [
            partial(fault_of, attend, causal=causal, score=score) for causal in (False, True)
        ]
        if name != "varlen":  # which has no dropout
            work.append(partial(fault_of_dropout, attend))
        look(name, reason, dtypes, *work)
    return Availability(found, triton, all_of_them)


def _warn(name: str, device: torch.device, reason: str) -> None:
    warnings.warn(
        f"attention on {device} goes on without {name!r}: {reason}."
        " Another way takes its place, and may be slower",
        RuntimeWarning,
        stacklevel=2,
    )


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


def fault_of(
    attend: Attend,
    device: torch.device,
    dtype: torch.dtype,
    *,
    causal: bool = False,
    score: Score = "received",
) -> str | None:
    """What is wrong with a back end on a device: it raises, or its numbers differ. None: nothing.

    Sequences of several lengths, an empty one among them, with a key bias and scores: attended
    values, gradients and scores against `attend_per_sequence` in float32 on the CPU.
    """

    def solve_twice() -> str | None:
        ours = _solve(attend, device, dtype, causal, score)
        cpu = torch.device("cpu")
        theirs = _solve(attend_per_sequence, cpu, torch.float32, causal, score)
        return _difference(("values", "scores", "gradients"), ours, theirs, dtype)

    return _tried(solve_twice, device)


def fault_of_dropout(attend: Attend, device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with a back end on a device when it drops attention probabilities; or None.

    The mean must stay, and the backward pass must drop what the forward pass dropped: values are
    linear in what is attended, v, so that ⟨out, w⟩ = ⟨v, ∂⟨out, w⟩/∂v⟩ in every column of a head.
    The generators of random numbers are left as they are.
    """

    def drop() -> str | None:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            # of this GPU alone: `torch.manual_seed` would seed the others, too
            torch.default_generator.manual_seed(0)
            if device.type == "cuda":
                torch.cuda.manual_seed(0)
            return _fault_of_drawn(attend, device, dtype)

    return _tried(drop, device)


def _fault_of_drawn(attend: Attend, device: torch.device, dtype: torch.dtype) -> str | None:
    (q, k, v), ragged, _ = _problem(device, dtype)
    v = v + 2  # a mean to be kept
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    attend_by = partial(attend, q, k, v, ragged, scaling=_SCALING, score=None)
    out = attend_by(dropout=_DROPOUT).out_THd.float()
    weights = torch.linspace(-1, 1, q.numel(), device=device).view(q.shape)
    gradients = torch.autograd.grad((out * weights).sum(), (q, k, v))
    with torch.no_grad():
        kept = attend_by(dropout=0.0).out_THd.float()
    out = out.detach()
    if not all(bool(x.isfinite().all()) for x in (out, *gradients)):
        return "with dropout its values or gradients are not finite"
    if float((out - kept).abs().max()) < 0.1 * _DROPOUT:
        return "with dropout it drops nothing"
    shift = float(out.mean() / kept.mean()) - 1
    if abs(shift) > _DROPOUT / 2:
        return f"dropout shifts its mean by {shift:.2g} of it"
    forward_Hd = (out * weights).sum(0)
    backward_Hd = (gradients[2].float() * v.detach().float()).sum(0)
    return _difference(("dropped probabilities",), [backward_Hd], [forward_Hd.cpu()], dtype)


def fault_of_scores(device: torch.device, dtype: torch.dtype) -> str | None:
    """What is wrong with the Triton kernels of scores on a device, against their twins; or None."""

    def compute_twice() -> str | None:
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
        return _difference(("log-sum-exp", "scores"), ours, [x.cpu() for x in theirs], dtype)

    return _tried(compute_twice, device)


def _tried(trial: Callable[[], str | None], device: torch.device) -> str | None:
    try:
        return trials.on_its_own(trial, device)
    except Exception as error:  # whatever a library raises: an import, a launch, a check
        return _told(error)


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
    attend: Attend, device: torch.device, dtype: torch.dtype, causal: bool, score: Score
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
        score=score,
        bias=SizeBias(sizes_T),
        causal=causal,
    )
    weights = torch.linspace(-1, 1, q.numel(), device=device).view(q.shape)
    gradients = torch.autograd.grad((attended.out_THd.float() * weights).sum(), (q, k, v))
    assert attended.scores_T is not None
    return attended.out_THd.detach(), attended.scores_T, torch.stack(gradients)
