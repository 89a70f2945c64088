"""`alpine throughput`: samples per second over real lengths, interleaved."""

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

__all__ = ["throughput"]


def throughput(
    checkpoint: CheckpointOption,
    data: DataOption = None,
    baseline: m.BaselineOption = None,
    split: m.SplitOption = "test",
    limit: LimitOption = None,
    batch_size: m.BatchSizeOption = None,
    tokens_per_batch: m.TokensPerBatchOption = None,
    device: DeviceOption = None,
    layers: LayersOption = None,
    alpha: AlphaOption = None,
    merge: m.MergeOption = None,
    protect: m.ProtectOption = None,
    engine: m.EngineOption = None,
    precision: m.PrecisionOption = "float32",
    prune: m.PruneOption = None,
    reference: m.ReferenceOption = False,
    threads: m.ThreadsOption = None,
    runs: m.RunsOption = 10,
    min_seconds: m.MinSecondsOption = 10.0,
    timed_samples: m.TimedSamplesOption = 256,
    latency: Annotated[bool, typer.Option(help="Measure batch size 1, too.")] = True,
    training_throughput: Annotated[
        bool, typer.Option("--training/--no-training", help="Time training steps, too.")
    ] = True,
    training_batch_size: m.TrainingBatchSizeOption = None,
    training_tokens_per_batch: m.TrainingTokensPerBatchOption = None,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure samples and tokens per second, overall and by length, latency at
    batch size 1, and training steps.

    Variants take turns in random order in one process; tokenisation is
    timed apart. The interval is that of the ratio, paired by run.

        alpine throughput --checkpoint ckpt.pt --runs 20 --threads 2
    """
    m.measure(
        ("throughput",),
        output=output,
        as_json=json_,
        checkpoint=checkpoint,
        data=data,
        baseline=baseline,
        split=split,
        limit=limit,
        batch_size=batch_size,
        tokens_per_batch=tokens_per_batch,
        device=device,
        layers=layers,
        alpha=alpha,
        merge=merge,
        protect=protect,
        engine=engine,
        precision=precision,
        prune=m.pruning_fields(prune),
        reference=reference,
        threads=threads,
        runs=runs,
        min_seconds=min_seconds,
        timed_samples=timed_samples,
        latency=latency,
        training_throughput=training_throughput,
        training_batch_size=training_batch_size,
        training_tokens_per_batch=training_tokens_per_batch,
        seed=seed,
    )
