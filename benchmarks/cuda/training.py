"""Training steps: forward, backward and AdamW under bfloat16 autocast, dropout on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.race import enter, race
from benchmarks.cuda.stock_flash import TORCH_VARLEN
from benchmarks.cuda.workbench import PACKED, Workbench
from benchmarks.variants import Mode, Variant

__all__ = ["measure_training", "training_variants"]


@dataclass(frozen=True)
class _Point:
    encoder: str
    batch: int
    checkpointing: bool = False


def _points(bench: Workbench) -> list[Cell[_Point]]:
    if bench.small:
        points = [_Point("small", 4), _Point("small", 2, checkpointing=True)]
    else:
        points = [
            _Point("roberta-base", 32),
            _Point("roberta-base", 8),
            _Point("roberta-base", 32, checkpointing=True),
            _Point("roberta-base", 128),
            _Point("modernbert-base", 32),
            _Point("roberta-large", 32),
        ]
    words = {False: "", True: ", gradient checkpointing"}
    return [Cell(f"{p.encoder}, batch {p.batch}{words[p.checkpointing]}", p) for p in points]


def training_variants(bench: Workbench, dtype: torch.dtype) -> tuple[list[Variant], dict[str, str]]:
    """Those that are trained in `dtype`: the published way exists to be compared with only."""
    variants, absent = bench.variants(dtype)
    packed = {variant.name for variant in PACKED}
    chosen = []
    for variant in variants:
        if variant.attention == TORCH_VARLEN:
            absent[variant.name] = "flash-attn is not installed; torch's kernel has no dropout"
        elif variant.name in packed or (variant.engine is None and variant.bucketed):
            chosen.append(variant)
    return chosen, absent


def measure_training(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}."""

    def measure(point: _Point, allowance: Allowance) -> dict[str, Any]:
        rows = bench.functions(point.batch)
        encoder = bench.encoder(point.encoder, bench.cut_at, torch.float32)
        mode = Mode(
            train=True, autocast=torch.bfloat16, checkpointing=point.checkpointing, settles=True
        )
        variants, absent = training_variants(bench, torch.bfloat16)
        with enter(bench, variants, lambda _: encoder, rows, point.batch, mode, absent) as entrants:
            found = race(bench, entrants, allowance)
        return {
            "encoder": point.encoder,
            "precision": "float32 weights, bfloat16 autocast",
            "batch": point.batch,
            "gradient_checkpointing": point.checkpointing,
            "sequences": len(rows),
            **found,
        }

    return {"cells": run_cells(_points(bench), allowance, measure, say=bench.say)}
