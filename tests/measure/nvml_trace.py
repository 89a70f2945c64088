"""A recorded trace of NVML, and a driver that replays it: `pynvml` as the meters see it.

To record one on a machine with NVIDIA GPUs, while something runs on them:

    python -m tests.measure.nvml_trace SECONDS > trace.csv

The replaying driver knows only the time of its `Clock`, so that tests neither wait nor depend on
the machine: `clock.sleep` is both the passing of time and the work that is measured.
"""

from __future__ import annotations

import bisect
import csv
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TRACE = Path(__file__).parents[1] / "data" / "nvml-trace.csv"


class Clock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    perf_counter = monotonic

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class NVMLError(Exception):
    """What pynvml raises."""


@dataclass
class Board:
    """The readings of one GPU: from `times[i]` on, counter and power stand at index i."""

    uuid: str
    name: str
    times: list[float] = field(default_factory=list)
    millijoules: list[int | None] = field(default_factory=list)
    milliwatts: list[int] = field(default_factory=list)

    def at(self, seconds: float) -> int:
        return max(0, bisect.bisect_right(self.times, seconds) - 1)


def read_trace(path: Path = TRACE) -> list[Board]:
    """The boards of a trace, in the order in which they first appear."""
    boards: dict[str, Board] = {}
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            board = boards.setdefault(row["uuid"], Board(row["uuid"], row["name"]))
            board.times.append(float(row["seconds"]))
            board.millijoules.append(int(row["millijoules"]) if row["millijoules"] else None)
            board.milliwatts.append(int(row["milliwatts"]))
    return list(boards.values())


class ReplayedNvml:
    """The calls of `pynvml` that the project makes, answered from a trace.

    `resets` are the moments at which a counter starts again from 0, as after a reload of the
    driver.
    """

    NVMLError = NVMLError

    def __init__(
        self, boards: list[Board], clock: Clock, *, resets: tuple[float, ...] = ()
    ) -> None:
        self.boards, self.clock, self.resets = boards, clock, resets
        self.opened = self.closed = 0

    def __getattr__(self, name: str) -> Any:
        """Constants are 0; what a trace does not hold, the boards do not tell."""
        if name.startswith("NVML_"):
            return 0
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def refuse(*args: Any) -> Any:
            raise NVMLError("Not Supported")

        return refuse

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"580.1"

    def nvmlInit(self) -> None:
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.boards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Board:
        return self.boards[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Board:
        for board in self.boards:
            if board.uuid == uuid:
                return board
        raise NVMLError("Not Found")

    def nvmlDeviceGetUUID(self, board: Board) -> str:
        return board.uuid

    def nvmlDeviceGetName(self, board: Board) -> bytes:
        return board.name.encode()

    def nvmlDeviceGetTotalEnergyConsumption(self, board: Board) -> int:
        now = self.clock.now
        reading = board.millijoules[board.at(now)]
        if reading is None:
            raise NVMLError("Not Supported")
        for reset in self.resets:
            if now >= reset:
                first = board.millijoules[board.at(reset)]
                assert first is not None
                reading -= first
        return reading

    def nvmlDeviceGetPowerUsage(self, board: Board) -> int:
        return board.milliwatts[board.at(self.clock.now)]


def record(seconds: float, library: Any, out: Any) -> None:
    """Poll every board each millisecond; write a row whenever its counter or power changed."""
    library.nvmlInit()
    handles = [
        library.nvmlDeviceGetHandleByIndex(index) for index in range(library.nvmlDeviceGetCount())
    ]
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(("seconds", "uuid", "name", "millijoules", "milliwatts"))
    began, latest = time.monotonic(), {}
    while (now := time.monotonic() - began) < seconds:
        for index, handle in enumerate(handles):
            try:
                energy = library.nvmlDeviceGetTotalEnergyConsumption(handle)
            except library.NVMLError:
                energy = ""
            power = library.nvmlDeviceGetPowerUsage(handle)
            if latest.get(index) != (energy, power):
                latest[index] = (energy, power)
                name, uuid = library.nvmlDeviceGetName(handle), library.nvmlDeviceGetUUID(handle)
                rows.writerow((f"{now:.3f}", uuid, name, energy, power))
        time.sleep(0.001)


if __name__ == "__main__":
    import pynvml

    record(float(sys.argv[1]), pynvml, sys.stdout)
