"""The time of a pass and of the batches in it, on the host's clock and by device events."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alpine_cli.measure import timing
from alpine_cli.measure.timing import timed_pass


class Clock:
    """Time passes only where the work says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


class Work:
    """A variant whose forward pass takes as many seconds as the batch says."""

    def __init__(self, clock: Clock, device: str = "cpu") -> None:
        self.clock = clock
        self.device = torch.device(device)
        self.inference: list[bool] = []

    def forward(self, batch: Any) -> None:
        self.inference.append(torch.is_inference_mode_enabled())
        self.clock.now += batch


def test_batches_are_told_apart_and_sum_to_the_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    work = Work(clock)
    taken = timed_pass(work, [1.0, 0.5, 2.0])  # type: ignore[arg-type,list-item]
    assert taken.seconds == 3.5
    assert taken.batch_seconds == (1.0, 0.5, 2.0)
    assert work.inference == [True] * 3


def test_on_cuda_marks_are_events_and_the_device_is_waited_for_only_at_the_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host returns at once; the queue (here: another clock) knows when work was done."""
    host, queue = Clock(), Clock()
    waits: list[str] = []

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self, stream: str) -> None:
            assert stream == "stream of cuda:1"
            self.at = queue.now

        def elapsed_time(self, later: Event) -> float:
            return 1000 * (later.at - self.at)  # milliseconds

    cuda = SimpleNamespace(Event=Event, current_stream=lambda device: f"stream of {device}")
    monkeypatch.setattr(timing.torch, "cuda", cuda)
    monkeypatch.setattr(timing, "time", host)

    def synchronise(device: torch.device) -> None:
        waits.append(str(device))
        host.now = max(host.now, queue.now + 0.1)

    monkeypatch.setattr(timing, "synchronise", synchronise)
    host.now = queue.now + 0.1
    taken = timed_pass(Work(queue, "cuda:1"), [1.0, 0.5])  # type: ignore[arg-type,list-item]
    assert waits == ["cuda:1", "cuda:1"]
    assert taken.batch_seconds == pytest.approx((1.0, 0.5))
    assert taken.seconds == pytest.approx(1.5)
