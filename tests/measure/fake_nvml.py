"""NVML of one card, as far as alpine asks it; answers can be changed while a test runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any


class FakeNvml:
    """The calls of pynvml at the boundary of the library.

    A call whose answer is None is refused by the card, as one that is "not supported" is.
    """

    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    nvmlClocksThrottleReasonSwPowerCap = 4
    nvmlClocksThrottleReasonSwThermalSlowdown = 0x20

    class NVMLError(Exception):
        pass

    def __init__(self, **answers: Any) -> None:
        self.calls: list[str] = []
        self.answers: dict[str, Any] = {
            "nvmlSystemGetDriverVersion": b"575.1",
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "card",
            "nvmlDeviceGetHandleByUUID": "card",
            "nvmlDeviceGetName": "H200",
            "nvmlDeviceGetUUID": "GPU-1",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=10),
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 41,
            "nvmlDeviceGetPowerManagementLimit": 700_000,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
            "nvmlDeviceGetComputeRunningProcesses": [],
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=0, memory=0),
        } | answers

    def processes(self, *pids: int) -> None:
        self.answers["nvmlDeviceGetComputeRunningProcesses"] = [
            SimpleNamespace(pid=pid, usedGpuMemory=None) for pid in pids
        ]

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("nvml") or name not in self.answers:
            raise AttributeError(name)

        def call(*_: Any) -> Any:
            self.calls.append(name)
            if self.answers[name] is None:
                raise self.NVMLError(name)
            return self.answers[name]

        return call

    @contextmanager
    def opened(self) -> Iterator[FakeNvml]:
        """Stands in for `environment.nvml`."""
        yield self
