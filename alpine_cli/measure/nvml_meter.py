"""NVML: the energy counters of one or several GPUs, or, on boards without one, power integrated.

Three facts about the counter (nvmlDeviceGetTotalEnergyConsumption, Volta and later):
- it counts millijoules of the whole board, whoever uses it, since the driver was loaded;
- it moves in steps: every 20 to 100 ms, as the board likes. The step is timed when a meter is
  opened, and windows are asked to be long against it (`window_s`);
- it can only fall if it wrapped or was reset. A wrap is put right where the joules that follow
  are possible for a board; a reset loses the window, and the meter says so.

Older boards have no counter but tell their power (nvmlDeviceGetPowerUsage, +-5 % by NVIDIA's
documentation, on some boards a mean over the last second): a thread reads it all the while, and
the joules are its integral. Both are measurements; the method text says which.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.meter import Source

__all__ = ["EnergyCounter", "NvmlMeter", "PowerIntegral", "SampledPower"]

_POLL_SECONDS = 0.002
_STEP_TIMEOUT_SECONDS = 1.0
_POWER_INTERVAL_SECONDS = 0.05
_MAX_GAP_SECONDS = 2.0
_MIN_WINDOW_SECONDS = 3.0
_STEPS_PER_WINDOW = 50  # so that a step lost at either end is 2 % of a window at most

# No board draws more (the largest of 2026 are rated 1.4 kW): what a fall of the counter must stay
# below to be a wrap.
_MAX_BOARD_WATTS = 2000.0
_COUNTER_BITS = (32, 64)


class EnergyCounter:
    """The counter of one board.

    Raises:
        MeasurementError: the board has no counter, or one that does not move.
    """

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self.step_seconds = self._time_step()

    def read_mj(self) -> int:
        """Millijoules now."""
        return int(self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle))

    def _time_step(self) -> float:
        """Seconds between two movements of the counter."""
        try:
            value = self.read_mj()
        except Exception as error:  # NVML's "Not Supported", or a library too old to know the call
            raise MeasurementError(f"no energy counter ({error})") from error
        began = time.monotonic()
        moved: list[float] = []
        while len(moved) < 2:
            now = time.monotonic()
            if now - began > _STEP_TIMEOUT_SECONDS:
                raise MeasurementError("its energy counter does not move")
            reading = self.read_mj()
            if reading != value:
                value = reading
                moved.append(now)
            else:
                time.sleep(_POLL_SECONDS)
        return moved[1] - moved[0]

    def start(self) -> None:
        """Open a window."""
        self._began, self._first = time.monotonic(), self.read_mj()

    def stop(self) -> float:
        """Joules since `start`.

        Raises:
            MeasurementError: the counter was reset in between.
        """
        last = self.read_mj()
        return counted_mj(self._first, last, time.monotonic() - self._began) / 1000

    def close(self) -> None:
        """Nothing is held open."""


def counted_mj(first: int, last: int, seconds: float) -> int:
    """Millijoules between two readings `seconds` apart, put right where the counter wrapped.

    Raises:
        MeasurementError: it fell, and no wrap explains it.
    """
    if last >= first:
        return last - first
    for bits in _COUNTER_BITS:
        wrapped = last + 2**bits - first
        if first < 2**bits and wrapped / 1000 <= _MAX_BOARD_WATTS * max(seconds, 1.0):
            return wrapped
    raise MeasurementError(
        f"NVML's energy counter fell from {first} to {last} mJ: the driver was reloaded or the GPU"
        " reset meanwhile. Measure again"
    )


class PowerIntegral:
    """Joules from readings of power: trapezoids between them. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._joules = 0.0
        self._latest: tuple[float, float] | None = None  # seconds, watts

    def add(self, seconds: float, watts: float) -> None:
        """One reading; `seconds` on any clock that does not go back."""
        with self._lock:
            if self._latest is not None:
                then, before = self._latest
                self._joules += (seconds - then) * (watts + before) / 2
            self._latest = (seconds, watts)

    @property
    def joules(self) -> float:
        """Up to the latest reading."""
        with self._lock:
            return self._joules

    @property
    def latest_seconds(self) -> float | None:
        """When the latest reading was taken."""
        with self._lock:
            return None if self._latest is None else self._latest[0]


class SampledPower:
    """The power of one board, read by a thread every 50 ms and integrated.

    Raises:
        MeasurementError: the board does not tell its power.
    """

    step_seconds = _POWER_INTERVAL_SECONDS

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle
        self._integral = PowerIntegral()
        try:
            self._read()
        except Exception as error:
            raise MeasurementError(f"no power reading ({error})") from error
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="nvml-power", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        milliwatts = self._library.nvmlDeviceGetPowerUsage(self._handle)
        self._integral.add(time.monotonic(), milliwatts / 1000)

    def _sample(self) -> None:
        while not self._stop.wait(_POWER_INTERVAL_SECONDS):
            try:
                self._read()
            except Exception:  # a reading that fails is bridged by the next; see `_reading`
                continue

    def _reading(self) -> float:
        """Joules up to now.

        Raises:
            MeasurementError: there was no reading for so long that bridging it would be a guess.
        """
        try:
            self._read()
        except Exception as error:
            latest = self._integral.latest_seconds
            if latest is None or time.monotonic() - latest > _MAX_GAP_SECONDS:
                raise MeasurementError(f"NVML stopped telling the GPU's power: {error}") from error
        return self._integral.joules

    def start(self) -> None:
        """Open a window."""
        self._first = self._reading()

    def stop(self) -> float:
        """Joules since `start`.

        Raises:
            MeasurementError: the board has stopped telling its power.
        """
        return self._reading() - self._first

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        self._thread.join()


class NvmlMeter:
    """All boards that the work runs on, as one component. See `meter.Meter`.

    Args:
        library: the `pynvml` module, initialised.
        uuids: NVML's names of the boards ("GPU-…"); each is counted once.

    Raises:
        MeasurementError: a board is unknown or tells neither energy nor power. The sum of the
            others would be too small, so that there is none.
    """

    def __init__(self, library: Any, uuids: Sequence[str]) -> None:
        self._library = library
        self._boards: dict[str, EnergyCounter | SampledPower] = {}
        try:
            for uuid in dict.fromkeys(uuids):
                self._boards[uuid] = _open_board(library, uuid)
        except BaseException:
            self._close_boards()
            raise
        self.sources: Mapping[str, Source] = {"gpu": Source("measured", self._describe())}
        steps = [board.step_seconds for board in self._boards.values()]
        self.window_s = max(_MIN_WINDOW_SECONDS, _STEPS_PER_WINDOW * max(steps))

    def _describe(self) -> str:
        sampled = [name for name, board in self._boards.items() if isinstance(board, SampledPower)]
        counted = [name for name in self._boards if name not in sampled]
        parts = []
        if counted:
            step = max(self._boards[name].step_seconds for name in counted)
            parts.append(
                f"NVML energy counter (moves every {1000 * step:.0f} ms) of {', '.join(counted)}"
            )
        if sampled:
            parts.append(
                f"NVML power readings every {1000 * _POWER_INTERVAL_SECONDS:.0f} ms, integrated,"
                f" of {', '.join(sampled)} (no energy counter)"
            )
        return f"{'; '.join(parts)}; whole board(s)"

    def start(self) -> None:
        """Open a window."""
        for board in self._boards.values():
            board.start()

    def stop(self) -> dict[str, float]:
        """Close it; joules of all boards together.

        Raises:
            MeasurementError: a counter was reset, or a board stopped answering.
        """
        return {"gpu": sum(board.stop() for board in self._boards.values())}

    def close(self) -> None:
        """End the threads and shut NVML down."""
        self._close_boards()
        self._library.nvmlShutdown()

    def _close_boards(self) -> None:
        for board in self._boards.values():
            board.close()


def _open_board(library: Any, uuid: str) -> EnergyCounter | SampledPower:
    try:
        handle = library.nvmlDeviceGetHandleByUUID(uuid)
    except Exception as error:
        raise MeasurementError(f"NVML knows no GPU {uuid}: {error}") from error
    try:
        return EnergyCounter(library, handle)
    except MeasurementError as no_counter:
        try:
            return SampledPower(library, handle)
        except MeasurementError as no_power:
            raise MeasurementError(f"{uuid} has {no_counter} and {no_power}") from no_power
