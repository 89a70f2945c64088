"""What the measuring commands share: their options, and the way from options to a result file.

A command builds `MeasureOptions` and calls `measure`; results go to a directory that only grows,
so there is no --force here: no result is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

import typer

from alpine_cli.cli._common import error_console, print_json
from alpine_cli.cli._progress import show_progress
from alpine_cli.cli._result_table import print_result
from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.presets import preset_fields

__all__ = [
    "BaselineOption",
    "BatchSizeOption",
    "CarbonIntensityOption",
    "CountryOption",
    "EngineOption",
    "MergeOption",
    "MinSecondsOption",
    "ProtectOption",
    "PruneOption",
    "PueOption",
    "ReferenceOption",
    "ResultsOption",
    "RunsOption",
    "SeedOption",
    "SplitOption",
    "ThreadsOption",
    "TimedSamplesOption",
    "TokensPerBatchOption",
    "TrainingBatchSizeOption",
    "TrainingTokensPerBatchOption",
    "measure",
    "print_result",
    "pruning_fields",
]

BaselineOption = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        help="Another ckpt.pt that stands for stock and unpruned, e.g. one trained without"
        " pruning; default: the same weights.",
        metavar="FILE",
    ),
]
SplitOption = Annotated[str, typer.Option("--split", help="train, valid or test.")]
BatchSizeOption = Annotated[
    int | None,
    typer.Option("--batch-size", min=1, help="Samples per forward pass.", show_default="32"),
]
TokensPerBatchOption = Annotated[
    int | None,
    typer.Option(
        "--tokens-per-batch",
        min=1,
        help="Instead of --batch-size: tokens per forward pass at most, padding counted; the same"
        " samples together in every variant. A longer sample is a batch of its own.",
        metavar="N",
    ),
]
TrainingBatchSizeOption = Annotated[
    int | None,
    typer.Option(
        "--training-batch-size", min=1, help="Samples of a training step.", show_default="8"
    ),
]
TrainingTokensPerBatchOption = Annotated[
    int | None,
    typer.Option(
        "--training-tokens-per-batch",
        min=1,
        help="Instead of --training-batch-size: tokens of a training step at most, padding"
        " counted.",
        metavar="N",
    ),
]
MergeOption = Annotated[
    str | None, typer.Option("--merge", help="Override the checkpoint: mean, none or nearest.")
]
ProtectOption = Annotated[
    str | None, typer.Option("--protect", help="Override the checkpoint: special or ends.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="Override the checkpoint: packed, padded, reference.")
]
PrecisionOption = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Of inference: float32, bfloat16 or float16; training steps then keep float32 weights"
        " and multiply by autocast (default: float32).",
        show_default=False,
    ),
]
PruneOption = Annotated[
    list[str] | None,
    typer.Option(
        "--prune",
        help="Override any other field of the checkpoint's pruning: rule=top, keep=0.6, score=cls,"
        " output=first; or all that say how tokens go: preset=alpine-plus (or alpine, the published"
        " rule). Repeatable.",
        metavar="FIELD=VALUE",
    ),
]
ReferenceOption = Annotated[
    bool, typer.Option("--reference", help="Measure the published algorithm's engine, too (slow).")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of each worker; default: all usable cores."),
]
RunsOption = Annotated[
    int, typer.Option("--runs", min=1, help="At least so many runs of each variant.")
]
MinSecondsOption = Annotated[
    float, typer.Option("--min-seconds", min=0, help="And at least so many seconds of each.")
]
TimedSamplesOption = Annotated[
    int,
    typer.Option(
        "--timed-samples",
        min=0,
        help="One run passes over about so many samples, evenly spaced over the lengths of the"
        " split; 0: over all.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Of batch order, interleaving and resampling.")
]
ResultsOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Directory of result files; one is added, none is replaced."
    ),
]
CountryOption = Annotated[
    str | None,
    typer.Option("--country", help="Grid of this country, as a three-letter ISO code, e.g. FRA."),
]
CarbonIntensityOption = Annotated[
    float | None,
    typer.Option("--carbon-intensity", min=0, help="Grid intensity in g CO2e/kWh."),
]
PueOption = Annotated[
    float, typer.Option("--pue", help="Power usage effectiveness of the site, 1 or more.")
]


def pruning_fields(assignments: Sequence[str] | None) -> dict[str, Any] | None:
    """Read `--prune` options: values are YAML, so that numbers are numbers.

    Raises:
        ConfigError: not FIELD=VALUE, no field of `PruningConfig`, given twice, or no such preset.
    """
    if not assignments:
        return None
    import yaml

    known = [*(field.name for field in fields(PruningConfig)), "preset"]
    found: dict[str, Any] = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or name not in known:
            raise ConfigError(
                f"--prune {text}: must be FIELD=VALUE with a field of {', '.join(known)}"
            )
        if name in found:
            raise ConfigError(f"--prune {text}: {name} is given twice")
        try:
            found[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--prune {text}: not a YAML value: {error}") from error
    if "preset" in found:
        try:
            found = preset_fields(found.pop("preset")) | found
        except PruningError as error:
            raise ConfigError(f"--prune {error}") from error
    return found


def measure(kinds: Sequence[str], *, output: Path, as_json: bool, **options: Any) -> None:
    """Measure one cell, write the result file, print the result.

    Args:
        kinds: names of `measure.bench.KINDS`.
        output: directory of result files.
        as_json: print the result file instead of the table.
        options: fields of `measure.options.MeasureOptions`.

    Raises:
        ConfigError: two options that both say how large a batch is.
        OutputError: `output` or a parent of it is a file, or cannot be written to.
    """
    from alpine_cli.measure.options import MeasureOptions
    from alpine_cli.measure.session import check_output

    check_output(output)
    from alpine_cli.measure.bench import measure_cell
    from alpine_cli.measure.environment import describe_environment
    from alpine_cli.measure.session import plan_cells
    from alpine_cli.result_files import write_result

    if "timed_samples" in options:
        options["timed_samples"] = options["timed_samples"] or None
    (plan,) = plan_cells([MeasureOptions(**options)])
    with show_progress() as watcher:
        watcher.planned([plan], kinds)
        environment = describe_environment(threads=plan.options.threads, seed=plan.options.seed)
        result = measure_cell(plan, kinds, environment, watcher=watcher.cell(0))
    path = write_result(result, output)
    if as_json:
        print_json(result)
    else:
        print_result(result)
    error_console().print(f"\nwritten: {path}", markup=False, highlight=False, soft_wrap=True)
