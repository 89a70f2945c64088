"""`alpine bench`: accuracy, FLOPs, memory, throughput and CO2, pruned against unpruned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alpine_cli.cli import _measuring as m
from alpine_cli.cli._common import (
    AlphaOption,
    CheckpointOption,
    DataOption,
    DeviceOption,
    JsonOption,
    LayersOption,
    LimitOption,
)

__all__ = ["bench"]


def bench(
    checkpoint: CheckpointOption,
    data: DataOption = None,
    baseline: m.BaselineOption = None,
    split: m.SplitOption = "test",
    limit: LimitOption = None,
    batch_size: m.BatchSizeOption = 32,
    device: DeviceOption = None,
    layers: LayersOption = None,
    alpha: AlphaOption = None,
    merge: m.MergeOption = None,
    protect: m.ProtectOption = None,
    engine: m.EngineOption = None,
    reference: m.ReferenceOption = False,
    threads: m.ThreadsOption = None,
    runs: m.RunsOption = 10,
    min_seconds: m.MinSecondsOption = 10.0,
    timed_samples: m.TimedSamplesOption = 256,
    memory_runs: Annotated[
        int, typer.Option("--memory-runs", min=1, help="Fresh processes per memory figure.")
    ] = 5,
    training_memory: Annotated[
        bool, typer.Option(help="Measure the memory of a training step, too.")
    ] = True,
    training_batch_size: Annotated[
        int, typer.Option("--training-batch-size", min=1, help="Samples of that training step.")
    ] = 8,
    country: m.CountryOption = None,
    carbon_intensity: m.CarbonIntensityOption = None,
    pue: m.PueOption = 1.0,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure everything, pruned against unpruned, and print one table.

    Three variants take turns: `stock` (transformers, padded), `unpruned`
    (alpine's engine, no layer pruned) and `pruned`; so what the engine
    gains and what pruning gains stand apart. Each measure runs in a fresh
    process; every ratio has a 95 % confidence interval, and where it covers
    1 there is no verdict.

        alpine bench --checkpoint runs/NAME/ckpt.pt

        alpine bench --checkpoint ckpt.pt --data DIR --layers even --limit 200 --runs 5
    """
    m.measure(
        ("accuracy", "flops", "memory", "throughput", "energy"),
        output=output,
        as_json=json_,
        checkpoint=checkpoint,
        data=data,
        baseline=baseline,
        split=split,
        limit=limit,
        batch_size=batch_size,
        device=device,
        layers=layers,
        alpha=alpha,
        merge=merge,
        protect=protect,
        engine=engine,
        reference=reference,
        threads=threads,
        runs=runs,
        min_seconds=min_seconds,
        timed_samples=timed_samples,
        memory_runs=memory_runs,
        training_memory=training_memory,
        training_batch_size=training_batch_size,
        country=country,
        carbon_intensity=carbon_intensity,
        pue=pue,
        seed=seed,
    )
