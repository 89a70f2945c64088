"""Watch the machine while blocks are timed: GPU clocks, throttling, and what others run.

    with watch_machine(gpu_uuid) as watch:
        run_blocks(…)
    cautions.of_watch(watch.seen())

The CPU is looked at twice, before and after: what all processes used, less what this one used, is
what others used, to the tick. The GPU is polled by a thread, five times a second and only where
there is one: an NVML call lets go of the interpreter lock, takes some tens of microseconds, and
burdens all variants alike.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

from alpine_cli.measure.environment import nvml, throttle_reasons

__all__ = ["MachineWatch", "Seen", "watch_machine"]

_PERIOD_S = 0.2
_MIN_SECONDS = 1.0  # CPU times come in ticks of 10 ms; shares of less time would be grain
_CLOCK_SHARES = (5, 95)  # per cent of the readings between which the clock is said to have moved


@dataclass(frozen=True)
class Seen:
    """What was seen while blocks ran.

    Attributes:
        others_cpu_share: share of the machine's CPU time that other processes used; None where
            the watch was too short to tell.
        readings: number of looks at the GPU; 0 without one.
        clock_mhz: the SM clock, 5th and 95th percentile of the readings; None: not told.
        temperature_c: the highest; None: not told.
        throttled: reason -> share of the readings in which the driver gave it.
        gpu_processes: most other processes seen on the GPU at once.
    """

    others_cpu_share: float | None = None
    readings: int = 0
    clock_mhz: tuple[float, float] | None = None
    temperature_c: int | None = None
    throttled: dict[str, float] | None = None
    gpu_processes: int = 0


class MachineWatch:
    """Collects readings; made by `watch_machine`."""

    def __init__(self, library: Any = None, handle: Any = None) -> None:
        self._library = library
        self._handle = handle
        self._clocks: list[int] = []
        self._temperatures: list[int] = []
        self._reasons: Counter[str] = Counter()
        self._looks = 0
        self._others = 0
        self._started = _CpuTimes.now()
        self._ended: _CpuTimes | None = None

    def look(self) -> None:
        """Take one reading of the GPU; what a card does not tell is left out."""
        lib = self._library
        if lib is None:
            return
        self._looks += 1
        with suppress(lib.NVMLError):
            self._clocks.append(lib.nvmlDeviceGetClockInfo(self._handle, lib.NVML_CLOCK_SM))
        with suppress(lib.NVMLError):
            kind = lib.NVML_TEMPERATURE_GPU
            self._temperatures.append(lib.nvmlDeviceGetTemperature(self._handle, kind))
        with suppress(lib.NVMLError):
            mask = lib.nvmlDeviceGetCurrentClocksThrottleReasons(self._handle)
            self._reasons.update(throttle_reasons(lib, mask))
        with suppress(lib.NVMLError):
            running = lib.nvmlDeviceGetComputeRunningProcesses(self._handle)
            self._others = max(self._others, _others_of([process.pid for process in running]))

    def end(self) -> None:
        """Close the watch's window."""
        self._ended = _CpuTimes.now()

    def seen(self) -> Seen:
        """Everything seen so far, or until `end`."""
        clocks = None
        if self._clocks:
            low, high = np.percentile(self._clocks, _CLOCK_SHARES)
            clocks = (float(low), float(high))
        return Seen(
            others_cpu_share=self._started.others_until(self._ended or _CpuTimes.now()),
            readings=self._looks,
            clock_mhz=clocks,
            temperature_c=max(self._temperatures, default=None),
            throttled={reason: n / self._looks for reason, n in self._reasons.items()},
            gpu_processes=self._others,
        )


@contextmanager
def watch_machine(gpu_uuid: str | None = None) -> Iterator[MachineWatch]:
    """Watch the CPU and, given its UUID, one GPU, until the block ends.

    Without a driver, or if it does not know the card, the GPU is not watched: `Seen.readings` is 0.
    """
    if gpu_uuid is None:
        watch = MachineWatch()
        try:
            yield watch
        finally:
            watch.end()
        return
    with nvml() as library:
        watch = MachineWatch()
        if library is not None:
            with suppress(library.NVMLError):
                watch = MachineWatch(library, library.nvmlDeviceGetHandleByUUID(gpu_uuid))
        stop = threading.Event()
        thread = threading.Thread(target=_poll, args=(watch, stop), daemon=True)
        thread.start()
        try:
            yield watch
        finally:
            stop.set()
            thread.join()  # before NVML is shut down
            watch.end()


def _poll(watch: MachineWatch, stop: threading.Event) -> None:
    while not stop.wait(_PERIOD_S):
        watch.look()


def _others_of(pids: list[int]) -> int:
    """How many of the processes on the GPU are not this one.

    In a container the driver shows ids of the host, or hides processes. If our own id is not
    among those shown, one of them must be us, for we hold a context.
    """
    if not pids:
        return 0
    return len([pid for pid in pids if pid != os.getpid()]) - (os.getpid() not in pids)


@dataclass(frozen=True)
class _CpuTimes:
    """CPU seconds used so far: by the whole machine and by this process."""

    at: float
    machine: float
    own: float

    @classmethod
    def now(cls) -> _CpuTimes:
        times = psutil.cpu_times()
        # Guest time is part of user time already; idle and waiting for a disk are no use.
        fields = ("user", "nice", "system", "irq", "softirq", "steal")
        used = sum(getattr(times, field, 0.0) for field in fields)
        own = os.times()
        return cls(time.perf_counter(), used, own.user + own.system)

    def others_until(self, later: _CpuTimes) -> float | None:
        seconds = later.at - self.at
        if seconds < _MIN_SECONDS:
            return None
        used = (later.machine - self.machine) - (later.own - self.own)
        return min(1.0, max(0.0, used / (seconds * (psutil.cpu_count() or 1))))
