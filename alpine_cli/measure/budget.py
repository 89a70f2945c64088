"""Pick the most accurate setting within a budget of multiply-adds, on validation data.

    fit      each chain of the grid without strengths of its own (see `fit`) gets the gentlest one
             within the budget, and the gentlest within half of it, so that the front shows what
             less would cost
    halve    all candidates on a few samples, the better half on twice as many, … the last six on
             all of them (see `halving`); samples come in one order, drawn by the seed, and a rung
             takes the first so many of it
    choose   the most accurate of the last rung that is within the budget; among equals the cheapest

With a latency as the constraint two steps come around that (see `latency_limit`).

Why no Optuna or pymoo: what they are good at, many continuous dimensions, is not here. Rule, score,
merge and layers are a few dozen combinations, all of which can be tried; strength, the one
continuous dimension, follows from the budget by bisection, without a run where tokens stay by
share. What is left is to spend samples on candidates well, which is halving.

The choice is the best of many on the same samples, hence flattered: what it is really worth says
the test split, touched once, by the choice, `unpruned`, and `truncate` at the same budget.
Truncation is tried on validation data, too, but never chosen: no checkpoint prunes so.

Repeated with one seed the choice is the same, unless time runs out: then the last whole rung
decides. The limit is for fitting and halving; what the choice is worth is found out after it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from alpine_cli.errors import ConfigError, MeasurementError
from alpine_cli.measure.fit import Fitter
from alpine_cli.measure.grid import Setting
from alpine_cli.measure.halving import FINALISTS, SMALLEST, Rung, halve, rung_sizes
from alpine_cli.measure.latency_limit import LatencyTimer, find_budget
from alpine_cli.measure.trials import (
    BASELINE,
    Trial,
    TrialRunner,
    part_of,
    settings_from,
    settings_to,
)
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import WorkloadRequest, load_workload
from alpine_cli.results import Caution, Part
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.metrics import compute_metrics

__all__ = ["FRACTIONS", "BudgetSearch", "measure_budget"]

FRACTIONS = (1.0, 0.5)
"""Of the budget: what each chain is fitted to."""

_TIGHTER = 0.85  # of the budget, where nothing found within it was quick enough
_ATTEMPTS = 4


def measure_budget(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`.

    Args:
        request: `workload`, the limit of FLOPs' batches, `folder`, `metric`, `settings` (with
            strengths),
            `chains` (without: strengths are fitted), `time_limit_s`, and either `budget`, a share,
            or `latency_ms`.

    Returns:
        {"part": a `Part` as plain data, "settings": those in it, "chosen": a name, "truncation":
        the setting at the same budget or None, "budget": a share, "rungs": what halving did,
        "stopped": whether time ran out}.

    Raises:
        ConfigError: nothing of the grid is within the budget; names the least.
        MeasurementError: nothing that was found is quick enough.
    """
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    folder = Path(request["folder"]) if request["folder"] else None
    runner = TrialRunner(workload, BatchLimit.named(request, "flops_"), folder)
    search = BudgetSearch(
        runner,
        request["metric"],
        workload.request.seed,
        settings_from(request["settings"]),
        settings_from(request["chains"]),
        clock_until(request["time_limit_s"]),
    )
    limit = request.get("latency_ms")
    if limit is None:
        search.run(request["budget"])
        return search.answer(Part())
    timer = LatencyTimer(workload, runner)
    budget = find_budget(search.fitter, search.probes(), timer, limit)
    for _ in range(_ATTEMPTS):
        search.run(budget)
        names = [BASELINE, *(name for name, *_ in search.last.ranking[:FINALISTS])]
        part = timer.figures([search.setting(name) for name in names], limit)
        quick = {
            figure.variant
            for figure in part.figures
            if figure.name == "latency_p50"
            and figure.interval is not None
            and figure.interval.high <= limit
        }
        if search.choose(quick):
            return search.answer(part)
        budget *= _TIGHTER
    raise MeasurementError(
        f"--latency: of the {len(search.last.ranking)} best settings at {100 * budget:.1f} % of the"
        f" multiply-adds none was shown to stay within {limit:g} ms; raise it"
    )


def clock_until(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have gone by since this call."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() >= end


class BudgetSearch:
    """The search on one loaded model; see the head of this module.

    Args:
        runner: runs settings.
        metric: what to keep.
        seed: of the order of samples.
        settings: candidates with strengths of their own.
        chains: one setting of each chain that is to be fitted.
        out_of_time: asked between runs.
    """

    def __init__(
        self,
        runner: TrialRunner,
        metric: str,
        seed: int,
        settings: list[Setting],
        chains: list[Setting],
        out_of_time: Callable[[], bool] = lambda: False,
    ) -> None:
        self._runner, self._metric, self._seed = runner, metric, seed
        self._settings, self._chains = settings, chains
        self._out_of_time = out_of_time
        self._order = np.random.default_rng(seed).permutation(len(runner.labels)).tolist()
        self._parts: dict[str, list[Trial]] = {}
        self._known: dict[str, Setting] = {
            BASELINE: Setting(BASELINE, _unpruned(runner)),
        }
        self.fitter = Fitter(runner, self._order[:SMALLEST])
        self.budget = 1.0
        self.rungs: list[Rung] = []
        self.stopped = False
        self.chosen: str | None = None

    @property
    def last(self) -> Rung:
        """The rung that decides."""
        return self.rungs[-1]

    def setting(self, name: str) -> Setting:
        """A candidate, or `unpruned`, by name."""
        return self._known[name]

    def probes(self) -> list[tuple[float, Setting]]:
        """Some settings over the whole range of costs, by share of multiply-adds, cheapest first.

        One chain, fitted to falling shares; or, where none is to be fitted, all settings.
        """
        if not self._chains:
            found = [(self.fitter.share(setting), setting) for setting in self._settings]
            return sorted(found, key=lambda pair: pair[0])
        return self.fitter.ladder(self._chains[0])

    def run(self, budget: float) -> None:
        """Fit, halve, choose.

        Raises:
            ConfigError: nothing is within the budget; names the least.
        """
        self.budget = budget
        candidates = self._candidates(budget)
        if not candidates:
            least, name = self.fitter.least(self._settings, self._chains)
            raise ConfigError(
                f"--budget: nothing of the grid gets by with {budget:g} of the multiply-adds; the"
                f" least is {_up(least):g} ({name})"
            )
        self._known |= {setting.name: setting for setting in candidates}
        samples = len(self._runner.labels)
        sizes = rung_sizes(len(candidates), samples)
        steps = zip([0, *sizes], sizes, range(len(sizes)), strict=False)
        # About: what a rung adds to the rung before, for as many as are left by then.
        total = self._seen() + sum(
            (size - before) * -(-len(candidates) // 2**rung) for before, size, rung in steps
        )

        def score(name: str, size: int) -> tuple[float, float] | None:
            report_progress(self._seen(), max(total, self._seen() + 1), f"{name}, {size} samples")
            trial = self._trial(name, size)
            share = self._share(name, trial, size)
            if share > budget:
                return None
            labels = self._runner.labels[sorted(self._order[:size])]
            return compute_metrics(labels, trial.answers)[self._metric], share

        names = [setting.name for setting in candidates]
        self.rungs, self.stopped = halve(names, score, sizes, out_of_time=self._out_of_time)
        refused = {name for rung in self.rungs for name in rung.refused}
        while not {name for name, *_ in self.last.ranking} - refused and len(self.rungs) > 1:
            self.rungs.pop()  # whoever came that far needs more than it seemed at first
        if not self.choose(set(names) - refused):
            raise MeasurementError(
                f"--budget: every setting tried turned out to need more than {budget:g} of the"
                " multiply-adds on all samples; raise it a little"
            )

    def choose(self, allowed: set[str]) -> bool:
        """Choose the best of the last rung among these; False where none of them is in it."""
        self.chosen = next((name for name, *_ in self.last.ranking if name in allowed), None)
        return self.chosen is not None

    def answer(self, extra: Part) -> dict[str, Any]:
        """What the worker returns: the last rung, `unpruned` and truncation on the same samples."""
        size = self.last.samples
        truncation = self.fitter.truncation(self.budget)
        if truncation is not None:
            self._known[truncation.name] = truncation
        ranked = [name for name, *_ in self.last.ranking]
        names = [BASELINE, *ranked, *([truncation.name] if truncation else [])]
        trials = [self._trial(name, size) for name in names]
        labels = self._runner.labels[sorted(self._order[:size])]
        part = part_of(trials, labels, flops_limit=self._runner.flops_limit, seed=self._seed)
        if size < len(self._runner.labels):  # predictions are of whole splits
            part = part.model_copy(update={"predictions": None})
        part = part.merged(extra, Part(cautions=self._cautions(size)))
        return {
            "part": part.model_dump(mode="json"),
            "settings": settings_to([self._known[name] for name in names[1:]]),
            "chosen": self.chosen,
            "truncation": None if truncation is None else settings_to([truncation])[0],
            "budget": self.budget,
            "rungs": [
                {"samples": rung.samples, "ranking": rung.ranking, "over_budget": rung.refused}
                for rung in self.rungs
            ],
            "stopped": self.stopped,
        }

    def _candidates(self, budget: float) -> list[Setting]:
        found = {}
        for setting in self._settings:
            planned = self._runner.planned_macs(setting)
            if planned is None or self.fitter.of_unpruned(planned) <= budget:
                found[setting.name] = setting
        for chain in self._chains:
            if found and self._out_of_time():
                break
            for fraction in FRACTIONS:
                fitted = self.fitter.fit(chain, fraction * budget)
                if fitted is not None:
                    found[fitted.name] = fitted
        return list(found.values())

    def _trial(self, name: str, size: int) -> Trial:
        """On the first `size` samples; what was run before is not run again."""
        parts = self._parts.setdefault(name, [])
        done = sum(len(part.macs) for part in parts)
        if done < size:
            parts.append(self._runner.run(self._known[name], self._order[done:size]))
        if sum(len(part.macs) for part in parts) > size:  # of an earlier, longer search
            return self._runner.run(self._known[name], self._order[:size])
        return Trial.joined(parts, self._order[:size])

    def _share(self, name: str, trial: Trial, size: int) -> float:
        """Of the multiply-adds of `unpruned`: of the whole split where that is known beforehand."""
        planned = self._runner.planned_macs(self._known[name])
        if planned is not None:
            return self.fitter.of_unpruned(planned)
        return float(np.sum(trial.macs) / self.fitter.unpruned[self._order[:size]].sum())

    def _seen(self) -> int:
        return sum(len(part.macs) for parts in self._parts.values() for part in parts)

    def _cautions(self, size: int) -> list[Caution]:
        if not self.stopped:
            return []
        return [
            Caution(
                code="time-limit",
                text=f"time ran out: the choice rests on {size:,} of"
                f" {len(self._runner.labels):,} samples",
                effect="a better setting may not have been tried, or not been told from others",
                remedy="Raise --time-limit, or ask for fewer --rules or --layers",
            )
        ]


def _unpruned(runner: TrialRunner) -> Any:
    unpruned = runner.variant.pruning
    assert unpruned is not None
    return unpruned


def _up(share: float) -> float:
    """Rounded up, so that it can be typed as a budget."""
    return float(np.ceil(1000 * share) / 1000)
