"""Pick the cheapest pruning whose drop stays within a bound, with confidence, on validation data.

Looking for the cheapest of many settings that "passed" would flatter one of them: with 20 settings
each tested at 5 %, one that is too bad passes by luck more often than not. So the settings are
tested in an order fixed beforehand, which needs no correction (fixed-sequence testing, Maurer,
Hothorn and Lehmacher 1995; for choosing settings: Angelopoulos et al. 2021, "Learn then Test"):

    each chain (one choice of rule, score, layers, merge, protected tokens; see `grid`) is walked
    from its gentlest setting on; a setting passes if the upper confidence bound of its drop is
    within --max-drop; the first that does not ends its chain, and what lies beyond is not even run;
    with C chains each is tested at error 5 % / C (Bonferroni), so that the chance of a choice that
    drops by more than --max-drop is at most 5 % over the whole search

Of the settings that passed, the one with the fewest multiply-adds is chosen. Test data is touched
once, by the chosen setting and `unpruned`, when the choice has been made.

The bound of a drop is a percentile bootstrap of the paired difference over samples, with half a
sample added to each cell of (label, prediction, other prediction); see `half_added`. A setting that
happened to change no prediction of 100 would be "shown" to change none without those: by simulation
with 0 to 3 % of changed predictions the plain bootstrap covers as little as 39 % where 95 % is
asked, this one 93 to 100 %.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpine_cli.measure.accuracy import half_added, metric_of_tables
from alpine_cli.measure.grid import Setting, chains_of
from alpine_cli.measure.trials import BASELINE, Trial, TrialRunner, part_of, settings_from
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import WorkloadRequest, load_workload
from alpine_cli.results import Figure
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["DROP", "Found", "drop_bound", "measure_tune", "samples_needed", "search"]

Answers = NDArray[np.int64]

DROP = "drop_bound"
"""Name of the figure that holds the upper confidence bound of a setting's drop."""

_RESAMPLES = 9999
_STEP, _STEPS = 1.25, 42  # 1.25^41 is 10,000


def drop_bound(
    metric: str,
    labels: Answers,
    predicted: Answers,
    unpruned: Answers,
    *,
    level: float,
    seed: int = 0,
    times: float = 1.0,
) -> float:
    """The upper confidence bound, one-sided, of metric(unpruned) - metric(predicted).

    Args:
        metric: a name of `METRIC_NAMES`.
        labels, predicted, unpruned: (samples,) 0 or 1, in the same order.
        level: confidence, e.g. 0.95.
        seed: of the resampling.
        times: the bound that so many times these samples would give.
    """
    cells = half_added(times * np.bincount(4 * labels + 2 * predicted + unpruned, minlength=8))
    random = np.random.default_rng(seed)
    drawn = random.multinomial(round(times * len(labels)), cells, size=_RESAMPLES)
    cube = drawn.reshape(-1, 2, 2, 2)  # (resamples, label, prediction, unpruned prediction)
    mine, theirs = cube.sum(axis=3).reshape(-1, 4), cube.sum(axis=2).reshape(-1, 4)
    drops = metric_of_tables(metric, theirs) - metric_of_tables(metric, mine)
    return float(np.quantile(drops, level))


def samples_needed(
    metric: str,
    labels: Answers,
    predicted: Answers,
    unpruned: Answers,
    *,
    level: float,
    max_drop: float,
) -> int | None:
    """About how many samples like these would show the drop to be within `max_drop`.

    None where the drop seen is itself beyond it, or more than 10,000 times as many would be needed.
    """
    for step in range(_STEPS):
        times = _STEP**step
        bound = drop_bound(metric, labels, predicted, unpruned, level=level, times=times)
        if bound <= max_drop:
            return round(times * len(labels))
    return None


@dataclass(frozen=True)
class Found:
    """What a walk over the chains found.

    Attributes:
        level: the confidence of each bound.
        bounds: of the settings that were tried, in that order.
        passed: the names of those that lose no more than is allowed.
    """

    level: float
    bounds: dict[str, float]
    passed: list[str]


def search(
    settings: Sequence[Setting],
    try_out: Callable[[Setting], Answers],
    bound_of: Callable[[str, Answers, float], float],
    *,
    max_drop: float,
    confidence: float,
) -> Found:
    """Walk every chain from its gentle end to its first setting that may lose too much.

    Args:
        settings: a grid; see `chains_of`.
        try_out: runs a setting; called once for each that is tried.
        bound_of: (name, what `try_out` gave, level) → upper bound of its drop.
        max_drop: as a fraction.
        confidence: of the whole search.
    """
    chains = chains_of(settings)
    found = Found(1 - (1 - confidence) / len(chains), {}, [])
    for chain in chains:
        for setting in chain:
            bound = bound_of(setting.name, try_out(setting), found.level)
            found.bounds[setting.name] = bound
            if bound > max_drop:
                break
            found.passed.append(setting.name)
    return found


def measure_tune(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`.

    Returns:
        {"part": a `Part` as plain data, "chosen": name of the setting or None, "level": the
        confidence of each bound}.
    """
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    folder = Path(request["folder"]) if request["folder"] else None
    limit = BatchLimit.named(request, "flops_")
    runner = TrialRunner(workload, limit, folder)
    settings, seed = settings_from(request["settings"]), workload.request.seed
    unpruned = runner.variant.pruning
    assert unpruned is not None
    trials: list[Trial] = []

    def try_out(setting: Setting) -> Answers:
        report_progress(len(trials), len(settings) + 1, setting.name)
        trials.append(runner.run(setting))
        return trials[-1].answers

    baseline = try_out(Setting(BASELINE, unpruned))
    found = search(
        settings,
        try_out,
        lambda name, answers, level: drop_bound(
            request["metric"], runner.labels, answers, baseline, level=level, seed=seed
        ),
        max_drop=request["max_drop"],
        confidence=request["confidence"],
    )
    part = part_of(trials, runner.labels, flops_limit=limit, seed=seed)
    figures = _drop_figures(request["metric"], found, len(runner.labels))
    macs = {trial.name: float(np.mean(trial.macs)) for trial in trials}
    return {
        "part": part.model_copy(update={"figures": part.figures + figures}).model_dump(mode="json"),
        "chosen": min(found.passed, key=lambda name: macs[name], default=None),
        "level": found.level,
    }


def _drop_figures(metric: str, found: Found, samples: int) -> list[Figure]:
    return [
        Figure(
            name=DROP,
            variant=name,
            unit="1" if metric == "mcc" else "share",
            value=bound,
            provenance="measured",
            method=f"upper {found.level:.2%} confidence bound, one-sided, of the drop of {metric}"
            f" against {BASELINE}: bootstrap over {samples} samples, paired, half a sample added"
            " to each cell",
            better="lower",
            n=samples,
        )
        for name, bound in found.bounds.items()
    ]
