"""`alpine co2`: energy per sample and the CO2 it stands for."""

from __future__ import annotations

from pathlib import Path

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
    country: m.CountryOption = None,
    carbon_intensity: m.CarbonIntensityOption = None,
    pue: m.PueOption = 1.0,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure, or else model, energy per sample, and turn it into CO2.

    GPU: NVML's energy counter. CPU and memory: RAPL counters where they are
    readable, otherwise codecarbon's offline model. Every component says
    whether it was measured or modelled; a model follows time and CPU load,
    so it shows no saving beyond them.

        alpine co2 --checkpoint ckpt.pt --country FRA
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
        country=country,
        carbon_intensity=carbon_intensity,
        pue=pue,
        seed=seed,
    )
