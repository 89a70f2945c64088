"""`alpine measure-flops`: multiply-adds per sample, by three methods that must agree."""

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

__all__ = ["measure_flops"]


def measure_flops(
    checkpoint: CheckpointOption,
    data: DataOption = None,
    baseline: m.BaselineOption = None,
    split: m.SplitOption = "test",
    limit: LimitOption = None,
    batch_size: m.BatchSizeOption = 1,
    device: DeviceOption = None,
    layers: LayersOption = None,
    alpha: AlphaOption = None,
    merge: m.MergeOption = None,
    protect: m.ProtectOption = None,
    engine: m.EngineOption = None,
    reference: m.ReferenceOption = False,
    threads: m.ThreadsOption = None,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Count multiply-adds (MACs) and FLOPs per sample, layer by layer.

    Three methods: formulas at the length each layer really ran at, torch's
    operator counter, and fvcore. A disagreement above 1 % is reported.
    Papers often call MACs FLOPs: here each figure says which it is. Engines
    that pad cost more in larger batches, so the batch size counts.

        alpine measure-flops --checkpoint ckpt.pt --layers even
    """
    m.measure(
        ("flops",),
        output=output,
        as_json=json_,
        checkpoint=checkpoint,
        data=data,
        baseline=baseline,
        split=split,
        limit=limit,
        flops_batch_size=batch_size,
        device=device,
        layers=layers,
        alpha=alpha,
        merge=merge,
        protect=protect,
        engine=engine,
        reference=reference,
        threads=threads,
        seed=seed,
    )
