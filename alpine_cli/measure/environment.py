"""Describe the machine and the software a figure was taken on. Reads, never changes, anything.

What cannot be read is null or left out with a note; host and user names are never recorded.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil

from alpine_cli.results import Environment, Gpu

__all__ = [
    "BUSY_WINDOW_S",
    "GpuUse",
    "busy_share",
    "describe_environment",
    "describe_gpus",
    "float32_products",
    "gpu_throttling",
    "gpu_use",
    "nvml",
    "throttle_reasons",
    "usable_cores",
]

_PACKAGES = (
    "alpine-cli",
    "torch",
    "transformers",
    "tokenizers",
    "numpy",
    "scipy",
    "fvcore",
    "codecarbon",
    "nvidia-ml-py",
)

BUSY_WINDOW_S = 0.5


@dataclass(frozen=True)
class GpuUse:
    """What runs on a GPU just now.

    Attributes:
        index: NVML's number of the card, which is not always CUDA's.
        name: of the card.
        processes: ids of the processes that hold a compute context, as far as the driver shows
            them: in a container they may be ids of the host, or none.
        busy_share: share of the last second or so in which some kernel ran; None: not told.
    """

    index: int
    name: str
    processes: tuple[int, ...]
    busy_share: float | None


def describe_environment(*, threads: int | None = None, seed: int | None = None) -> Environment:
    """Take stock of CPU, memory, GPUs and versions; watch the load for half a second."""
    gpus, note = describe_gpus()
    commit, dirty = _git_state(Path(__file__).resolve().parent)
    return Environment(
        cpu_model=_cpu_model(),
        physical_cores=psutil.cpu_count(logical=False),
        logical_cores=psutil.cpu_count(logical=True) or 1,
        usable_cores=usable_cores(),
        threads=threads,
        ram_bytes=psutil.virtual_memory().total,
        gpus=gpus,
        gpu_note=note,
        os=platform.platform(),
        python=platform.python_version(),
        versions=_versions(),
        git_commit=commit,
        git_dirty=dirty,
        seed=seed,
        load_average=list(os.getloadavg()) if hasattr(os, "getloadavg") else None,
        busy_share=busy_share(),
        float32_products=float32_products(),
    )


def float32_products() -> Literal["ieee", "tf32"] | None:
    """How PyTorch multiplies float32 matrices on CUDA; None where there is no CUDA.

    Nothing in alpine changes it. PyTorch's default is "ieee"; TORCH_ALLOW_TF32_CUBLAS_OVERRIDE=1 in
    the environment, which workers inherit, makes it "tf32".
    """
    import torch

    if not torch.cuda.is_available():
        return None
    return "tf32" if torch.backends.cuda.matmul.fp32_precision == "tf32" else "ieee"


def busy_share() -> float:
    """Share of the machine's CPU time in use over the next half second, all processes together.

    Time that a virtual machine's host takes away ("steal") counts as used: it slows work alike.
    """
    return float(psutil.cpu_percent(interval=BUSY_WINDOW_S)) / 100


def usable_cores() -> int:
    """Cores this process may run on, which a container or taskset may have cut down."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@contextmanager
def nvml() -> Iterator[Any]:
    """NVML, initialised: the `pynvml` module, or None where there is no NVIDIA driver."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # the module is absent, or NVML's own errors: library or driver not found
        yield None
        return
    try:
        yield pynvml
    finally:
        with suppress(Exception):
            pynvml.nvmlShutdown()


def describe_gpus() -> tuple[list[Gpu], str | None]:
    """All NVIDIA GPUs with their present clocks and temperature; a note where there is none."""
    with nvml() as lib:
        if lib is None:
            return [], "NVML is not available: no NVIDIA driver"
        driver = _text(lib.nvmlSystemGetDriverVersion())
        gpus = []
        for index in range(lib.nvmlDeviceGetCount()):
            handle = lib.nvmlDeviceGetHandleByIndex(index)
            gpus.append(_describe_gpu(lib, handle, driver))
        return gpus, None if gpus else "NVML lists no GPU"


def _describe_gpu(lib: Any, handle: Any, driver: str) -> Gpu:
    def ask(call: str, *args: Any) -> Any:
        # A card answers "not supported" for single questions; that must not lose the others.
        try:
            return getattr(lib, call)(handle, *args)
        except lib.NVMLError:
            return None

    memory = ask("nvmlDeviceGetMemoryInfo")
    limit_mw = ask("nvmlDeviceGetPowerManagementLimit")
    return Gpu(
        name=_text(ask("nvmlDeviceGetName") or "unknown"),
        uuid=_text(ask("nvmlDeviceGetUUID") or "unknown"),
        memory_bytes=memory.total if memory else None,
        driver=driver,
        sm_clock_mhz=ask("nvmlDeviceGetClockInfo", lib.NVML_CLOCK_SM),
        memory_clock_mhz=ask("nvmlDeviceGetClockInfo", lib.NVML_CLOCK_MEM),
        temperature_c=ask("nvmlDeviceGetTemperature", lib.NVML_TEMPERATURE_GPU),
        power_limit_w=limit_mw / 1000 if limit_mw else None,
        throttle_reasons=throttle_reasons(lib, ask("nvmlDeviceGetCurrentClocksThrottleReasons")),
    )


def gpu_throttling() -> list[str]:
    """Reasons for which some GPU runs below its clocks just now, beyond being idle."""
    gpus, _ = describe_gpus()
    return sorted({reason for gpu in gpus for reason in gpu.throttle_reasons})


def gpu_use() -> list[GpuUse]:
    """What runs on each NVIDIA GPU now; empty where there is none."""
    with nvml() as lib:
        if lib is None:
            return []
        found = []
        for index in range(lib.nvmlDeviceGetCount()):
            handle = lib.nvmlDeviceGetHandleByIndex(index)
            name, busy = "GPU", None
            processes: tuple[int, ...] = ()
            with suppress(lib.NVMLError):
                name = _text(lib.nvmlDeviceGetName(handle))
            with suppress(lib.NVMLError):
                running = lib.nvmlDeviceGetComputeRunningProcesses(handle)
                processes = tuple(process.pid for process in running)
            with suppress(lib.NVMLError):
                busy = lib.nvmlDeviceGetUtilizationRates(handle).gpu / 100
            found.append(GpuUse(index, name, processes, busy))
        return found


def throttle_reasons(lib: Any, mask: int | None) -> list[str]:
    """NVML's bit mask of clock event reasons in words; being idle and set clocks are left out."""
    if not mask:
        return []
    names = {
        "hardware thermal slowdown": "nvmlClocksThrottleReasonHwThermalSlowdown",
        "software thermal slowdown": "nvmlClocksThrottleReasonSwThermalSlowdown",
        "hardware power brake": "nvmlClocksThrottleReasonHwPowerBrakeSlowdown",
        "software power cap": "nvmlClocksThrottleReasonSwPowerCap",
        "hardware slowdown": "nvmlClocksThrottleReasonHwSlowdown",
    }
    return [text for text, name in names.items() if mask & getattr(lib, name, 0)]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _cpu_model() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.lower().startswith(("model name", "hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _versions() -> dict[str, str]:
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _git_state(folder: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that holds this package; (None, None) for an installed package."""

    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(folder), *args], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # A virtual environment inside somebody else's checkout must not lend us its commit.
    if not git("ls-files", str(folder.parent / "errors.py")):
        return None, None
    commit = git("rev-parse", "HEAD")
    status = git("status", "--porcelain", "--untracked-files=no")
    return commit, (bool(status) if status is not None else None)
