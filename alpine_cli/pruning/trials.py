"""Trying kernels on a device, untouched by what the caller is in the middle of.

A first forward pass asks what a GPU offers, and may do so anywhere: within gradient checkpointing,
whose hooks would keep the trial's tensors for its own; under autocast, inference mode or a default
device; within a mode that watches or fakes every operation; in one of several threads.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import nullcontext
from typing import TypeVar

import torch

__all__ = ["on_its_own", "possible"]

T = TypeVar("T")


def possible() -> bool:
    """Whether anything can be tried now: not while a CUDA graph is captured, which it would end."""
    return not (torch.cuda.is_available() and torch.cuda.is_current_stream_capturing())


def on_its_own(work: Callable[[], T], device: torch.device) -> T:
    """What `work` returns in a thread of its own, with `device` current if it is a GPU.

    All that could reach in from the caller is kept per thread, and a new one has none of it, other
    than when every known kind of hook and mode is switched off by name. On a GPU the thread works
    on the default stream; its result must be on the host, or waited for.

    Backward passes run in that thread, too: PyTorch's worker of the device may be what waits for
    it, where checkpointing runs a layer again.

    Raises:
        BaseException: whatever `work` raises.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    if device.type == "cuda" and device.index is None:  # a new thread's current GPU is the first
        device = torch.device("cuda", torch.cuda.current_device())

    def run() -> None:
        selected = torch.cuda.device(device) if device.type == "cuda" else nullcontext()
        try:
            with selected, torch.autograd.grad_mode.set_multithreading_enabled(False):
                results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="alpine-trial", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
