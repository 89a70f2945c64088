"""How much of the device's matrix rate a forward pass reaches.

The rate is measured, not taken from a data sheet: the best of large square products in bfloat16,
and of the products that the model itself makes, with as many rows as the unpruned and the pruned
batch have tokens. FLOPs are twice the multiply-adds of `variants.macs`, at the true lengths.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch

from alpine_cli.measure.workload import synchronise
from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.race import enter, race
from benchmarks.cuda.workbench import Workbench, named
from benchmarks.variants import Mode

__all__ = ["matrix_rate", "measure_roofline"]

_NAMES = ("stock bucketed", "packed, none", "packed, all")
_REPEATS = 5


@dataclass(frozen=True)
class _Point:
    encoder: str
    batch: int


def matrix_rate(
    device: torch.device, dtype: torch.dtype, rows: int, inner: int, columns: int, seconds: float
) -> float:
    """FLOP/s of the product (rows, inner) × (inner, columns): the best of five stretches.

    Each stretch is as many products as fill `seconds`; the first is a warm-up.
    """
    a = torch.randn(rows, inner, device=device).to(dtype)
    b = torch.randn(inner, columns, device=device).to(dtype)
    out = torch.empty(rows, columns, device=device, dtype=dtype)

    def stretch(products: int) -> float:
        synchronise(device)
        began = time.perf_counter()
        for _ in range(products):
            torch.mm(a, b, out=out)
        synchronise(device)
        return (time.perf_counter() - began) / products

    stretch(1)
    products = max(1, int(seconds / max(stretch(3), 1e-9)))
    return 2.0 * rows * inner * columns / min(stretch(products) for _ in range(_REPEATS))


def measure_roofline(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: the peak, and per cell the model's shapes and what passes reach."""
    dtype = torch.float32 if bench.small else torch.bfloat16
    stretch_s = 0.002 if bench.small else 0.1
    sizes = (64, 128) if bench.small else (4096, 8192)
    squares = {
        size: matrix_rate(bench.device, dtype, size, size, size, stretch_s) for size in sizes
    }
    peak = max(squares.values())

    def measure(point: _Point, allowance: Allowance) -> dict[str, Any]:
        rows = bench.functions(point.batch)
        encoder = bench.encoder(point.encoder, bench.cut_at, dtype)
        variants, absent = bench.variants(dtype)
        absent = {name: why for name, why in absent.items() if name in _NAMES}
        mode = Mode(settles=True)
        with enter(
            bench, named(variants, *_NAMES), lambda _: encoder, rows, point.batch, mode, absent
        ) as entrants:
            found = race(bench, entrants, Allowance(allowance.left() / 2))
        for row in found["variants"]:
            flops = 2e9 * row["gmacs_per_function"] * len(rows)
            row["flops_per_s"] = flops * found["rounds"] / sum(row["seconds"])
            row["share_of_peak"] = row["flops_per_s"] / peak
        tokens = {
            row["variant"]: round(point.batch * row["mean_lengths"][-1])
            for row in found["variants"]
            if row["variant"] in ("packed, none", "packed, all")
        }
        config = encoder.config
        wide, inner = config.hidden_size, config.intermediate_size
        shapes = [
            {
                "tokens": count,
                "of": f"{name}, leaving the last layer",
                "inner": k,
                "columns": n,
                "flops_per_s": matrix_rate(bench.device, dtype, count, k, n, stretch_s / 4),
            }
            for name, count in tokens.items()
            for k, n in ((wide, wide), (wide, inner), (inner, wide))
        ]
        return {"encoder": point.encoder, "batch": point.batch, "shapes": shapes, **found}

    names = ["small"] if bench.small else ["roberta-base", "roberta-large"]
    sizes_of_batch = (4,) if bench.small else (32, 256)
    cells = [
        Cell(f"{name}, batch {batch}", _Point(name, batch))
        for name in names
        for batch in sizes_of_batch
    ]
    return {
        "dtype": str(dtype).removeprefix("torch."),
        "square_flops_per_s": {str(size): rate for size, rate in squares.items()},
        "peak_flops_per_s": peak,
        "cells": run_cells(cells, allowance, measure, say=bench.say),
    }
