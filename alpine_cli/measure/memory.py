"""Peak memory of inference and of a training step.

One variant and one purpose per process, so that no peak is inherited. On the CPU the resident set
is measured: the kernel's high-water mark, reset right before the run, less what the process held
by then (weights included) is what the run itself needed; both are given. On CUDA the allocator's
own peaks are. Only the batches that may set the peak run: those of the largest padded area.

A measured trap: glibc raises its threshold for separate mappings as large blocks are freed, and
later blocks then fragment its heap. The peak shows what the allocator keeps, not what the run
needs: 3.6 instead of 1.6 GiB for a training step whose tensors come in many sizes. The workers
are therefore started with `ALLOCATOR`, which pins the threshold; equal for all variants.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import torch

from alpine_cli.measure.training_step import TrainingRun
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import (
    Batch,
    LoadedVariant,
    WorkloadRequest,
    load_workload,
    synchronise,
)
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["ALLOCATOR", "MEMORY_FIGURES", "PeakRss", "infer", "measure_memory", "train"]

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Environment of memory workers: blocks from 64 KiB on go back to the system when freed."""

_BATCHES = 4
_TRAINING_STEPS = 2

# name -> (unit, what it is); one worker answers those that fit its device and purpose.
MEMORY_FIGURES: dict[str, str] = {
    "run": "peak resident set minus the resident set before the first batch (which holds the"
    " weights)",
    "process": "peak resident set of the process: interpreter, libraries, weights and run",
    "cuda_run": "torch.cuda.max_memory_allocated minus what was allocated before the first batch",
    "cuda_allocated": "torch.cuda.max_memory_allocated, weights included",
    "cuda_reserved": "torch.cuda.max_memory_reserved: what the allocator took from the GPU",
}


class PeakRss:
    """The high-water mark of this process's resident set, in bytes, from `start` on."""

    def start(self) -> int:
        """Return freed memory to the system, reset the mark; returns the resident set now."""
        gc.collect()
        with suppress(OSError, AttributeError):
            ctypes.CDLL("libc.so.6").malloc_trim(0)  # glibc keeps freed pages otherwise
        self.is_reset = self._reset()
        return int(psutil.Process().memory_info().rss)

    def peak(self) -> int:
        """The mark now."""
        with suppress(OSError):
            for line in Path("/proc/self/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        import resource  # absent on Windows, where this file has not been tried

        # Kilobytes on Linux, bytes on macOS; the mark then covers the whole life of the process.
        scale = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale

    @staticmethod
    def _reset() -> bool:
        try:
            Path("/proc/self/clear_refs").write_text("5")  # proc(5): resets VmHWM
        except OSError:
            return False
        return True


def measure_memory(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. One variant; `purpose` is inference or training.

    Returns:
        {"bytes": {name of MEMORY_FIGURES: bytes}, "peak_was_reset": bool}
    """
    trains = request["purpose"] == "training"
    wanted = WorkloadRequest.model_validate(request["workload"])
    workload = load_workload(wanted, widened=trains)
    (variant,) = workload.variants.values()
    report_progress(0, 1, f"memory of {variant.name}, {request['purpose']}")
    limit = workload.request.batch_limit
    batches = variant.batches(limit, workload.request.seed)
    if trains:
        return _peaks(variant, _heaviest(batches, 1, limit), train)
    return _peaks(variant, _heaviest(batches, _BATCHES, limit), infer)


def _heaviest(batches: list[Batch], count: int, limit: BatchLimit) -> list[Batch]:
    """Those that may set the peak: of the largest padded area.

    Within a budget of tokens all areas are alike, and what grows with the square of the length
    (attention weights, where they are kept) decides: as many of the longest rows join them.
    """
    by_area = sorted(batches, key=lambda batch: batch.input_ids.numel(), reverse=True)[:count]
    if limit.tokens is None:
        return by_area
    by_length = sorted(batches, key=_attention_area, reverse=True)[:count]
    return by_area + [batch for batch in by_length if not any(batch is one for one in by_area)]


def _attention_area(batch: Batch) -> int:
    return batch.input_ids.numel() * batch.input_ids.shape[1]


def _peaks(variant: LoadedVariant, batches: list[Batch], work: Any) -> dict[str, Any]:
    device = variant.device
    before_cuda = 0
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before_cuda = torch.cuda.memory_allocated(device)
    rss = PeakRss()
    before = rss.start()
    work(variant, batches)
    synchronise(device)
    peak = rss.peak()
    found: dict[str, int] = {"run": max(0, peak - before), "process": peak}
    if device.type == "cuda":
        allocated = torch.cuda.max_memory_allocated(device)
        found = {
            "cuda_run": allocated - before_cuda,
            "cuda_allocated": allocated,
            "cuda_reserved": torch.cuda.max_memory_reserved(device),
        }
    return {"bytes": found, "peak_was_reset": rss.is_reset}


def infer(variant: LoadedVariant, batches: Sequence[Batch]) -> None:
    """One forward pass over each batch."""
    with torch.inference_mode():
        for batch in batches:
            variant.forward(batch)


def train(variant: LoadedVariant, batches: Sequence[Batch]) -> None:
    """Two rounds of training steps: the second stands on gradients and optimiser state."""
    run = TrainingRun(variant)
    for _ in range(_TRAINING_STEPS):
        run.run(batches)
