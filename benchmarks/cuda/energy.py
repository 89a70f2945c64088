"""Energy per function by the GPU's own counter, idle power measured before and subtracted.

Windows are as long as the counter's step asks for (`NvmlMeter.window_s`, three seconds at least);
variants take turns. The time of the same windows stands beside the joules, so that what was saved
of one can be set against what was saved of the other.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.energy_figures import EnergyBlock
from alpine_cli.measure.meter import Meter
from alpine_cli.measure.statistics import mean_interval
from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.machine import open_energy
from benchmarks.cuda.race import Entrants, enter
from benchmarks.cuda.training import training_variants
from benchmarks.cuda.workbench import Workbench, named
from benchmarks.variants import Contestant, Mode, ratio

__all__ = ["energy_rows", "idle_watts", "measure_energy", "measure_windows"]

# Windows are long: only what the claims are about.
_INFERENCE = (
    "stock bucketed",
    "stock flash bucketed",
    "packed, none",
    "packed, even",
    "packed, all",
)
_TRAINING = ("stock bucketed", "packed, none", "packed, all")
_CALM_SECONDS = 3.0
_MOST_ROUNDS = 10
_LEAST_ROUNDS = 2


@dataclass(frozen=True)
class _Point:
    batch: int
    mode: Mode
    names: tuple[str, ...]


def measure_energy(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}, or the reason why there is no counter."""
    if bench.device.type != "cuda":
        return {"reason": "NVML's energy counter needs an NVIDIA GPU"}
    train = Mode(train=True, autocast=torch.bfloat16, settles=True)
    cells = [
        Cell("inference, bfloat16, batch 32", _Point(32, Mode(settles=True), _INFERENCE), 2.0),
        Cell("training step, bfloat16 autocast, batch 32", _Point(32, train, _TRAINING), 1.0),
    ]
    with open_energy(bench.uuid) as meter:
        bench.release()
        watts = idle_watts(meter)
        return {
            "encoder": bench.main_encoder,
            "method": meter.sources["gpu"].method,
            "window_s": meter.window_s,
            "idle_w": watts,
            "cells": run_cells(
                cells, allowance, lambda *at: _measure(bench, meter, watts, *at), say=bench.say
            ),
        }


def idle_watts(meter: Meter) -> float:
    """Power of the GPU while this process sleeps, its context open, after a moment to calm down."""
    time.sleep(_CALM_SECONDS)
    meter.start()
    began = time.perf_counter()
    time.sleep(meter.window_s)
    seconds = time.perf_counter() - began
    return meter.stop()["gpu"] / seconds


def _measure(
    bench: Workbench, meter: Meter, watts: float, point: _Point, allowance: Allowance
) -> dict[str, Any]:
    rows = bench.functions(point.batch)
    dtype = torch.float32 if point.mode.train else torch.bfloat16
    encoder = bench.encoder(bench.main_encoder, bench.cut_at, dtype)
    choose = training_variants if point.mode.train else Workbench.variants
    variants, absent = choose(bench, torch.bfloat16)
    chosen = named(variants, *point.names)
    absent = {name: why for name, why in absent.items() if name in point.names}
    with enter(bench, chosen, lambda _: encoder, rows, point.batch, point.mode, absent) as entrants:
        return {
            "batch": point.batch,
            "functions": len(rows),
            **measure_windows(entrants, meter, watts, allowance),
        }


def measure_windows(
    entrants: Entrants, meter: Meter, watts: float, allowance: Allowance
) -> dict[str, Any]:
    """Windows of all entrants in turns, as many as the time allows, and what they say."""
    fitting = int(allowance.left() / (meter.window_s * max(1, len(entrants.ready))))
    rounds = max(_LEAST_ROUNDS, min(_MOST_ROUNDS, fitting))
    blocks = run_blocks(
        list(entrants.ready),
        lambda name: _window(entrants.ready[name], entrants.seconds[name], meter),
        runs=rounds,
        min_seconds=0,
        seed=0,
    )
    rows = {name: energy_rows(found, watts) for name, found in blocks.items()}
    unpruned = rows.get("packed, none")
    for name, row in rows.items():
        if unpruned is not None and name != "packed, none":
            _relate(row, unpruned)
    return {
        "rounds": rounds,
        "variants": [{"variant": name, **row} for name, row in rows.items()],
        "absent": entrants.absent,
    }


def _window(contestant: Contestant, seconds: float, meter: Meter) -> EnergyBlock:
    repeats = max(1, math.ceil(meter.window_s / max(seconds, 1e-6)))
    meter.start()
    began = time.perf_counter()
    for _ in range(repeats):
        contestant.round()
    taken = time.perf_counter() - began
    return EnergyBlock(taken, repeats * contestant.samples, meter.stop())


def energy_rows(blocks: Sequence[EnergyBlock], watts: float) -> dict[str, Any]:
    """J and seconds per sample of one variant's windows, gross and less idle power."""
    gross = [block.joules["gpu"] / block.samples for block in blocks]
    net = [(block.joules["gpu"] - watts * block.seconds) / block.samples for block in blocks]
    seconds = [block.seconds / block.samples for block in blocks]
    power = sum(block.joules["gpu"] for block in blocks) / sum(block.seconds for block in blocks)
    return {
        "gross_j": _mean(gross),
        "net_j": _mean(net),
        "seconds": _mean(seconds),
        "mean_power_w": power,
    }


def _mean(values: list[float]) -> dict[str, Any]:
    interval = mean_interval(values)
    found: dict[str, Any] = {"value": sum(values) / len(values), "samples": values}
    return found | ({"low": interval.low, "high": interval.high} if interval else {})


def _relate(row: dict[str, Any], unpruned: dict[str, Any]) -> None:
    """Ratios to unpruned, and energy saved ÷ time saved, in place.

    The quotient is None where no time was saved: nothing could follow from it.
    """
    for name in ("gross_j", "net_j", "seconds"):
        row[f"{name}_ratio"] = ratio(row[name]["samples"], unpruned[name]["samples"])
    saved = 1 - row["seconds_ratio"]["value"]
    for name in ("gross", "net"):
        spared = 1 - row[f"{name}_j_ratio"]["value"]
        row[f"{name}_saved_per_time_saved"] = spared / saved if saved > 0 else None
