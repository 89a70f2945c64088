"""The GPU that is measured on: its state around a section, this process's memory, its energy.

Everything is read, nothing is set. What the driver does not tell is null.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.environment import describe_gpus, nvml
from alpine_cli.measure.gpu_uuid import gpu_uuid_of
from alpine_cli.measure.nvml_meter import NvmlMeter

__all__ = ["gpu_state", "gpu_uuid", "open_energy", "process_bytes"]


def gpu_uuid(device: torch.device) -> str | None:
    """NVML's name of a CUDA device; None on others and where it is unknown."""
    if device.type != "cuda":
        return None
    return gpu_uuid_of(torch.cuda.current_device() if device.index is None else device.index)


def gpu_state(uuid: str | None) -> dict[str, Any] | None:
    """Clocks, temperature and throttle reasons of one GPU just now; None without one."""
    gpus, _ = describe_gpus() if uuid is not None else ([], None)
    for gpu in gpus:
        if gpu.uuid == uuid:
            return {
                "sm_clock_mhz": gpu.sm_clock_mhz,
                "memory_clock_mhz": gpu.memory_clock_mhz,
                "temperature_c": gpu.temperature_c,
                "power_limit_w": gpu.power_limit_w,
                "throttle_reasons": gpu.throttle_reasons,
            }
    return None


def process_bytes(uuid: str | None) -> tuple[int | None, str | None]:
    """Bytes that the driver says this process holds on the GPU, or None and the reason.

    In a container the driver shows ids of the host: if one process alone is on the GPU, it is us.
    """
    if uuid is None:
        return None, "no GPU"
    with nvml() as library:
        if library is None:
            return None, "NVML is not available"
        try:
            handle = library.nvmlDeviceGetHandleByUUID(uuid)
            running = library.nvmlDeviceGetComputeRunningProcesses(handle)
        except library.NVMLError as error:
            return None, f"NVML does not tell: {error}"
    own = [process for process in running if process.pid == os.getpid()] or running
    if len(own) != 1:
        return None, f"NVML shows {len(running)} processes, none by this one's id"
    if own[0].usedGpuMemory is None:
        return None, "NVML does not tell the memory of processes here"
    return int(own[0].usedGpuMemory), None


@contextmanager
def open_energy(uuid: str | None) -> Iterator[NvmlMeter]:
    """The energy meter of one GPU.

    Raises:
        MeasurementError: there is none, with the reason.
    """
    if uuid is None:
        raise MeasurementError("no GPU, or NVML's name of it is unknown: no energy counter")
    with nvml() as library:
        if library is None:
            raise MeasurementError("NVML is not available: no energy counter")
        meter = NvmlMeter(library, [uuid])
        library.nvmlInit()  # which counts: closing the meter shuts NVML down once
        try:
            yield meter
        finally:
            meter.close()
