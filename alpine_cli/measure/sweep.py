"""Accuracy against multiply-adds of many prunings of one checkpoint, without training anything.

    make_plan ─▶ worker: unpruned, then every setting (`trials`) ─▶ optionally, the settings on the
                 front timed and metered in turns ─▶ Result of kind "sweep", a variant per setting

One process loads the model once. With `time` and `energy`, throughput and energy are measured of
the Pareto front only, of `unpruned` and the settings in random turns on the same weights.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from alpine_cli.checkpoint import Checkpoint, load_checkpoint
from alpine_cli.measure import cautions
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.energy import Pass, energy_of_passes
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.grid import TRUNCATE, GridOptions, Setting, make_grid, sizes_of
from alpine_cli.measure.grid_options import grid_settings
from alpine_cli.measure.isolation import OnProgress, run_isolated
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.pareto import pareto_front
from alpine_cli.measure.partial import key_of
from alpine_cli.measure.plan import Plan, encoder_depth, make_plan, pruning_text
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval, spread
from alpine_cli.measure.timing import timed_pass
from alpine_cli.measure.trials import (
    BASELINE,
    Trial,
    TrialRunner,
    part_of,
    settings_from,
    settings_to,
)
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Batch, Workload, WorkloadRequest, load_workload
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Caution, Figure, Part, Result, Variant
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.metrics import compute_metrics

__all__ = [
    "OnPlanned",
    "describe_settings",
    "discard",
    "measure_sweep",
    "plan_grid",
    "plan_unpruned",
    "run_sweep",
    "shown_settings",
]

_TIMING = ("runs", "min_seconds", "timed_samples")
_CARBON = ("country", "carbon_intensity", "pue")
_SETTINGS = (
    *("checkpoint", "data", "split", "limit", "batch_size", "tokens_per_batch"),
    *("flops_batch_size", "flops_tokens_per_batch"),
    *("device", "engine", "precision", "threads", "seed"),
)


OnPlanned = Callable[[str], None]
"""Called once with how much there is to run, before anything runs."""


def run_sweep(
    options: MeasureOptions,
    grid: GridOptions,
    output: Path,
    *,
    metric: str = "accuracy",
    time: bool = False,
    energy: bool = False,
    on_progress: OnProgress | None = None,
    on_planned: OnPlanned | None = None,
) -> Result:
    """Try the grid on the checkpoint.

    Finished settings are kept in `output`/.partial until the sweep ends; the same command goes on
    from them after an interruption.

    Args:
        options: of the workload and, with `time`, of the timing; pruning is the grid's business.
        grid: what to try.
        output: directory of result files.
        metric: what the front is made of, with multiply-adds; a name of `METRIC_NAMES`.
        time: measure the throughput of the settings on the front.
        energy: measure, or else model, their energy per sample, as `measure.energy` does.
        on_progress: called with (done, total, text).
        on_planned: told the size of the grid.

    Raises:
        BadInput, PruningError: nothing was run.
        MeasurementError: the worker died, or there is no cost formula for the model.
    """
    plan, settings, _ = plan_grid(options, grid)
    if on_planned is not None:
        on_planned(f"{sizes_of(settings)}; {plan.subject.samples:,} samples each")
    options = plan.options
    environment = describe_environment(threads=options.threads, seed=options.seed)
    folder = output / ".partial" / key_of(plan, ["sweep"], environment).folder
    timing = {name: getattr(options, name) for name in _TIMING}
    power = grid_intensity(options.country, options.carbon_intensity)
    request = {
        "workload": plan.request.model_dump(mode="json"),
        "settings": settings_to(settings),
        **options.flops_batch_limit.by_name("flops_"),
        "folder": str(folder.resolve()),
        "metric": metric,
        "time": timing if time else None,
        "energy": timing | {"grid": asdict(power), "pue": options.pue} if energy else None,
    }
    before = cautions.before(environment, device=options.device) if time or energy else []
    answer = run_isolated("sweep", request, threads=options.threads, on_progress=on_progress)
    told = [*plan.cautions, *_left_out(grid, settings), *_many_tests(len(settings)), *before]
    part = Part(cautions=told).merged(Part.model_validate(answer))
    if time or energy:
        part = part.merged(
            Part(
                cautions=[
                    *cautions.after(environment, device=options.device),
                    *cautions.of_figures(part.figures),
                ]
            )
        )
    shown = shown_settings(options)
    if time or energy:
        shown |= timing
    if energy:
        shown |= {name: getattr(options, name) for name in _CARBON}
    result = Result(
        **dict(part),
        command=command_line(sys.argv),
        kind="sweep",
        subject=plan.subject,
        variants=describe_settings(plan, settings),
        settings={**shown, **grid_settings(grid), "metric": metric, "time": time, "energy": energy},
        environment=environment,
    )
    discard(folder)
    return result


def plan_grid(options: MeasureOptions, grid: GridOptions) -> tuple[Plan, list[Setting], Checkpoint]:
    """Check all input: the plan of an unpruned run, the settings to try, the checkpoint.

    Raises:
        BadInput, PruningError: see `make_plan` and `make_grid`.
    """
    plan = plan_unpruned(options)
    checkpoint = load_checkpoint(options.checkpoint)
    encoding = checkpoint.encoding_spec
    settings = make_grid(
        PruningConfig.from_dict(plan.variants[BASELINE].pruning or {}),
        grid,
        num_layers=encoder_depth(checkpoint) or 0,
        max_length=encoding.max_length,
        specials=encoding.specials,
        data_flow=encoding.data_flow is not None,
    )
    return plan, settings, checkpoint


def plan_unpruned(options: MeasureOptions) -> Plan:
    """Check all input but the grid: the plan of a run of `unpruned` alone.

    Raises:
        BadInput, PruningError: see `make_plan`.
    """
    plan = make_plan(replace(options, layers="none"))
    told = [caution for caution in plan.cautions if caution.code != "nothing-pruned"]
    return replace(plan, request=plan.request.only(BASELINE), cautions=told)


def describe_settings(plan: Plan, settings: Sequence[Setting]) -> dict[str, Variant]:
    """`unpruned` and every setting, as a result names them."""
    unpruned = plan.variants[BASELINE]
    described = {BASELINE: unpruned}
    for setting in settings:
        told = f"pruned at inference only: {pruning_text(setting.pruning)}"
        if setting.max_length is not None:
            told = f"input cut to {setting.max_length} tokens per function, nothing pruned"
        described[setting.name] = unpruned.model_copy(
            update={
                "pruning": setting.pruning.to_dict(),
                "max_length": setting.max_length,
                "description": told,
            }
        )
    return described


def shown_settings(options: MeasureOptions) -> dict[str, Any]:
    """Of the options of a measuring command, those that a sweep has a use for."""
    return {name: value for name, value in options.settings().items() if name in _SETTINGS}


def discard(folder: Path) -> None:
    """Remove kept trials, and the folder around them if nothing else is in it."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()


def measure_sweep(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data."""
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    folder = Path(request["folder"]) if request["folder"] else None
    limit = BatchLimit.named(request, "flops_")
    runner = TrialRunner(workload, limit, folder)
    unpruned = runner.variant.pruning
    assert unpruned is not None
    settings = [Setting(BASELINE, unpruned), *settings_from(request["settings"])]
    trials = []
    for done, setting in enumerate(settings):
        report_progress(done, len(settings), setting.name)
        trials.append(runner.run(setting))
    seed = workload.request.seed
    part = part_of(trials, runner.labels, flops_limit=limit, seed=seed)
    if request["time"] or request.get("energy"):
        front = _front(trials, runner, request["metric"])
        chosen = [setting for i, setting in enumerate(settings) if i == 0 or i in front]
        part = part.merged(_costs(workload, runner, chosen, request))
    return part.model_dump(mode="json")


def _front(trials: Sequence[Trial], runner: TrialRunner, metric: str) -> list[int]:
    values = [compute_metrics(runner.labels, trial.answers)[metric] for trial in trials]
    return pareto_front([float(np.mean(trial.macs)) for trial in trials], values)


def _costs(
    workload: Workload,
    runner: TrialRunner,
    settings: Sequence[Setting],
    request: Mapping[str, Any],
) -> Part:
    """Throughput, energy or both of these settings in turns, on one copy of the weights."""
    how_timed, how_metered = request["time"], request.get("energy")
    limit = (how_timed or how_metered or {})["timed_samples"]
    passes, batches = _passes(workload, runner, settings, limit)
    part = Part()
    if how_timed:
        part = part.merged(_timed(passes, batches, how_timed, workload.request))
    if how_metered:
        device, seed = workload.device, workload.request.seed
        metered = energy_of_passes(passes, batches, how_metered, device=device, seed=seed)
        part = part.merged(metered)
    return part


def _timed(
    passes: Mapping[str, Pass],
    batches: Mapping[str, Sequence[Batch]],
    how: Mapping[str, Any],
    request: WorkloadRequest,
) -> Part:
    """Throughput, in random turns."""
    for name, run in passes.items():
        report_progress(0, 1000, f"warm-up of {name}")
        run(batches[name])
    blocks = run_blocks(
        list(passes),
        lambda name: passes[name](batches[name]),
        runs=how["runs"],
        min_seconds=how["min_seconds"],
        seed=request.seed,
        on_progress=report_progress,
    )
    samples = sum(len(batch.indices) for batch in batches[BASELINE])
    figures = []
    for name, timed in blocks.items():
        rates = [samples / block.seconds for block in timed]
        figures.append(
            Figure(
                name="throughput",
                variant=name,
                unit="samples/s",
                value=float(aggregate(rates, "harmonic_mean")),
                provenance="measured",
                method=f"samples over wall time; one run = {samples} samples in length-bucketed"
                f" batches of {request.batch_limit}; settings take turns in random order"
                " on the same weights after a full pass of warm-up; tokenisation not included",
                better="higher",
                n=len(rates),
                aggregate="harmonic_mean",
                interval=mean_interval(rates, "harmonic_mean"),
                spread=spread(rates),
                samples=rates,
            )
        )
    pairs = [(name, BASELINE) for name in passes if name != BASELINE]
    return Part(figures=figures, comparisons=compare_all(figures, pairs, seed=request.seed))


def _passes(
    workload: Workload, runner: TrialRunner, settings: Sequence[Setting], limit: int | None
) -> tuple[dict[str, Pass], dict[str, list[Batch]]]:
    """What runs each setting, and its batches: the same samples together in all of them."""
    groups = [list(batch.indices) for batch in workload.timed_batches(limit)[BASELINE]]
    passes: dict[str, Pass] = {}
    batches: dict[str, list[Batch]] = {}
    for setting in settings:
        variant = runner.variant_of(setting)
        batches[setting.name] = [variant.batch_of(group) for group in groups]
        passes[setting.name] = lambda batches, setting=setting: timed_pass(  # type: ignore[misc]
            runner.variant_of(setting), batches
        )
    return passes, batches


def _left_out(grid: GridOptions, settings: Sequence[Setting]) -> list[Caution]:
    """Truncation that was asked for, and of which the grid holds nothing."""
    asked = any(family.rule == TRUNCATE for family in grid.families)
    if not asked or any(setting.rule == TRUNCATE for setting in settings):
        return []
    return [
        Caution(
            code="no-truncation",
            text="truncation of the input was left out: there is no length to cut it to, or it"
            " carries data flow, with which it is not cut",
            effect="the front lacks the plainest rival of pruning",
        )
    ]


def _many_tests(settings: int) -> list[Caution]:
    if settings < 2:
        return []
    return [
        Caution(
            code="many-tests",
            text=f"{settings} settings were each tested against unpruned, uncorrected",
            effect="some verdicts are wrong by chance, and the best of many is flattered",
            remedy="Let `alpine tune` choose on validation data",
        )
    ]
