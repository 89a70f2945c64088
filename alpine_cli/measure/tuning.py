"""The search of `alpine tune --max-drop` from outside: check, search, test once, write.

    valid ─▶ worker `tune` ─▶ Result of kind "tune" (split valid)  ─▶ nothing chosen: done
                                      │ chosen
    test  ─▶ worker `sweep` of it ─▶ Result of kind "tune" (split test) ─▶ copy of the checkpoint

Both results carry one `session`.
"""

from __future__ import annotations

import secrets
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from alpine_cli.checkpoint import Checkpoint, save_checkpoint
from alpine_cli.errors import ConfigError, DataError
from alpine_cli.files import refuse_existing
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.grid import TRUNCATE, GridOptions, Setting, sizes_of
from alpine_cli.measure.grid_options import grid_settings
from alpine_cli.measure.isolation import OnProgress, run_isolated
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.partial import key_of
from alpine_cli.measure.plan import Plan
from alpine_cli.measure.sweep import (
    OnPlanned,
    describe_settings,
    discard,
    plan_grid,
    plan_unpruned,
    shown_settings,
)
from alpine_cli.measure.trials import BASELINE, settings_to
from alpine_cli.measure.tune import DROP, samples_needed
from alpine_cli.results import Caution, Environment, Part, Result

__all__ = [
    "Aim",
    "Tuned",
    "closest",
    "on_test_data",
    "plan_tuning",
    "refuse_output",
    "tune",
    "tuning_cautions",
    "tuning_result",
    "write_tuned",
]


@dataclass(frozen=True)
class Aim:
    """What is asked for.

    Attributes:
        metric: accuracy, f1 or mcc.
        max_drop: as a fraction: 0.005 is half a point.
        confidence: that the chosen setting's drop is within `max_drop`.
    """

    metric: str
    max_drop: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.max_drop < 1:
            raise ConfigError(
                f"--max-drop: must be above 0 and below 100 (got {100 * self.max_drop:g})"
            )
        if not 0.5 <= self.confidence < 1:
            raise ConfigError(
                f"--confidence: must be at least 0.5 and below 1 (got {self.confidence:g})"
            )


@dataclass(frozen=True)
class Tuned:
    """What the search found.

    Attributes:
        search: the result on the split that was searched.
        chosen: the setting; None where none qualified.
        test: the result of the chosen setting on test data; None without a choice or test data.
        checkpoint: the one that was tuned.
    """

    search: Result
    chosen: Setting | None
    test: Result | None
    checkpoint: Checkpoint


def tune(
    options: MeasureOptions,
    grid: GridOptions,
    aim: Aim,
    output: Path,
    *,
    on_progress: OnProgress | None = None,
    on_planned: OnPlanned | None = None,
) -> Tuned:
    """Search the grid on `options.split`, and try what was chosen on test data.

    Raises:
        BadInput, PruningError: nothing was run; a missing validation split is told as such.
        MeasurementError: a worker died, or there is no cost formula for the model.
    """
    plan, settings, checkpoint = plan_tuning(options, grid)
    if on_planned is not None:
        on_planned(f"{sizes_of(settings)} at most; {plan.subject.samples:,} samples each")
    options = plan.options
    environment = describe_environment(threads=options.threads, seed=options.seed)
    folder = output / ".partial" / key_of(plan, ["tune"], environment).folder
    asked = {
        "workload": plan.request.model_dump(mode="json"),
        "settings": settings_to(settings),
        **options.flops_batch_limit.by_name("flops_"),
        "folder": str(folder.resolve()),
        "metric": aim.metric,
    }
    search_for = {"max_drop": aim.max_drop, "confidence": aim.confidence}
    answer = run_isolated(
        "tune", {**asked, **search_for}, threads=options.threads, on_progress=on_progress
    )
    chosen = next((one for one in settings if one.name == answer["chosen"]), None)
    part, session = Part.model_validate(answer["part"]), secrets.token_hex(4)
    about = {
        **grid_settings(grid),
        "metric": aim.metric,
        "max_drop": aim.max_drop,
        "confidence": aim.confidence,
        "bound_level": answer["level"],
        "chosen": answer["chosen"],
    }
    tried = {figure.variant for figure in part.figures}
    run = [setting for setting in settings if setting.name in tried]
    part = part.merged(Part(cautions=[*plan.cautions, *tuning_cautions(options, chosen)]))
    search = tuning_result(plan, part, run, about, environment, session)
    test = None
    if chosen is not None and options.split != "test":
        test = on_test_data(replace(options, split="test"), [chosen], about, session, on_progress)
    discard(folder)
    return Tuned(search, chosen, test, checkpoint)


def plan_tuning(
    options: MeasureOptions, grid: GridOptions
) -> tuple[Plan, list[Setting], Checkpoint]:
    """See `plan_grid`; a missing validation split is told as such, and truncation refused."""
    if any(family.rule == TRUNCATE for family in grid.families):
        raise ConfigError(
            f"--rules: {TRUNCATE} is no pruning that a checkpoint holds; `alpine sweep` tries it"
        )
    try:
        return plan_grid(options, grid)
    except DataError as error:
        if options.split != "valid":
            raise
        raise DataError(
            f"{error}. `alpine tune` chooses on validation data, so that test data stays untouched;"
            " name another split with --split to choose there"
        ) from error


def on_test_data(
    options: MeasureOptions,
    settings: list[Setting],
    about: dict[str, Any],
    session: str,
    on_progress: OnProgress | None,
) -> Result | None:
    """These settings and `unpruned` on test data; None where there is none."""
    try:
        plan = plan_unpruned(options)
    except DataError:
        return None
    environment = describe_environment(threads=options.threads, seed=options.seed)
    request = {
        "workload": plan.request.model_dump(mode="json"),
        "settings": settings_to(settings),
        **options.flops_batch_limit.by_name("flops_"),
        "folder": None,
        "metric": about["metric"],
        "time": None,
    }
    answer = run_isolated("sweep", request, threads=options.threads, on_progress=on_progress)
    part = Part.model_validate(answer)
    return tuning_result(plan, part, settings, about, environment, session)


def tuning_result(
    plan: Plan,
    part: Part,
    settings: list[Setting],
    about: dict[str, Any],
    environment: Environment,
    session: str,
) -> Result:
    """A result of kind "tune"."""
    return Result(
        **dict(part),
        session=session,
        command=command_line(sys.argv),
        kind="tune",
        subject=plan.subject,
        variants=describe_settings(plan, settings),
        settings={**shown_settings(plan.options), **about},
        environment=environment,
    )


def tuning_cautions(options: MeasureOptions, chosen: Setting | None) -> list[Caution]:
    """What to mind of a choice on this split."""
    if options.split != "test" or chosen is None:
        return []
    return [
        Caution(
            code="chosen-on-test",
            text="the setting was chosen on test data",
            effect="its figures there are flattered, and no untouched data is left",
            remedy="Choose on validation data (--split valid)",
        )
    ]


def closest(search: Result) -> list[str]:
    """Where nothing qualified: how far off each setting was, and how much data would show it."""
    metric, lines = str(search.settings["metric"]), []
    saved = search.predictions
    assert saved is not None
    for figure in search.figures:
        found = search.comparison(metric, figure.variant, BASELINE)
        if figure.name != DROP or figure.value is None or found is None or found.difference is None:
            continue
        drop, samples = 0.0 - found.difference, len(saved.labels)
        needed = None
        if drop < search.settings["max_drop"]:
            answers = (saved.labels, saved.predicted[figure.variant], saved.predicted[BASELINE])
            needed = samples_needed(
                metric,
                *(np.array(list(map(int, digits)), dtype=np.int64) for digits in answers),
                level=search.settings["bound_level"],
                max_drop=search.settings["max_drop"],
            )
        hope = "" if needed is None else f"; about {needed:,} samples would show it"
        lines.append(
            f"{figure.variant}: drop {100 * drop:.2f} points on {samples:,} samples, at most"
            f" {100 * figure.value:.2f}{hope}"
        )
    return lines


def write_tuned(tuned: Tuned, output: Path, *, force: bool) -> None:
    """Write a copy of the checkpoint that prunes as chosen.

    Its metrics become those of the search and the test: the old ones belong to another pruning.

    Raises:
        OutputExistsError: the file exists and `force` is false.
    """
    assert tuned.chosen is not None
    metrics: dict[str, Any] = {}
    for result in filter(None, (tuned.search, tuned.test)):
        of_chosen = [f for f in result.figures if f.variant == tuned.chosen.name]
        metrics[result.subject.split] = {
            figure.name: figure.value
            for figure in of_chosen
            if figure.name in ("accuracy", "precision", "recall", "f1", "mcc")
        }
    copy = replace(tuned.checkpoint, pruning=tuned.chosen.pruning.to_dict(), metrics=metrics)
    save_checkpoint(copy, output, force=force)


def refuse_output(source: Path, output: Path | None, force: bool) -> None:
    """Stop before the search if the checkpoint could not be written after it.

    Raises:
        ConfigError: `output` is the checkpoint that is tuned.
        OutputExistsError: it exists and `force` is false.
    """
    if output is None:
        return
    if output.exists() and source.exists() and output.samefile(source):
        raise ConfigError(f"--output: {output} is the checkpoint itself; name a new file")
    if output.is_dir():
        raise ConfigError(f"--output: {output} is a directory; name the ckpt.pt to write")
    refuse_existing(output, force, file=True)
