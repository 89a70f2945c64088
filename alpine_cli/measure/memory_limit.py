"""How much memory a process may take: reading it, choosing it, and holding to it.

On Linux the kernel refuses private memory beyond the limit (RLIMIT_DATA), so that an allocation
fails and can be reported; a watch on the resident set kills the process where that does not help.
Either way the process ends before the machine begins to swap.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from alpine_cli.errors import ConfigError

__all__ = ["DEFAULT_SHARE", "available_bytes", "bounded_memory", "parse_bytes"]

DEFAULT_SHARE = 0.5
"""Of the available memory, where no limit is given."""

_UNITS = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_WATCH_SECONDS = 0.01


def parse_bytes(text: str) -> int:
    """ "4GiB", "1.5 GB" or "4294967296" as a number of bytes.

    Raises:
        ConfigError: anything else, or less than one byte.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", text)
    factor = _UNITS.get(found.group(2).lower()) if found else None
    if found is None or factor is None or int(float(found.group(1)) * factor) < 1:
        raise ConfigError(
            f"--memory-limit: must be an amount of memory such as 4GiB or 1500MB (got {text!r})"
        )
    return int(float(found.group(1)) * factor)


def available_bytes() -> int:
    """Memory that can be had without swapping, of the machine and of this process's container."""
    available = int(psutil.virtual_memory().available)
    with suppress(OSError, ValueError):  # cgroup v2; "max" where there is no bound
        folder = Path("/sys/fs/cgroup")
        most = int((folder / "memory.max").read_text())
        used = int((folder / "memory.current").read_text())
        available = min(available, max(0, most - used))
    return available


@contextmanager
def bounded_memory(limit_bytes: int) -> Iterator[None]:
    """Let this process's resident set grow to `limit_bytes` and no further.

    Raises:
        MemoryError: it is larger already. Within the block, allocators fail in their own ways.
    """
    resident = int(psutil.Process().memory_info().rss)
    if resident >= limit_bytes:
        raise MemoryError(f"the process takes {resident} bytes before it begins")
    stop = threading.Event()
    watch = threading.Thread(target=_watch, args=(limit_bytes, stop), daemon=True)
    lift = _refuse_growth(limit_bytes - resident)
    watch.start()
    try:
        yield
    finally:
        stop.set()
        lift()
        watch.join()


def _watch(limit_bytes: int, stop: threading.Event) -> None:
    process = psutil.Process()
    while not stop.wait(_WATCH_SECONDS):
        if process.memory_info().rss > limit_bytes:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel would, only earlier


def _refuse_growth(room_bytes: int) -> Callable[[], None]:
    """Have the kernel refuse private memory beyond `room_bytes` more; returns what lifts that.

    Elsewhere than on Linux nothing is refused: there RLIMIT_DATA does not count mapped memory.
    """
    if sys.platform != "linux":
        return lambda: None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    bound = _private_bytes() + room_bytes
    if hard != resource.RLIM_INFINITY:
        bound = min(bound, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (bound, hard))
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _private_bytes() -> int:
    """What RLIMIT_DATA counts of this process now: VmData of proc(5)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0
