"""Inference: batch sizes, lengths, precisions and sizes of model, all variants in turns.

Batch 1 is latency: one request at a time, waited for. All other batches are queued, as a server of
many requests does. Lengths are swept at 16,384 tokens a batch at most, so that every length fills
the GPU alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.race import enter, race
from benchmarks.cuda.stock_flash import flash_implementation
from benchmarks.cuda.workbench import PRECISIONS, Workbench, multiplying
from benchmarks.variants import Mode

__all__ = ["measure_inference"]

_TOKENS = 16384


@dataclass(frozen=True)
class _Point:
    """One shape: functions as they come, or, with `longest`, code of half to all that length."""

    encoder: str
    precision: str
    batch: int
    longest: int | None = None


def _points(bench: Workbench) -> list[Cell[_Point]]:
    """All cells, the most important ones first."""
    name, half = bench.main_encoder, "bfloat16"
    if bench.small:
        points = [
            (_Point(name, "float32", 4), 1.0),
            (_Point(name, "float32", 1), 1.0),
            (_Point(name, "float32", 2, 64), 1.0),
            (_Point(name, half, 2), 1.0),
            (_Point(name, "float32, TF32 on", 4), 1.0),
        ]
    else:
        points = [
            # the published way takes seconds a round, and must fit where it is judged by
            (_Point(name, half, 32), 4.0),
            (_Point(name, half, 8), 3.0),
            (_Point(name, half, 1), 3.0),
            (_Point(name, half, 128), 2.0),
            (_Point(name, half, 256), 2.0),
            (_Point("roberta-large", half, 32), 2.0),
            (_Point("modernbert-base", half, 32), 2.0),
            *[
                (_Point(name, half, max(1, _TOKENS // length), length), 1.0)
                for length in (128, 256, 512, 1024, 2048, 4096, 8192)
            ],
            *[(_Point(name, precision, 32), 1.0) for precision in PRECISIONS if precision != half],
            (_Point("roberta-large", half, 1), 1.0),
            (_Point("modernbert-base", half, 1), 1.0),
            (_Point("modernbert-base", half, 2, 8192), 1.0),
        ]
    return [Cell(_name(point), point, weight) for point, weight in points]


def _name(point: _Point) -> str:
    code = "functions" if point.longest is None else f"lengths to {point.longest}"
    return f"{point.encoder}, {point.precision}, batch {point.batch}, {code}"


def measure_inference(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}."""

    def measure(point: _Point, allowance: Allowance) -> dict[str, Any]:
        precision = PRECISIONS[point.precision]
        if precision.matmul != "highest" and bench.device.type != "cuda":
            return {"reason": "TF32 is a mode of CUDA devices"}
        if point.longest is None:
            rows, longest = bench.functions(point.batch), bench.cut_at
        else:
            rows, longest = bench.code.long_rows(point.batch, point.longest), point.longest
        encoder = bench.encoder(point.encoder, longest, precision.dtype)
        variants, absent = bench.variants(precision.dtype)
        mode = Mode(waits=point.batch == 1, settles=True)
        with (
            multiplying(precision),
            enter(bench, variants, lambda _: encoder, rows, point.batch, mode, absent) as entrants,
        ):
            found = race(bench, entrants, allowance)
        return {
            "encoder": point.encoder,
            "precision": point.precision,
            "batch": point.batch,
            "sequences": len(rows),
            "longest": max(map(len, rows)),
            "mean_length": sum(map(len, rows)) / len(rows),
            "waits_for_each_batch": mode.waits,
            "stock_flash": flash_implementation(bench.device, precision.dtype)[1],
            **found,
        }

    return {"cells": run_cells(_points(bench), allowance, measure, say=bench.say)}
