"""`alpine tune`: the cheapest pruning that costs no more than so many points, with confidence."""

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
from alpine_cli.errors import MeasurementError

if TYPE_CHECKING:
    from alpine_cli.measure.tuning import Tuned

__all__ = ["tune"]


def tune(
    checkpoint: CheckpointOption,
    max_drop: Annotated[
        float,
        typer.Option("--max-drop", help="Points of the metric that may be lost against unpruned."),
    ],
    metric: MetricOption = "accuracy",
    confidence: Annotated[
        float, typer.Option("--confidence", help="That the chosen setting loses no more.")
    ] = 0.95,
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
    """Find the cheapest pruning that loses at most --max-drop points, and show that it does.

    Settings are tried on validation data, for each choice of rule, layers
    and merge from the gentlest on, until one may lose more than allowed. A
    setting passes if the upper confidence bound of its drop is within
    --max-drop; the order is fixed beforehand and the choices share the
    error, so the confidence holds for the whole search. Few samples can
    show little: half a point takes about a thousand.

        alpine tune --checkpoint ckpt.pt --max-drop 0.5 --output tuned.pt

        alpine tune --checkpoint ckpt.pt --max-drop 1 --metric f1 --layers even --layers 0,1,2

    The chosen setting is then tried once on test data. Exit code 1: no
    setting qualifies; the result is kept, no checkpoint is written.
    """
    check_metric(metric)
    from alpine_cli.measure.grid_options import TUNE, choose_grid

    grid = choose_grid(
        TUNE,
        rules=rules,
        alphas=alphas,
        keeps=keeps,
        layers=layers,
        merges=merges,
        scores=scores,
        protect=protect,
        without=("random", "first"),
    )
    from alpine_cli.measure.options import MeasureOptions
    from alpine_cli.measure.session import check_output
    from alpine_cli.measure.tuning import Aim, closest, refuse_output, write_tuned
    from alpine_cli.measure.tuning import tune as search
    from alpine_cli.result_files import write_result

    aim = Aim(metric, max_drop / 100, confidence)
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
        threads=threads,
        seed=seed,
    )
    with show_progress("tune", results) as on_progress:
        tuned = search(options, grid, aim, results, on_progress=on_progress, on_planned=tell_size)
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
        told = "\n  ".join(closest(tuned.search))
        raise MeasurementError(
            f"no setting is shown to lose at most {max_drop:g} points of {metric} with"
            f" {confidence:.0%} confidence, so nothing was chosen:\n  {told}\n"
            "Raise --max-drop, --alphas or --keeps, try fewer --rules or --layers, or give it more"
            " validation samples"
        )


def _print(tuned: Tuned) -> None:
    from alpine_cli.report.front import front_table

    out = console()
    table = front_table(tuned.search)
    if table is not None:
        print_table(table, out)
    for line in _sentences(tuned):
        out.print(line, markup=False, highlight=False)
    for result in filter(None, (tuned.search, tuned.test)):
        for caution in result.cautions:
            error_console().print(f"mind: {caution}", style="yellow", markup=False, highlight=False)


def _sentences(tuned: Tuned) -> list[str]:
    """What was chosen, what is known of it, and what test data says."""
    if tuned.chosen is None:
        return []
    name, settings = tuned.chosen.name, tuned.search.settings
    metric = str(settings["metric"])
    drop = tuned.search.comparison(metric, name, "unpruned")
    bound = tuned.search.figure("drop_bound", name)
    macs = tuned.search.comparison("total_macs", name, "unpruned")
    assert drop is not None
    assert drop.difference is not None
    assert bound is not None
    assert bound.value is not None
    assert macs is not None
    assert macs.ratio is not None
    lines = [
        f"chosen: {name}. {macs.ratio:.0%} of the multiply-adds of unpruned; on"
        f" {tuned.search.subject.split} {metric} changes by {100 * drop.difference:+.2f} points"
        f" and, with {settings['confidence']:.0%} confidence over the whole search, falls by no"
        f" more than {100 * bound.value:.2f}."
    ]
    if tuned.test is None:
        lines.append("There is no test data to confirm it on.")
        return lines
    tested = tuned.test.comparison(metric, name, "unpruned")
    if tested is not None and tested.difference is not None:
        between = tested.difference_interval
        within = (
            ""
            if between is None
            else (f" (95 % CI {100 * between.low:+.2f} to {100 * between.high:+.2f})")
        )
        lines.append(
            f"test, touched once: {metric} changes by {100 * tested.difference:+.2f} points{within}"
            f" on {tuned.test.subject.samples:,} samples."
        )
    return lines


def _as_json(tuned: Tuned, output: Path | None) -> dict[str, Any]:
    return {
        "chosen": None if tuned.chosen is None else tuned.chosen.pruning.to_dict(),
        "checkpoint": None if tuned.chosen is None or output is None else output,
        "search": tuned.search,
        "test": tuned.test,
    }
