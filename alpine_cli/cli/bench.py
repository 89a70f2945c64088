"""`alpine bench`: accuracy, FLOPs, memory, throughput, energy and CO2, pruned against unpruned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alpine_cli.cli import _measuring as m
from alpine_cli.cli._common import (
    AlphaOption,
    DataOption,
    JsonOption,
    LayersOption,
    LimitOption,
    error_console,
    print_json,
)
from alpine_cli.errors import ConfigError, MeasurementError

if TYPE_CHECKING:
    from alpine_cli.measure.cells import Axes
    from alpine_cli.measure.options import MeasureOptions, Preset
    from alpine_cli.measure.session import Measured
    from alpine_cli.results import Caution, Result

__all__ = ["bench"]


def _preset_default(plain: str, quick: str | None = None, thorough: str | None = None) -> str:
    """For --help: what an option is under each preset, where they differ."""
    told = [plain]
    told += [f"quick: {quick}"] if quick else []
    told += [f"thorough: {thorough}"] if thorough else []
    return "; ".join(told)


def bench(
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(
            "--checkpoint",
            help="A ckpt.pt of `alpine finetune` or `alpine import`; may be given several times,"
            " e.g. for several seeds.",
            metavar="FILE",
        ),
    ] = None,
    cells: Annotated[
        Path | None,
        typer.Option(
            "--cells",
            help="YAML file of checkpoints, batch_sizes, tokens_per_batch, devices, defaults and"
            " overrides; options given here win over it.",
            metavar="FILE",
        ),
    ] = None,
    data: DataOption = None,
    baseline: m.BaselineOption = None,
    split: Annotated[
        str | None, typer.Option("--split", help="train, valid or test.", show_default="test")
    ] = None,
    limit: LimitOption = None,
    batch_size: Annotated[
        str | None,
        typer.Option(
            "--batch-size",
            help="Samples per forward pass; several as a list: 1,32.",
            metavar="N[,N…]",
            show_default="32",
        ),
    ] = None,
    tokens_per_batch: Annotated[
        str | None,
        typer.Option(
            "--tokens-per-batch",
            help="Instead of --batch-size: tokens per forward pass at most, padding counted;"
            " several as a list: 4096,16384. A longer sample is a batch of its own.",
            metavar="N[,N…]",
        ),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="cpu, cuda or cuda:N; several as a list: cpu,cuda. Default: cuda where there is"
            " one.",
            metavar="NAME[,NAME…]",
        ),
    ] = None,
    layers: LayersOption = None,
    alpha: AlphaOption = None,
    merge: m.MergeOption = None,
    protect: m.ProtectOption = None,
    engine: m.EngineOption = None,
    precision: m.PrecisionOption = None,
    prune: m.PruneOption = None,
    reference: Annotated[
        bool | None,
        typer.Option("--reference", help="Measure the published algorithm's engine, too (slow)."),
    ] = None,
    threads: m.ThreadsOption = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="A first look, some two minutes on a small model: fewer runs and samples, no"
            " training steps. Options given win.",
        ),
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option(
            "--thorough",
            help="To publish: more and longer runs over all samples. Options given win.",
        ),
    ] = False,
    runs: Annotated[
        int | None,
        typer.Option(
            "--runs",
            min=1,
            help="At least so many runs of each variant.",
            show_default=_preset_default("10", "5", "30"),
        ),
    ] = None,
    min_seconds: Annotated[
        float | None,
        typer.Option(
            "--min-seconds",
            min=0,
            help="And at least so many seconds of each.",
            show_default=_preset_default("10", "1", "30"),
        ),
    ] = None,
    timed_samples: Annotated[
        int | None,
        typer.Option(
            "--timed-samples",
            min=0,
            help="One run passes over about so many samples, evenly spaced over the lengths of"
            " the split; 0: over all.",
            show_default=_preset_default("256", "32", "0"),
        ),
    ] = None,
    memory_runs: Annotated[
        int | None,
        typer.Option(
            "--memory-runs",
            min=1,
            help="Fresh processes per memory figure.",
            show_default=_preset_default("5", "1", "10"),
        ),
    ] = None,
    training_memory: Annotated[
        bool | None,
        typer.Option(
            "--training-memory/--no-training-memory",
            help="Measure the memory of a training step, too.",
            show_default=_preset_default("yes", "no"),
        ),
    ] = None,
    training_throughput: Annotated[
        bool | None,
        typer.Option(
            "--training-throughput/--no-training-throughput",
            help="Time training steps, too.",
            show_default=_preset_default("yes", "no"),
        ),
    ] = None,
    training_energy: Annotated[
        bool | None,
        typer.Option(
            "--training-energy/--no-training-energy",
            help="Measure the energy of training steps, too.",
            show_default=_preset_default("yes", "no"),
        ),
    ] = None,
    training_batch_size: m.TrainingBatchSizeOption = None,
    training_tokens_per_batch: m.TrainingTokensPerBatchOption = None,
    latency: Annotated[
        bool | None,
        typer.Option(
            "--latency/--no-latency", help="Time single samples, too.", show_default="yes"
        ),
    ] = None,
    anatomy: Annotated[
        bool | None,
        typer.Option(
            "--anatomy/--no-anatomy",
            help="Take the speed-up apart: what becomes of the saved multiply-adds.",
            show_default=_preset_default("yes", "no"),
        ),
    ] = None,
    country: m.CountryOption = None,
    carbon_intensity: m.CarbonIntensityOption = None,
    pue: Annotated[
        float | None,
        typer.Option(
            "--pue", help="Power usage effectiveness of the site, 1 or more.", show_default="1"
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            min=0,
            help="Of batch order, interleaving and resampling.",
            show_default="0",
        ),
    ] = None,
    resume: Annotated[
        bool | None,
        typer.Option(
            "--resume/--no-resume",
            help="Go on with the same bench where it was interrupted, or throw its parts away."
            " Without either, parts of the same bench are an error.",
        ),
    ] = None,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Measure everything, pruned against unpruned, and print one table.

    Three variants take turns: `stock` (transformers, padded), `unpruned`
    (alpine's engine, no layer pruned) and `pruned`; so what the engine
    gains and what pruning gains stand apart. Each measure runs in a fresh
    process; every ratio has a 95 % confidence interval, and where it covers
    1 there is no verdict. With several checkpoints, batch sizes or devices
    every combination is a cell with a result file of its own.

    Interrupted (Ctrl-C, a kill, a power cut), it loses the measure under way
    and no more: the same command with --resume goes on.

        alpine bench --checkpoint runs/NAME/ckpt.pt

        alpine bench --checkpoint ckpt.pt --data DIR --layers even --quick

        alpine bench --checkpoint a.pt --checkpoint b.pt --batch-size 1,32
    """
    given = {
        "data": data,
        "baseline": baseline,
        "split": split,
        "limit": limit,
        "layers": layers,
        "alpha": alpha,
        "merge": merge,
        "protect": protect,
        "engine": engine,
        "precision": precision,
        "prune": m.pruning_fields(prune),
        "reference": reference,
        "threads": threads,
        "runs": runs,
        "min_seconds": min_seconds,
        "timed_samples": timed_samples,
        "memory_runs": memory_runs,
        "training_memory": training_memory,
        "training_throughput": training_throughput,
        "training_energy": training_energy,
        "training_batch_size": training_batch_size,
        "training_tokens_per_batch": training_tokens_per_batch,
        "latency": latency,
        "anatomy": anatomy,
        "country": country,
        "carbon_intensity": carbon_intensity,
        "pue": pue,
        "seed": seed,
    }
    given = {name: value for name, value in given.items() if value is not None}
    axes = _axes(checkpoint or [], batch_size, tokens_per_batch, device)
    wanted = _cells(axes, given, _preset(quick, thorough), cells)
    _run(wanted, output, resume, as_json=json_)


def _preset(quick: bool, thorough: bool) -> Preset | None:
    """The preset asked for.

    Raises:
        ConfigError: both.
    """
    if quick and thorough:
        raise ConfigError("--quick and --thorough contradict each other; give one of them")
    if quick:
        return "quick"
    return "thorough" if thorough else None


def _axes(
    checkpoints: list[Path], batch_sizes: str | None, tokens: str | None, devices: str | None
) -> Axes:
    """The axes of the command line.

    Raises:
        ConfigError: one cannot be read, or batches are limited in two ways.
    """
    from alpine_cli.measure.cells import Axes

    if batch_sizes is not None and tokens is not None:
        raise ConfigError(
            f"--batch-size {batch_sizes} and --tokens-per-batch {tokens} both say how large a batch"
            " is; give one of them, or a --cells file with both lists"
        )
    return Axes(
        checkpoints=checkpoints,
        batch_sizes=_counts(batch_sizes, "--batch-size", "1,32"),
        tokens_per_batch=_counts(tokens, "--tokens-per-batch", "4096,16384"),
        devices=_names(devices) if devices is not None else (),
    )


def _cells(
    axes: Axes, given: dict[str, Any], preset: Preset | None, file: Path | None
) -> list[MeasureOptions]:
    from alpine_cli.measure.cells import expand, read_cells

    return expand(axes, given, preset, read_cells(file) if file is not None else None)


def _counts(text: str | None, option: str, example: str) -> list[int]:
    """The numbers of "1,32"; none where the option is not given.

    Raises:
        ConfigError: one is not a whole number from 1 on.
    """
    if text is None:
        return []
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and int(word) > 0 for word in words):
        raise ConfigError(
            f"{option}: must be a whole number from 1 on, or a list such as {example}"
            f" (got {text!r})"
        )
    return [int(word) for word in words]


def _names(text: str) -> list[str]:
    """The devices of "cpu,cuda".

    Raises:
        ConfigError: one is empty.
    """
    words = [word.strip() for word in text.split(",")]
    if not all(words):
        raise ConfigError(f"--device: must be a name, or a list such as cpu,cuda (got {text!r})")
    return words


def _run(cells: list[MeasureOptions], output: Path, resume: bool | None, *, as_json: bool) -> None:
    from alpine_cli.cli._progress import show_progress
    from alpine_cli.measure.session import run_session

    note = error_console()
    try:
        with show_progress() as watcher:
            measured = run_session(cells, output, watcher, resume=resume)
    except KeyboardInterrupt:
        if any((output / ".partial").glob("*/*")):
            note.print(
                "what was measured is kept; the same command with --resume goes on from there",
                markup=False,
                highlight=False,
            )
        raise
    _show(measured, several=len(cells) > 1, as_json=as_json)
    if len(measured) < len(cells):
        raise MeasurementError(
            f"{len(cells) - len(measured)} of {len(cells)} cells could not be measured, see above;"
            " the others are written"
        )


def _show(measured: list[Measured], *, several: bool, as_json: bool) -> None:
    from alpine_cli.cli._result_table import print_cautions, print_cells, print_result

    results = [found.result for found in measured]
    if as_json:
        print_json(results if several else results[0])
    elif not several:
        print_result(results[0])
    else:
        print_cells(results)
        print_cautions(_of_cells(results))
    note = error_console()
    note.print()
    for found in measured:
        note.print(f"written: {found.path}", markup=False, highlight=False, soft_wrap=True)


def _of_cells(results: list[Result]) -> list[Caution]:
    """The cautions of several cells, each once; what does not hold for all names its cells."""
    from alpine_cli.report.session_tables import cell_labels

    cells: dict[Caution, list[str]] = {}
    for result, label in zip(results, cell_labels(results), strict=True):
        for caution in dict.fromkeys(result.cautions):
            cells.setdefault(caution, []).append(label)
    return [
        caution
        if len(labels) == len(results)
        else caution.model_copy(update={"text": f"{'; '.join(labels)}: {caution.text}"})
        for caution, labels in cells.items()
    ]
