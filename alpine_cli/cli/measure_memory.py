"""`alpine measure-memory`: peak memory of inference and of a training step."""

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

__all__ = ["measure_memory"]


def measure_memory(
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
    memory_runs: Annotated[
        int, typer.Option("--runs", min=1, help="Fresh processes per figure.")
    ] = 5,
    training_memory: Annotated[bool, typer.Option(help="Measure a training step, too.")] = True,
    training_batch_size: Annotated[
        int, typer.Option("--training-batch-size", min=1, help="Samples of that training step.")
    ] = 8,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure the peak memory of inference and of a training step, in fresh
    processes.

    On CUDA the allocator's peaks, on the CPU the peak resident set, with
    and without what the process held before the first batch.

        alpine measure-memory --checkpoint ckpt.pt --batch-size 16
    """
    m.measure(
        ("memory",),
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
        memory_runs=memory_runs,
        training_memory=training_memory,
        training_batch_size=training_batch_size,
        seed=seed,
    )
