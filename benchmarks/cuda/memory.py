"""Peak memory of inference and of a training step, variant by variant, in one process.

Each variant runs once to warm up, everything that can be freed is given back to the device, the
peaks are reset, and it runs again. `run` is the peak less what was there before: what the work
itself needs, above weights and optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cuda.budget import Allowance, Cell, reason_of, run_cells
from benchmarks.cuda.machine import process_bytes
from benchmarks.cuda.training import training_variants
from benchmarks.cuda.workbench import Workbench
from benchmarks.variants import Contestant, Mode, Variant

__all__ = ["measure_memory", "measure_peaks"]

_MEASURES = ("run", "allocated", "reserved", "process")


@dataclass(frozen=True)
class _Point:
    batch: int
    mode: Mode


def measure_memory(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}, or a reason."""
    if bench.device.type != "cuda":
        return {"reason": "peaks of the CUDA allocator need a CUDA device; on a CPU there is"
                " `alpine measure-memory`"}  # fmt: skip
    half = torch.bfloat16
    train = Mode(train=True, autocast=half, settles=True)
    checkpointed = Mode(train=True, autocast=half, checkpointing=True, settles=True)
    cells = [
        Cell("inference, bfloat16, batch 32", _Point(32, Mode(settles=True))),
        Cell("training step, bfloat16 autocast, batch 32", _Point(32, train)),
        Cell("inference, bfloat16, batch 256", _Point(256, Mode(settles=True))),
        Cell("training step, gradient checkpointing, batch 32", _Point(32, checkpointed)),
    ]
    return {
        "encoder": bench.main_encoder,
        "cells": run_cells(cells, allowance, lambda *at: _measure(bench, *at), say=bench.say),
    }


def _measure(bench: Workbench, point: _Point, allowance: Allowance) -> dict[str, Any]:
    dtype = torch.float32 if point.mode.train else torch.bfloat16

    def encoder(_: Variant) -> Any:
        # One of its own for every variant: nothing that is not this variant's is on the device.
        return bench.encoder(bench.main_encoder, bench.cut_at, dtype)

    choose = training_variants if point.mode.train else Workbench.variants
    variants, absent = choose(bench, torch.bfloat16)
    found = measure_peaks(
        bench, variants, encoder, bench.functions(point.batch), point.batch, point.mode, allowance
    )
    return found | {"absent": absent | found["absent"]}


def measure_peaks(
    bench: Workbench,
    variants: Sequence[Variant],
    encoder_of: Callable[[Variant], Any],
    functions: list[list[int]],
    batch: int,
    mode: Mode,
    allowance: Allowance,
) -> dict[str, Any]:
    """Peaks of one batch of each variant, by its name, and ratios to `packed, none`.

    Args: as for `race.enter`; the longest functions make the batch, which sets the peak.
    """
    rows = sorted(functions, key=len)[-batch:]
    found: list[dict[str, Any]] = []
    absent: dict[str, str] = {}
    for variant in variants:
        if allowance.left() <= 0:
            absent[variant.name] = "not reached: the cell's time was up"
            continue
        contestant = None
        try:
            contestant = Contestant(variant, encoder_of(variant), [rows], batch, mode)
            contestant.warm_up()
            found.append({"variant": variant.name, **_peaks(bench, contestant)})
        except Exception as error:  # out of memory, a kernel that is missing
            absent[variant.name] = reason_of(error)
        del contestant
        bench.release()
    _relate(found)
    return {"batch": batch, "longest": len(rows[-1]), "variants": found, "absent": absent}


def _peaks(bench: Workbench, contestant: Contestant) -> dict[str, Any]:
    bench.release()
    before = torch.cuda.memory_allocated(bench.device)
    torch.cuda.reset_peak_memory_stats(bench.device)
    contestant.round()
    allocated = torch.cuda.max_memory_allocated(bench.device)
    process, reason = process_bytes(bench.uuid)
    return {
        "before_bytes": before,
        "run_bytes": allocated - before,
        "allocated_bytes": allocated,
        "reserved_bytes": torch.cuda.max_memory_reserved(bench.device),
        "process_bytes": process,
        "process_reason": reason,
    }


def _relate(found: list[dict[str, Any]]) -> None:
    """Add the ratio of each figure to that of `packed, none`, in place."""
    unpruned = next((row for row in found if row["variant"] == "packed, none"), None)
    if unpruned is None:
        return
    for row in found:
        for name in _MEASURES:
            of, to = row[f"{name}_bytes"], unpruned[f"{name}_bytes"]
            row[f"{name}_ratio"] = of / to if of is not None and to else None
