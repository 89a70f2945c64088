"""`alpine co2`: energy per sample and the CO2 it stands for."""

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

__all__ = ["co2"]


def co2(
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
    training_energy: Annotated[
        bool, typer.Option("--training/--no-training", help="Measure training steps, too.")
    ] = True,
    training_batch_size: m.TrainingBatchSizeOption = None,
    training_tokens_per_batch: m.TrainingTokensPerBatchOption = None,
    country: m.CountryOption = None,
    carbon_intensity: m.CarbonIntensityOption = None,
    pue: m.PueOption = 1.0,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure, or else model, energy per sample of inference and of training
    steps, and turn it into CO2.

    GPU: NVML's energy counter. CPU and memory: RAPL counters where they are
    readable, otherwise codecarbon's offline model. Every component says
    whether it was measured or modelled; a model follows time and CPU load,
    so it shows no saving beyond them. `alpine doctor` tells what this
    machine can measure.

    Beside the training.json of its fine-tuning, a checkpoint's result tells
    after how many inferences pruning has paid the fine-tuning back.

        alpine co2 --checkpoint ckpt.pt --country FRA

    `alpine report --country DEU` puts results on another grid without
    measuring again.
    """
    m.measure(
        ("energy",),
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
        training_energy=training_energy,
        training_batch_size=training_batch_size,
        training_tokens_per_batch=training_tokens_per_batch,
        country=country,
        carbon_intensity=carbon_intensity,
        pue=pue,
        seed=seed,
    )
