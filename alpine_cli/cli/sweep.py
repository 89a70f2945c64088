"""`alpine sweep`: accuracy against cost of many prunings of one checkpoint, nothing trained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alpine_cli.cli import _measuring as m
from alpine_cli.cli._common import (
    CheckpointOption,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    LimitOption,
    console,
    error_console,
    print_json,
)
from alpine_cli.cli._grid import (
    AlphasOption,
    KeepsOption,
    LayersListOption,
    MergesOption,
    MetricOption,
    ProtectsOption,
    RulesOption,
    ScoresOption,
    check_metric,
    print_table,
    show_progress,
    tell_size,
)
from alpine_cli.errors import ConfigError

if TYPE_CHECKING:
    from alpine_cli.results import Result

__all__ = ["sweep"]


def sweep(
    checkpoint: CheckpointOption,
    rules: RulesOption = None,
    alphas: AlphasOption = None,
    keeps: KeepsOption = None,
    lengths: Annotated[
        str | None,
        typer.Option(
            "--lengths",
            help="Strengths of truncate, which --rules takes here, too: tokens that the input of"
            " the encoder is cut to.",
        ),
    ] = None,
    layers: LayersListOption = None,
    merges: MergesOption = None,
    scores: ScoresOption = None,
    protect: ProtectsOption = None,
    metric: MetricOption = "accuracy",
    data: DataOption = None,
    split: m.SplitOption = "test",
    limit: LimitOption = None,
    time: Annotated[
        bool,
        typer.Option("--time", help="Measure the throughput of the settings on the front, too."),
    ] = False,
    energy: Annotated[
        bool,
        typer.Option(
            "--energy", help="Measure, or else model, their energy per sample, too; see co2."
        ),
    ] = False,
    batch_size: m.BatchSizeOption = None,
    tokens_per_batch: m.TokensPerBatchOption = None,
    device: DeviceOption = None,
    engine: m.EngineOption = None,
    precision: m.PrecisionOption = "float32",
    threads: m.ThreadsOption = None,
    runs: m.RunsOption = 10,
    min_seconds: m.MinSecondsOption = 5.0,
    timed_samples: m.TimedSamplesOption = 256,
    country: m.CountryOption = None,
    carbon_intensity: m.CarbonIntensityOption = None,
    pue: m.PueOption = 1.0,
    seed: m.SeedOption = 0,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="Draw the front into this .png or .svg.", metavar="FILE"),
    ] = None,
    force: ForceOption = False,
    output: m.ResultsOption = Path("results"),
    json_: JsonOption = False,
) -> None:
    """Try many prunings on the same weights: the accuracy–cost front.

    The published rule in its variants and its rivals (other rules, random
    removal, plain truncation of the input), at several strengths each, run
    once over the split; multiply-adds follow from the lengths each layer
    really ran at. Each setting is tested against unpruned on the same
    samples. Nothing is trained, and nothing is timed or metered unless --time
    or --energy is given.

        alpine sweep --checkpoint ckpt.pt --picture front.png

        alpine sweep --checkpoint ckpt.pt --rules band --alphas 0.5,1 --layers even --layers 0,1,2

        alpine sweep --checkpoint ckpt.pt --rules top,truncate --keeps 0.8,0.6 --scores received,cls

    Interrupted, the same command goes on where it stopped.
    """
    check_metric(metric)
    from alpine_cli.measure.grid_options import SWEEP, choose_grid

    grid = choose_grid(
        SWEEP,
        rules=rules,
        alphas=alphas,
        keeps=keeps,
        lengths=lengths,
        layers=layers,
        merges=merges,
        scores=scores,
        protect=protect,
    )
    from alpine_cli.files import refuse_existing
    from alpine_cli.measure.session import check_output

    check_output(output)
    if picture is not None:
        if picture.suffix not in (".png", ".svg"):
            raise ConfigError(f"--picture: must end in .png or .svg (got {picture})")
        refuse_existing(picture, force, file=True)
    from alpine_cli.measure.options import MeasureOptions
    from alpine_cli.measure.sweep import run_sweep
    from alpine_cli.result_files import write_result

    options = MeasureOptions(
        checkpoint=checkpoint,
        data=data,
        split=split,
        limit=limit,
        batch_size=batch_size,
        tokens_per_batch=tokens_per_batch,
        device=device,
        engine=engine,
        precision=precision,  # type: ignore[arg-type]  # checked by MeasureOptions
        threads=threads,
        runs=runs,
        min_seconds=min_seconds,
        timed_samples=timed_samples or None,
        country=country,
        carbon_intensity=carbon_intensity,
        pue=pue,
        seed=seed,
    )
    with show_progress("sweep", output) as on_progress:
        result = run_sweep(
            options,
            grid,
            output,
            metric=metric,
            time=time,
            energy=energy,
            on_progress=on_progress,
            on_planned=tell_size,
        )
    path = write_result(result, output)
    if picture is not None:
        from alpine_cli.report.front_figure import draw_front

        draw_front(result, picture)
    if json_:
        print_json(result)
    else:
        _print(result)
    for written in filter(None, (path, picture)):
        error_console().print(f"written: {written}", markup=False, highlight=False, soft_wrap=True)


def _print(result: Result) -> None:
    from alpine_cli.report.front import front_table

    table = front_table(result)
    assert table is not None
    print_table(table, console())
    for caution in result.cautions:
        error_console().print(f"mind: {caution}", style="yellow", markup=False, highlight=False)
