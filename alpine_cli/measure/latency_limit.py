"""From a latency to a budget of multiply-adds, timing few settings.

Of one chain of settings, ranked by their multiply-adds, the costliest that stays within the limit
is found by bisection (`find_budget`); its share of multiply-adds is the budget of the search. How
much time a multiply-add takes differs between rules, so what the search finds best is then timed
itself, in turns with `unpruned`, and the best that stays within the limit is chosen.

Staying within means: the upper end of the 95 % interval of the median latency, at batch size 1,
over samples evenly spaced over the lengths of the split, is within the limit.
"""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.errors import ConfigError
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.fit import Fitter, gentlest
from alpine_cli.measure.grid import Setting
from alpine_cli.measure.latency import COUNTS, ROUNDS, latency_figures
from alpine_cli.measure.statistics import aggregate, compare_all
from alpine_cli.measure.timing import TimedPass, timed_pass
from alpine_cli.measure.trials import BASELINE, TrialRunner
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Workload, evenly_over_lengths
from alpine_cli.results import Interval, Part

__all__ = ["LatencyTimer", "find_budget"]


class LatencyTimer:
    """Times settings at batch size 1, in turns, on the same weights and samples."""

    def __init__(self, workload: Workload, runner: TrialRunner) -> None:
        self._runner, self._seed = runner, workload.request.seed
        self._samples = evenly_over_lengths(runner.variant.encoded, COUNTS[0])
        self._in_split = len(workload.samples)

    def milliseconds(self, settings: Sequence[Setting]) -> dict[str, list[float]]:
        """One latency per sample and setting: the median of three runs, in random turns."""
        by_name = {setting.name: setting for setting in settings}
        for setting in settings:
            variant = self._runner.variant_of(setting)
            timed_pass(variant, [variant.batch_of([i]) for i in self._samples])  # warm-up
        taken: dict[str, list[float]] = {name: [] for name in by_name}
        for done, sample in enumerate(self._samples):
            report_progress(done, len(self._samples), f"latency of {len(by_name)} settings")

            def run(name: str, sample: int = sample) -> TimedPass:
                variant = self._runner.variant_of(by_name[name])
                return timed_pass(variant, [variant.batch_of([sample])])

            blocks = run_blocks(
                list(by_name),
                run,
                runs=ROUNDS,
                min_seconds=0,
                seed=self._seed + done,
            )
            for name, passes in blocks.items():
                values = [1000 * block.seconds for block in passes]
                taken[name].append(float(aggregate(values, "median")))
        return taken

    def figures(self, settings: Sequence[Setting], limit: float) -> Part:
        """Latency of these settings, each against the first."""
        taken = self.milliseconds(settings)
        figures = [
            figure
            for figure in latency_figures(taken, in_split=self._in_split, seed=self._seed)
            if figure.name in ("latency", "latency_p50")
        ]
        pairs = [(setting.name, settings[0].name) for setting in settings[1:]]
        return Part(
            figures=figures,
            comparisons=compare_all(figures, pairs, unit="sample", seed=self._seed),
        )

    def median(self, setting: Setting, unpruned: Setting) -> Interval | None:
        """Interval of the median latency, taken in turns with `unpruned`."""
        taken = self.milliseconds([unpruned, setting])
        figures = latency_figures(taken, in_split=self._in_split, seed=self._seed)
        return next(
            figure.interval
            for figure in figures
            if (figure.name, figure.variant) == ("latency_p50", setting.name)
        )


def find_budget(
    fitter: Fitter, probes: Sequence[tuple[float, Setting]], timer: LatencyTimer, limit: float
) -> float:
    """The share of multiply-adds of the costliest probe that stays within the limit.

    Args:
        fitter: knows `unpruned`.
        probes: (share, setting), cheapest first.
        timer: times them.
        limit: in ms.

    Raises:
        ConfigError: the cheapest does not; names its latency.
    """
    unpruned = Setting(BASELINE, fitter.base)
    found: dict[int, Interval | None] = {}

    def fits(place: int) -> bool:
        found[place] = timer.median(probes[place - 1][1], unpruned)
        interval = found[place]
        return interval is not None and interval.high <= limit

    place = gentlest(len(probes), fits)
    if place is not None:
        return probes[place - 1][0]
    cheapest = found.get(1)
    told = "too few samples to tell" if cheapest is None else f"at most {cheapest.high:.3g} ms"
    raise ConfigError(
        f"--latency: {limit:g} ms is below what can be reached here: the cheapest setting,"
        f" {probes[0][1].name}, takes a median of {told} (95 % confidence)"
    )
