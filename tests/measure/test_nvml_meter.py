"""NVML meters against a recorded trace: counters that wrap, are reset, stand still or are missing.

Expected joules are computed here from the rows of the trace, not with the meter's code.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.errors import MeasurementError
from alpine_cli.measure import gpu_uuid, nvml_meter
from alpine_cli.measure.gpu_uuid import gpu_uuid_of, visible_uuids
from alpine_cli.measure.meters import open_meters
from alpine_cli.measure.nvml_meter import NvmlMeter, PowerIntegral, SampledPower, counted_mj
from tests.measure.nvml_trace import Board, Clock, NVMLError, ReplayedNvml, read_trace

WRAPS, STEADY, OLD = (board.uuid for board in read_trace())


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(nvml_meter, "time", found)
    return found


@pytest.fixture
def driver(clock: Clock) -> ReplayedNvml:
    return ReplayedNvml(read_trace(), clock)


def joules_between(board: Board, start: float, stop: float) -> float:
    """From the rows: every step of the counter after `start`, up to `stop`; a fall adds 2^32."""
    total = 0
    for i in range(1, len(board.times)):
        before, after = board.millijoules[i - 1], board.millijoules[i]
        assert before is not None
        assert after is not None
        if start < board.times[i] <= stop:
            total += after - before if after >= before else after + 2**32 - before
    return total / 1000


def test_a_window_is_the_difference_of_two_readings(driver: ReplayedNvml, clock: Clock) -> None:
    meter = NvmlMeter(driver, [STEADY])
    began = clock.now
    meter.start()
    clock.sleep(5.0)
    board = driver.nvmlDeviceGetHandleByUUID(STEADY)
    assert meter.stop() == {"gpu": pytest.approx(joules_between(board, began, clock.now))}
    assert meter.sources["gpu"].provenance == "measured"
    assert STEADY in meter.sources["gpu"].method
    meter.close()
    assert driver.closed == 1


def test_a_counter_that_wraps_is_put_right(driver: ReplayedNvml, clock: Clock) -> None:
    board = driver.nvmlDeviceGetHandleByUUID(WRAPS)
    readings = [reading for reading in board.millijoules if reading is not None]
    assert readings[0] > readings[-1], "the trace no longer wraps"
    meter = NvmlMeter(driver, [WRAPS])
    began = clock.now
    meter.start()
    clock.sleep(7.0)
    joules = meter.stop()["gpu"]
    assert joules == pytest.approx(joules_between(board, began, clock.now))
    assert 7 * 70 < joules < 7 * 650  # between idle and full power


def test_a_reset_counter_is_an_error(clock: Clock) -> None:
    driver = ReplayedNvml(read_trace(), clock, resets=(4.0,))
    meter = NvmlMeter(driver, [STEADY])
    meter.start()
    clock.sleep(4.5)
    with pytest.raises(MeasurementError, match="driver was reloaded or the GPU reset"):
        meter.stop()


def test_several_boards_add_up_and_none_twice(driver: ReplayedNvml, clock: Clock) -> None:
    meter = NvmlMeter(driver, [WRAPS, STEADY, WRAPS])
    began = clock.now
    meter.start()
    clock.sleep(3.0)
    boards = [driver.nvmlDeviceGetHandleByUUID(uuid) for uuid in (WRAPS, STEADY)]
    expected = sum(joules_between(board, began, clock.now) for board in boards)
    assert meter.stop()["gpu"] == pytest.approx(expected)


def test_windows_are_long_against_the_steps_of_the_counter(
    driver: ReplayedNvml, clock: Clock
) -> None:
    steady, both = NvmlMeter(driver, [STEADY]), NvmlMeter(driver, [STEADY, WRAPS])
    assert steady.window_s == 3.0  # steps of 50 ms: three seconds are enough
    assert both.window_s == pytest.approx(5.0, rel=0.2)  # steps of about 100 ms
    assert "moves every" in both.sources["gpu"].method


def test_a_counter_that_stands_still_is_no_counter(clock: Clock) -> None:
    stuck = Board("GPU-1", "stuck", [0.0], [123], [100_000])
    meter = NvmlMeter(ReplayedNvml([stuck], clock), ["GPU-1"])
    assert "power readings" in meter.sources["gpu"].method
    meter.close()


def test_without_a_counter_power_is_integrated() -> None:
    """On the real clock: constant power times the time between first and last reading."""
    calls: list[float] = []

    class Constant:
        def nvmlDeviceGetPowerUsage(self, handle: Any) -> int:
            calls.append(time.monotonic())
            return 250_000

    power = SampledPower(Constant(), None)
    power.start()
    opened = calls[-1]
    time.sleep(0.2)
    joules = power.stop()
    power.close()
    assert len(calls) > 3, "no thread read in between"
    assert joules == pytest.approx(250 * (calls[-1] - opened), abs=0.05)
    ended = len(calls)
    time.sleep(0.12)
    assert len(calls) == ended, "the thread reads on after close"


def test_the_integral_follows_the_trace(driver: ReplayedNvml) -> None:
    """Trapezoids over the readings of a board that has both agree with its counter."""
    board = driver.nvmlDeviceGetHandleByUUID(STEADY)
    integral = PowerIntegral()
    for seconds, milliwatts in zip(board.times, board.milliwatts, strict=True):
        integral.add(seconds, milliwatts / 1000)
    counted = joules_between(board, board.times[0], board.times[-1])
    assert integral.joules == pytest.approx(counted, rel=0.01)


@given(
    st.lists(
        st.tuples(st.floats(0.001, 10), st.floats(0, 2000, allow_nan=False)),
        min_size=2,
        max_size=30,
    )
)
def test_the_integral_of_readings_is_their_trapezoid_sum(steps: list[tuple[float, float]]) -> None:
    import numpy as np

    integral, times, now = PowerIntegral(), [], 0.0
    for gap, watts in steps:
        now += gap
        times.append(now)
        integral.add(now, watts)
    expected = np.trapezoid([watts for _, watts in steps], times)
    assert integral.joules == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_power_that_fails_for_seconds_is_an_error_not_a_guess(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = ReplayedNvml(read_trace(), clock)
    power = SampledPower(old, old.nvmlDeviceGetHandleByUUID(OLD))
    power.close()  # only the readings made here
    power.start()

    def gone(board: Any) -> int:
        raise NVMLError("GPU is lost")

    monkeypatch.setattr(old, "nvmlDeviceGetPowerUsage", gone)
    clock.sleep(1.0)
    power.stop()  # bridged
    clock.sleep(1.5)
    with pytest.raises(MeasurementError, match="GPU is lost"):
        power.stop()


@given(st.integers(0, 2**32 - 1), st.integers(0, 10_000_000), st.floats(1, 3600))
def test_wrapped_readings_give_the_same_joules(first: int, used: int, seconds: float) -> None:
    if used / 1000 <= 2000 * seconds:
        assert counted_mj(first, (first + used) % 2**32, seconds) == used


def open_on(
    driver: ReplayedNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *uuids: str | None
) -> Any:
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    monkeypatch.setattr("alpine_cli.measure.meters.CodecarbonMeter", _no_model)
    return open_meters(uuids, rapl_root=tmp_path)


def _no_model(parts: tuple[str, ...]) -> Any:
    raise RuntimeError("not here")


def test_old_and_new_boards_together(
    driver: ReplayedNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    meters = open_on(driver, monkeypatch, tmp_path, STEADY, OLD)
    method = meters.sources["gpu"].method
    assert "energy counter" in method
    assert f"of {OLD} (no energy counter)" in method
    assert meters.sources["gpu"].provenance == "measured"
    meters.close()


@pytest.mark.parametrize(
    ("uuids", "reason"),
    [
        (("GPU-absent",), "NVML knows no GPU GPU-absent"),
        ((STEADY, "GPU-absent"), "NVML knows no GPU GPU-absent"),
        ((None,), "CUDA_DEVICE_ORDER=PCI_BUS_ID"),
        ((), "used no GPU"),
    ],
)
def test_a_board_that_cannot_be_read_makes_all_absent(
    driver: ReplayedNvml,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    uuids: tuple[str | None, ...],
    reason: str,
) -> None:
    """A sum over some of the boards would be too small."""
    meters = open_on(driver, monkeypatch, tmp_path, *uuids)
    assert meters.sources == {}
    assert reason in meters.absent["gpu"]
    assert "not here" in meters.absent["cpu"]
    assert driver.opened == driver.closed


def test_neither_energy_nor_power(
    driver: ReplayedNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(board: Board) -> int:
        raise NVMLError("Not Supported")

    monkeypatch.setattr(driver, "nvmlDeviceGetPowerUsage", refuse)
    meters = open_on(driver, monkeypatch, tmp_path, OLD)
    assert "no energy counter (Not Supported) and no power reading" in meters.absent["gpu"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),  # two kinds of board, the fastest first: not to be known from here
        ({"CUDA_VISIBLE_DEVICES": "1"}, None),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, [WRAPS, STEADY, OLD]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "2, 0"}, [OLD, WRAPS]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1,7,0"}, [STEADY]),
        ({"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "0,-1,1"}, [WRAPS]),
        ({"CUDA_VISIBLE_DEVICES": f"{OLD},{WRAPS}"}, [OLD, WRAPS]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b86e"}, [STEADY]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-"}, []),  # fits several
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ],
    ids=str,
)
def test_visible_devices(
    driver: ReplayedNvml, environment: dict[str, str], expected: list[str] | None
) -> None:
    assert visible_uuids(driver, environment) == expected


def test_boards_of_one_kind_have_one_order(driver: ReplayedNvml) -> None:
    driver.boards = driver.boards[:2]
    assert visible_uuids(driver, {"CUDA_VISIBLE_DEVICES": "1"}) == [STEADY]


def test_torch_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    properties = SimpleNamespace(uuid="8e2d-11")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    assert gpu_uuid_of(0) == "GPU-8e2d-11"


def test_where_torch_does_not_the_visible_devices_do(
    driver: ReplayedNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: SimpleNamespace())
    monkeypatch.setitem(sys.modules, "pynvml", driver)  # type: ignore[arg-type]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"{OLD},{STEADY}")
    assert [gpu_uuid_of(index) for index in (0, 1, 2)] == [OLD, STEADY, None]
    assert driver.opened == driver.closed == 3
    assert gpu_uuid.nvml is not None
