"""The search of `alpine tune --budget` and `--latency` from outside; what happens in it: `budget`.

valid ─▶ worker `budget` ─▶ Result of kind "tune" (split valid)
                                  │ chosen, and truncation at the same budget
test  ─▶ worker `sweep` of both ─▶ Result of kind "tune" (split test) ─▶ copy of the checkpoint
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from alpine_cli.errors import ConfigError
from alpine_cli.measure.accuracy import compare_predictions
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.grid import GridOptions, Setting, sizes_of
from alpine_cli.measure.grid_options import grid_settings
from alpine_cli.measure.isolation import OnProgress, run_isolated
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.partial import key_of
from alpine_cli.measure.sweep import OnPlanned, discard
from alpine_cli.measure.trials import settings_from, settings_to
from alpine_cli.measure.tuning import (
    Tuned,
    on_test_data,
    plan_tuning,
    tuning_cautions,
    tuning_result,
)
from alpine_cli.results import Part, Result

__all__ = ["Budget", "parse_latency", "tune_to_budget"]


@dataclass(frozen=True)
class Budget:
    """What is asked for: exactly one of a share and a latency.

    Attributes:
        metric: accuracy, f1 or mcc.
        share: of the multiply-adds of unpruned.
        latency_ms: of the median sample at batch size 1.
        minutes: for fitting and halving; the closing passes and the test come on top.
    """

    metric: str
    share: float | None = None
    latency_ms: float | None = None
    minutes: float = 30.0

    def __post_init__(self) -> None:
        if (self.share is None) == (self.latency_ms is None):
            raise ValueError("a budget is a share or a latency")
        if self.share is not None and not 0 < self.share < 1:
            raise ConfigError(
                "--budget: must be above 0 and below 1, the share of multiply-adds that may be"
                f" spent (got {self.share:g})"
            )
        if not 0 < self.minutes < float("inf"):
            raise ConfigError(f"--time-limit: must be above 0 minutes (got {self.minutes:g})")


def parse_latency(text: str) -> float:
    """Milliseconds of "20ms", "20 ms", "0.02s" or "20".

    Raises:
        ConfigError: no such text, or not above 0.
    """
    found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(ms|s)?\s*", text)
    value = float(found[1]) * (1000 if found[2] == "s" else 1) if found else 0.0
    if not value > 0:
        raise ConfigError(f"--latency: must be a time such as 20ms or 0.02s (got {text!r})")
    return value


def tune_to_budget(
    options: MeasureOptions,
    grid: GridOptions,
    aim: Budget,
    output: Path,
    *,
    on_progress: OnProgress | None = None,
    on_planned: OnPlanned | None = None,
) -> Tuned:
    """Search on `options.split`, and try the choice and its plainest rival on test data.

    Args:
        options: of the workload.
        grid: what to try; families without strengths are fitted to the budget.
        aim: the budget.
        output: directory of result files.
        on_progress: called with (done, total, text).
        on_planned: told the size of the search.

    Raises:
        BadInput, PruningError: nothing was run; or nothing of the grid is within the budget.
        MeasurementError: a worker died, there is no cost formula for the model, or nothing found
            is quick enough.
    """
    fitted = {family.rule for family in grid.families if not family.strengths}
    rows = tuple(replace(row, strengths=row.strengths or (1.0,)) for row in grid.families)
    plan, all_settings, checkpoint = plan_tuning(options, replace(grid, families=rows))
    settings = [one for one in all_settings if one.rule not in fitted]
    chains = [one for one in all_settings if one.rule in fitted]
    if on_planned is not None:
        on_planned(_size(settings, chains, plan.subject.samples))
    options = plan.options
    environment = describe_environment(threads=options.threads, seed=options.seed)
    folder = output / ".partial" / key_of(plan, ["budget"], environment).folder
    request = {
        "workload": plan.request.model_dump(mode="json"),
        "settings": settings_to(settings),
        "chains": settings_to(chains),
        **options.flops_batch_limit.by_name("flops_"),
        "folder": str(folder.resolve()),
        "metric": aim.metric,
        "budget": aim.share,
        "latency_ms": aim.latency_ms,
        "time_limit_s": 60 * aim.minutes,
    }
    answer = run_isolated("budget", request, threads=options.threads, on_progress=on_progress)
    run = settings_from(answer["settings"])
    chosen = next(one for one in run if one.name == answer["chosen"])
    truncation = settings_from([answer["truncation"]])[0] if answer["truncation"] else None
    about = {
        **grid_settings(grid),
        "metric": aim.metric,
        "budget": answer["budget"],
        "latency_ms": aim.latency_ms,
        "time_limit_minutes": aim.minutes,
        "chosen": chosen.name,
        "truncation": None if truncation is None else truncation.name,
        "rungs": answer["rungs"],
        "stopped": answer["stopped"],
    }
    session = secrets.token_hex(4)
    part = Part.model_validate(answer["part"])
    part = part.merged(Part(cautions=[*plan.cautions, *tuning_cautions(options, chosen)]))
    search = tuning_result(plan, part, run, about, environment, session)
    test = None
    if options.split != "test":
        rivals = [chosen] if truncation is None else [chosen, truncation]
        on_test = replace(options, split="test")
        test = on_test_data(on_test, rivals, about, session, on_progress)
        if test is not None and truncation is not None:
            test = _against(test, chosen.name, truncation.name, options.seed)
    discard(folder)
    return Tuned(search, chosen, test, checkpoint)


def _size(settings: list[Setting], chains: list[Setting], samples: int) -> str:
    told = [sizes_of(settings)] if settings else []
    if chains:
        many = "" if len(chains) == 1 else "s"
        told.append(f"{len(chains)} chain{many} to be fitted to the budget")
    return f"{' and '.join(told)}; {samples:,} samples, all of them for the best few"


def _against(result: Result, chosen: str, truncation: str, seed: int) -> Result:
    """The result with `chosen` set against truncation on the same samples, too."""
    saved = result.predictions
    assert saved is not None
    labels, mine, theirs = (
        np.array(list(map(int, digits)), dtype=np.int64)
        for digits in (saved.labels, saved.predicted[chosen], saved.predicted[truncation])
    )
    _, compared = compare_predictions(chosen, truncation, labels, mine, theirs, seed=seed)
    return result.model_copy(update={"comparisons": [*result.comparisons, *compared]})
