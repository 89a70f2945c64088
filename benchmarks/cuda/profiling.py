"""The anatomy of a pass under torch.profiler: packed unpruned and pruned, beside stock.

The profiler slows the host down, so that gaps are larger than without it: they are given as they
were seen, next to the wall time of passes that nobody watched.
"""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from alpine_cli.measure.workload import synchronise
from alpine_cli.pruning.apply import ENGINES
from benchmarks.cuda.anatomy import ENGINE_RANGES, anatomy
from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.race import enter
from benchmarks.cuda.workbench import Workbench, named
from benchmarks.variants import Contestant, Mode

__all__ = ["RangedEngine", "measure_profile", "profiled"]

_NAMES = (
    "stock bucketed",
    "stock flash packed",
    "packed, none",
    "packed, all",
    "packed, alpine-plus",
)
_PASSES = 3


@dataclass(frozen=True)
class _Point:
    encoder: str
    batch: int


class RangedEngine:
    """An engine whose parts are named ranges in a profile; otherwise the engine it wraps."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        if f"alpine.{name}" not in ENGINE_RANGES:
            return found

        def ranged(*args: Any, **kwargs: Any) -> Any:
            with record_function(f"alpine.{name}"):
                return found(*args, **kwargs)

        return ranged


def profiled(contestant: Contestant, passes: int = _PASSES) -> dict[str, Any]:
    """The anatomy of `passes` passes over the contestant's functions."""
    activities = [ProfilerActivity.CPU]
    if contestant.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with contestant.running():
        ranged = {name: RangedEngine(engine) for name, engine in ENGINES.items()}
        with patch.dict(ENGINES, ranged), profile(activities=activities) as recorded:
            synchronise(contestant.device)
            began = time.perf_counter()
            for _ in range(passes):
                for batch in contestant.prepared[0]:
                    contestant.run(batch)
            synchronise(contestant.device)
            seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        recorded.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    return anatomy(events, seconds, passes)


def measure_profile(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}."""
    dtype = torch.float32 if bench.small else torch.bfloat16

    def measure(point: _Point, allowance: Allowance) -> dict[str, Any]:
        # a few batches: a trace holds an event for each launch
        rows = bench.functions(point.batch)[: 2 * point.batch]
        encoder = bench.encoder(point.encoder, bench.cut_at, dtype)
        variants, absent = bench.variants(dtype)
        absent = {name: why for name, why in absent.items() if name in _NAMES}
        mode, found = Mode(settles=True), []
        with enter(
            bench, named(variants, *_NAMES), lambda _: encoder, rows, point.batch, mode, absent
        ) as entrants:
            for name, contestant in entrants.ready.items():
                if allowance.left() <= 0:
                    entrants.absent[name] = "not reached: the cell's time was up"
                    continue
                row = {"variant": name, "unwatched_wall_seconds": entrants.seconds[name]}
                found.append(row | profiled(contestant))
        return {"batch": point.batch, "variants": found, "absent": entrants.absent}

    batches = (2,) if bench.small else (32, 8, 1)
    cells = [
        Cell(f"{bench.main_encoder}, batch {batch}", _Point(bench.main_encoder, batch))
        for batch in batches
    ]
    return {"cells": run_cells(cells, allowance, measure, say=bench.say)}
