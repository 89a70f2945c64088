"""Triton kernels for CUDA: what small torch operations would spend on launches and memory traffic.

Each kernel has a file with what calls it and a file `*_triton.py` with the kernel itself. Only the
latter import Triton, and they are imported when a kernel is first used: nothing here needs Triton
to be installed. Each kernel has a twin in plain PyTorch, which says what it computes, runs wherever
the kernel cannot, and is what tests compare it with.

    scores      column sums of the attention matrix, without the matrix; twins beside it
    selection   the rules "band" and "floor"; twins `selection.band`, `rules.floor`
    layout      where kept and removed tokens go; twin: the rest of `selection.plan_keep`
    repack      applying a plan, forward and backward; twin `plan.apply_plan`
    carry       sources and special tokens of the shorter sequences; twin in `plan.tokens_after`

With them the rules "band" and "floor" with the merge "mean" take four launches a pruned layer,
besides the scores, in place of some sixty.

Triton's interpreter (TRITON_INTERPRET=1, set before Triton is imported) runs kernels on a CPU,
slowly; tests do that, within `forced`, and compile them for GPUs. What neither shows (speed, races)
needs a GPU of compute capability 8.0, the oldest that Triton supports, or newer.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from alpine_cli.pruning import trials

__all__ = ["available", "chosen", "forced", "serves_cuda"]

_INSTALLED = importlib.util.find_spec("triton") is not None
# What `forced` says. For one thread: torch.compile traces no ContextVar, and every model asks.
_forced: bool | None = None
# What was found out about each device; a machine does not change.
_runs_on: dict[str, bool] = {}
_LOCK = threading.Lock()


def available(device: torch.device) -> bool:
    """Whether kernels can run there: on CUDA with Triton; on a CPU with Triton's interpreter on."""
    if device.type == "cpu":
        return _interpreted() and _INSTALLED
    if device.type != "cuda" or not _INSTALLED:
        return False
    # a dict, not functools.cache: torch.compile reads it, and would trace through the other
    name = str(device)
    if name in _runs_on:
        return _runs_on[name]
    # a compiled model must not trace the trial
    find = torch.compiler.disable(_find_out) if torch.compiler.is_compiling() else _find_out
    return find(device)


def chosen(device: torch.device) -> bool:
    """Whether a kernel takes the place of its twin there: on CUDA if it can, on a CPU if forced."""
    return serves_cuda(device) and available(device)


def serves_cuda(device: torch.device) -> bool:
    """Whether to work as is best on CUDA: few launches, no loop over sequences, no copy."""
    return device.type == "cuda" if _forced is None else _forced


@contextmanager
def forced(on: bool = True) -> Iterator[None]:
    """For tests: work as on CUDA whatever the device; with `on=False`, as on a CPU.

    In one thread at a time, and in tests only: it changes what all threads do.
    """
    global _forced
    before, _forced = _forced, on
    try:
        yield
    finally:
        _forced = before


def _interpreted() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def _find_out(device: torch.device) -> bool:
    """Try it once; unknown while a CUDA graph is captured, which then does without kernels."""
    name = str(device)
    with _LOCK:
        if name not in _runs_on:
            if not trials.possible():
                return False
            _runs_on[name] = _compiles(device)
        return _runs_on[name]


def _compiles(device: torch.device) -> bool:
    """Whether a first kernel compiles and runs: it needs a C compiler and a GPU Triton supports."""
    try:
        from alpine_cli.pruning.kernels import probe_triton

        return trials.on_its_own(lambda: probe_triton.runs(device), device)
    except Exception as error:  # whatever a compiler, a driver or an import may raise
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        warnings.warn(
            f"Triton cannot run kernels on {device} ({reason}): pruning uses plain PyTorch there,"
            " with the same results, slower. Triton needs a C compiler and a GPU of compute"
            " capability 8.0 or newer.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
