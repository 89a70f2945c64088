"""`alpine tune`: the cheapest pruning within a bound of loss, or the best one within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from alpine_cli.cli._tuned import sentences
from alpine_cli.errors import ConfigError, MeasurementError

if TYPE_CHECKING:
    from alpine_cli.measure.tuning import Tuned

__all__ = ["tune"]


def tune(
    checkpoint: CheckpointOption,
    max_drop: Annotated[
        float | None,
        typer.Option("--max-drop", help="Points of the metric that may be lost against unpruned."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(
            "--budget", help="Instead: the share of unpruned's multiply-adds to spend, e.g. 0.25."
        ),
    ] = None,
    latency: Annotated[
        str | None,
        typer.Option(
            "--latency", help="Instead: the median latency to stay within, batch size 1, e.g. 20ms."
        ),
    ] = None,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit",
            help="Minutes for the search within a budget (default: 30); its closing passes and the"
            " test come on top.",
        ),
    ] = None,
    metric: MetricOption = "accuracy",
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            help="With --max-drop: that the chosen setting loses no more (default: 0.95).",
        ),
    ] = None,
    rules: RulesOption = None,
    alphas: AlphasOption = None,
    keeps: KeepsOption = None,
    layers: LayersListOption = None,
    merges: MergesOption = None,
    scores: ScoresOption = None,
    protect: ProtectsOption = None,
    data: DataOption = None,
    split: m.SplitOption = "valid",
    limit: LimitOption = None,
    batch_size: m.BatchSizeOption = None,
    tokens_per_batch: m.TokensPerBatchOption = None,
    device: DeviceOption = None,
    engine: m.EngineOption = None,
    precision: m.PrecisionOption = "float32",
    threads: m.ThreadsOption = None,
    seed: m.SeedOption = 0,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write a copy of the checkpoint that prunes so.", metavar="FILE"
        ),
    ] = None,
    results: Annotated[
        Path, typer.Option("--results", help="Directory of result files; two are added.")
    ] = Path("results"),
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Find the cheapest pruning within --max-drop, or the most accurate within a budget.

    --max-drop: settings are tried on validation data, for each choice of
    rule, layers and merge from the gentlest on, until one may lose more than
    allowed. A setting passes if the upper confidence bound of its drop is
    within --max-drop; the order is fixed beforehand and the choices share
    the error, so the confidence holds for the whole search. Few samples can
    show little: half a point takes about a thousand.

    --budget and --latency: every choice of rule, layers and merge is given
    the strength that just fits; all run on a few samples, the better half on
    twice as many, and so on. Exit code 2 if the budget cannot be reached: the
    least is told.

        alpine tune --checkpoint ckpt.pt --max-drop 0.5 --output tuned.pt

        alpine tune --checkpoint ckpt.pt --budget 0.25 --output tuned.pt

        alpine tune --checkpoint ckpt.pt --latency 20ms --time-limit 10

    The chosen setting is then tried once on test data, within a budget beside
    truncation of the input at the same budget. Exit code 1: no setting
    qualifies; the result is kept, no checkpoint is written.
    """
    check_metric(metric)
    if sum(one is not None for one in (max_drop, budget, latency)) != 1:
        raise ConfigError("give exactly one of --max-drop, --budget and --latency")
    if max_drop is not None and time_limit is not None:
        raise ConfigError("--time-limit: is for --budget and --latency")
    if max_drop is None and confidence is not None:
        raise ConfigError("--confidence: is for --max-drop")
    from alpine_cli.measure.budgeting import Budget, parse_latency, tune_to_budget
    from alpine_cli.measure.grid_options import BUDGET, TUNE, choose_grid
    from alpine_cli.measure.options import MeasureOptions
    from alpine_cli.measure.session import check_output
    from alpine_cli.measure.tuning import Aim, refuse_output, write_tuned
    from alpine_cli.measure.tuning import tune as search
    from alpine_cli.result_files import write_result

    grid = choose_grid(
        BUDGET if max_drop is None else TUNE,
        rules=rules,
        alphas=alphas,
        keeps=keeps,
        layers=layers,
        merges=merges,
        scores=scores,
        protect=protect,
        without=("random", "first"),
    )
    milliseconds = None if latency is None else parse_latency(latency)
    aim = (
        Budget(metric, budget, milliseconds, 30.0 if time_limit is None else time_limit)
        if max_drop is None
        else Aim(metric, max_drop / 100, 0.95 if confidence is None else confidence)
    )
    check_output(results)
    refuse_output(checkpoint, output, force)
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
        seed=seed,
    )
    with show_progress("tune", results) as on_progress:
        told: dict[str, Any] = {"on_progress": on_progress, "on_planned": tell_size}
        if isinstance(aim, Budget):
            tuned = tune_to_budget(options, grid, aim, results, **told)
        else:
            tuned = search(options, grid, aim, results, **told)
    written = [write_result(found, results) for found in (tuned.search, tuned.test) if found]
    if tuned.chosen is not None and output is not None:
        write_tuned(tuned, output, force=force)
        written.append(output)
    if json_:
        print_json(_as_json(tuned, output))
    else:
        _print(tuned)
    for path in written:
        error_console().print(f"written: {path}", markup=False, highlight=False, soft_wrap=True)
    if tuned.chosen is None:
        raise MeasurementError(_nothing_chosen(tuned))


def _nothing_chosen(tuned: Tuned) -> str:
    from alpine_cli.measure.tuning import closest

    settings = tuned.search.settings
    told = "\n  ".join(closest(tuned.search))
    return (
        f"no setting is shown to lose at most {100 * settings['max_drop']:g} points of"
        f" {settings['metric']} with {settings['confidence']:.0%} confidence, so nothing was"
        f" chosen:\n  {told}\n"
        "Raise --max-drop, --alphas or --keeps, try fewer --rules or --layers, or give it more"
        " validation samples"
    )


def _print(tuned: Tuned) -> None:
    from alpine_cli.report.front import front_table

    out = console()
    table = front_table(tuned.search)
    if table is not None:
        print_table(table, out)
    for line in sentences(tuned):
        out.print(line, markup=False, highlight=False)
    for result in filter(None, (tuned.search, tuned.test)):
        for caution in result.cautions:
            error_console().print(f"mind: {caution}", style="yellow", markup=False, highlight=False)


def _as_json(tuned: Tuned, output: Path | None) -> dict[str, Any]:
    return {
        "chosen": None if tuned.chosen is None else tuned.chosen.pruning.to_dict(),
        "checkpoint": None if tuned.chosen is None or output is None else output,
        "search": tuned.search,
        "test": tuned.test,
    }
