"""`alpine measure-memory`: peak memory of inference and training; the largest batch that fits."""

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
from alpine_cli.errors import ConfigError

__all__ = ["measure_memory"]


def measure_memory(
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
    memory_runs: Annotated[
        int, typer.Option("--runs", min=1, help="Fresh processes per figure.")
    ] = 5,
    training_memory: Annotated[bool, typer.Option(help="Measure a training step, too.")] = True,
    training_batch_size: m.TrainingBatchSizeOption = None,
    training_tokens_per_batch: m.TrainingTokensPerBatchOption = None,
    find_batch_size: Annotated[
        bool,
        typer.Option(
            "--find-batch-size",
            help="Instead of peaks, search the largest batch that fits, from --batch-size and"
            " --training-batch-size on.",
        ),
    ] = False,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            "--memory-limit",
            metavar="BYTES",
            help="With --find-batch-size: what it has to fit into, such as 4GiB; default: half of"
            " the available memory, or the whole GPU.",
        ),
    ] = None,
    seed: m.SeedOption = 0,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure the peak memory of inference and of a training step, in fresh
    processes.

    On CUDA the allocator's peaks, on the CPU the peak resident set, with
    and without what the process held before the first batch.

        [bold]alpine measure-memory --checkpoint ckpt.pt --batch-size 16[/]

    With --find-batch-size, how many of the longest samples fit at once:

        [bold]alpine measure-memory --checkpoint ckpt.pt --find-batch-size --memory-limit 4GiB[/]
    """
    limit_bytes = None
    if memory_limit is not None:
        from alpine_cli.measure.memory_limit import parse_bytes

        if not find_batch_size:
            raise ConfigError("--memory-limit: goes with --find-batch-size")
        limit_bytes = parse_bytes(memory_limit)
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
        memory_runs=memory_runs,
        training_memory=training_memory,
        training_batch_size=training_batch_size,
        training_tokens_per_batch=training_tokens_per_batch,
        find_batch_size=find_batch_size,
        memory_limit=limit_bytes,
        seed=seed,
    )
