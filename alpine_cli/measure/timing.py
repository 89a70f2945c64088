"""One timed pass of a variant over batches: its wall time, and the time of each batch in it.

The wall time is the host's: from an idle device to an idle device. The times of single batches
come from marks between them that do not stop the work: the host's clock on a CPU, events in the
device's queue on CUDA. Waiting for the device after each batch instead would change what is
measured, for a GPU works while the host prepares what comes next.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from alpine_cli.measure.workload import Batch, LoadedVariant, synchronise

__all__ = ["TimedPass", "timed_pass"]


@dataclass(frozen=True)
class TimedPass:
    """One pass.

    Attributes:
        seconds: wall time of the whole pass.
        batch_seconds: from mark to mark, one per batch and in its order; they sum to `seconds`
            but for the wait at the end. Empty where batches were not told apart.
    """

    seconds: float
    batch_seconds: tuple[float, ...] = ()


def timed_pass(variant: LoadedVariant, batches: Sequence[Batch]) -> TimedPass:
    """Run all batches once, in inference mode, and wait for the device."""
    marks = _EventMarks(variant.device) if variant.device.type == "cuda" else _ClockMarks()
    with torch.inference_mode():
        synchronise(variant.device)
        start = time.perf_counter()
        marks.set()
        for batch in batches:
            variant.forward(batch)
            marks.set()
        synchronise(variant.device)
        seconds = time.perf_counter() - start
    return TimedPass(seconds, marks.between())


class _ClockMarks:
    """Marks on the host's clock."""

    def __init__(self) -> None:
        self._times: list[float] = []

    def set(self) -> None:
        self._times.append(time.perf_counter())

    def between(self) -> tuple[float, ...]:
        return tuple(later - earlier for earlier, later in pairwise(self._times))


class _EventMarks:
    """Marks in the queue of a CUDA device; read after it has been waited for."""

    def __init__(self, device: torch.device) -> None:
        self._stream = torch.cuda.current_stream(device)
        self._events: list[torch.cuda.Event] = []

    def set(self) -> None:
        event = torch.cuda.Event(enable_timing=True)
        event.record(self._stream)
        self._events.append(event)

    def between(self) -> tuple[float, ...]:
        return tuple(
            earlier.elapsed_time(later) / 1000 for earlier, later in pairwise(self._events)
        )
