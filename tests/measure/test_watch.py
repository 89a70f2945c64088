"""What is seen of the machine while blocks run; the driver is a fake at the library's boundary."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import Any

import pytest

from alpine_cli.measure import watch as module
from alpine_cli.measure.watch import MachineWatch, watch_machine
from tests.measure.fake_nvml import FakeNvml


def test_readings_of_a_card_that_heats_up() -> None:
    nvml = FakeNvml()
    watch = MachineWatch(nvml, "card")
    for clock, heat, mask in ((1980, 60, 0), (1980, 70, 0), (1410, 85, 0x20), (1410, 88, 0x20)):
        nvml.answers["nvmlDeviceGetClockInfo"] = clock
        nvml.answers["nvmlDeviceGetTemperature"] = heat
        nvml.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = mask
        watch.look()
    seen = watch.seen()
    assert seen.readings == 4
    assert seen.clock_mhz == (1410, 1980)
    assert seen.temperature_c == 88
    assert seen.throttled == {"software thermal slowdown": 0.5}


def test_one_odd_reading_in_forty_does_not_move_the_clock() -> None:
    nvml = FakeNvml()
    watch = MachineWatch(nvml, "card")
    for number in range(40):
        nvml.answers["nvmlDeviceGetClockInfo"] = 300 if number == 0 else 1980
        watch.look()
    assert watch.seen().clock_mhz == (1980, 1980)


def test_a_card_that_refuses_every_question_leaves_gaps() -> None:
    nvml = FakeNvml()
    for name in (
        "ClockInfo",
        "Temperature",
        "CurrentClocksThrottleReasons",
        "ComputeRunningProcesses",
    ):
        nvml.answers[f"nvmlDeviceGet{name}"] = None
    watch = MachineWatch(nvml, "card")
    watch.look()
    seen = watch.seen()
    assert (seen.clock_mhz, seen.temperature_c, seen.throttled) == (None, None, {})
    assert seen.gpu_processes == 0


@pytest.mark.parametrize(
    ("pids", "others"),
    [
        ([], 0),  # a container that hides processes
        ([os.getpid()], 0),
        ([os.getpid(), 1], 1),
        ([4242], 0),  # ids of the host: the one process shown is this one
        ([4242, 4243, 4244], 2),
    ],
)
def test_other_processes_on_the_gpu(pids: list[int], others: int) -> None:
    nvml = FakeNvml()
    nvml.processes(*pids)
    watch = MachineWatch(nvml, "card")
    watch.look()
    nvml.processes()
    watch.look()
    assert watch.seen().gpu_processes == others


def test_the_gpu_is_polled_while_the_block_lasts_and_not_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nvml = FakeNvml()
    closed = []

    @contextmanager
    def opened() -> Any:
        yield nvml
        closed.append(len(nvml.calls))

    monkeypatch.setattr(module, "nvml", opened)
    monkeypatch.setattr(module, "_PERIOD_S", 0.001)
    with watch_machine("GPU-1") as watch:
        deadline = time.monotonic() + 10
        while watch.seen().readings < 3 and time.monotonic() < deadline:
            time.sleep(0.002)
    assert watch.seen().readings >= 3
    time.sleep(0.02)
    assert len(nvml.calls) == closed[0]  # nothing is asked of a library that was shut down


def test_without_a_driver_or_with_an_unknown_card_nothing_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unknown = FakeNvml(nvmlDeviceGetHandleByUUID=None)
    for library in (None, unknown):

        @contextmanager
        def opened(library: Any = library) -> Any:
            yield library

        monkeypatch.setattr(module, "nvml", opened)
        with watch_machine("GPU-1") as watch:
            watch.look()
        assert watch.seen().readings == 0


def test_what_others_use_of_the_cpu_is_told_apart_from_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """2 s on 4 cores: the machine used 5 CPU seconds, 1 of them ours, so others used a half."""
    times = iter([module._CpuTimes(10.0, 100.0, 7.0), module._CpuTimes(12.0, 105.0, 8.0)])
    monkeypatch.setattr(module._CpuTimes, "now", lambda: next(times))
    monkeypatch.setattr(module.psutil, "cpu_count", lambda: 4)
    with watch_machine() as watch:
        pass
    assert watch.seen().others_cpu_share == pytest.approx(0.5)


def test_a_short_watch_claims_nothing() -> None:
    with watch_machine() as watch:
        pass
    assert watch.seen().others_cpu_share is None


def test_the_cpu_times_of_another_process_are_seen() -> None:
    start = module._CpuTimes.now()
    spin = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    subprocess.run([sys.executable, "-c", spin], check=True)
    later = module._CpuTimes.now()
    others = (later.machine - start.machine) - (later.own - start.own)
    assert others >= 0.25
