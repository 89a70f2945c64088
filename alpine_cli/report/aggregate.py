"""Which results are repeats of one setting over fine-tuning seeds, and their mean with interval.

Results are averaged only if they agree in everything that `Setting` names (model, task, the very
samples, pruning, batch size, device, machine, software …) and their checkpoints carry different,
known seeds. Whatever differs otherwise is told apart, never averaged.

How seeds are combined, n being their number and t Student's with n - 1 degrees of freedom:

    values, differences of metrics   arithmetic mean, mean ± t s / sqrt(n)
    ratios                           geometric mean, exp(m ± t s / sqrt(n)) of the log ratios

A ratio is formed within each seed, so that what a seed does to both variants cancels out; the log
makes "twice as fast" and "half as fast" opposites, and the result the same whichever variant is
the baseline. The interval spans seeds: it holds the luck of fine-tuning and the noise of measuring
together. Several results of one seed (a bench run twice) are first averaged into one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, geometric_mean

import numpy as np
from scipy import stats

from alpine_cli.measure.statistics import judge
from alpine_cli.report.setting import Setting, describe_pruning, setting_of
from alpine_cli.results import Interval, Result, Verdict

__all__ = [
    "Pooled",
    "SeedGroup",
    "group_seeds",
    "is_metric",
    "pool",
    "pool_comparison",
    "pool_figure",
]

_METRICS = ("accuracy", "precision", "recall", "f1", "mcc", "agreement")


@dataclass(frozen=True)
class SeedGroup:
    """Repeats of one setting.

    Attributes:
        setting: what they share.
        by_seed: the results of each seed, oldest first.
    """

    setting: Setting
    by_seed: dict[int, list[Result]]

    @property
    def first(self) -> Result:
        """Any result of the group, for what all share."""
        return next(iter(self.by_seed.values()))[0]


def group_seeds(results: Iterable[Result]) -> tuple[list[SeedGroup], list[str]]:
    """The groups of at least two seeds, and one line for each set of results left unaveraged."""
    together: dict[Setting, list[Result]] = {}
    for result in results:
        together.setdefault(setting_of(result), []).append(result)
    groups: list[SeedGroup] = []
    remarks: list[str] = []
    for setting, members in together.items():
        if "pruned" not in members[0].variants:
            continue
        where = f"{setting.model}, {setting.task}, {describe_pruning(members[0])}"
        checkpoints: dict[int | None, set[str]] = {}
        for member in members:
            variant = member.variants["pruned"]
            checkpoints.setdefault(variant.training_seed, set()).add(variant.checkpoint_sha256)
        if sum(map(len, checkpoints.values())) < 2:
            continue
        unclear = [seed for seed, found in checkpoints.items() if len(found) > 1]
        if None in checkpoints:
            remarks.append(
                f"{where}: {sum(map(len, checkpoints.values()))} checkpoints are not averaged:"
                " the seed of at least one fine-tuning is unknown"
            )
        elif unclear:
            remarks.append(
                f"{where}: not averaged: seed {unclear[0]} stands for"
                f" {len(checkpoints[unclear[0]])} different checkpoints"
            )
        else:
            by_seed: dict[int, list[Result]] = {}
            for member in sorted(members, key=lambda member: member.created):
                seed = member.variants["pruned"].training_seed
                assert seed is not None
                by_seed.setdefault(seed, []).append(member)
            groups.append(SeedGroup(setting, dict(sorted(by_seed.items()))))
    return groups, [*remarks, *_told_apart(together)]


def _told_apart(together: dict[Setting, list[Result]]) -> list[str]:
    by_topic: dict[tuple[str, str, str], list[Setting]] = {}
    for setting in together:
        by_topic.setdefault((setting.kind, setting.model, setting.task), []).append(setting)
    lines = []
    for (_, model, task), settings in by_topic.items():
        if len(settings) < 2:
            continue
        names = dict.fromkeys(name for other in settings[1:] for name in settings[0].differs(other))
        lines.append(f"{model}, {task}: {len(settings)} settings, told apart by {', '.join(names)}")
    return lines


@dataclass(frozen=True)
class Pooled:
    """One number over seeds.

    Attributes:
        value: None where it could not be formed; then `reason` says why.
        interval: over seeds, in the unit of `value`; None below two seeds.
        n: number of seeds behind it.
        verdict: of a ratio or difference; "not judged" for plain values.
        provenance: what all seeds share.
        reason: why there is no value or no interval.
    """

    value: float | None
    interval: Interval | None = None
    n: int = 0
    verdict: Verdict = "not judged"
    provenance: str = "absent"
    reason: str | None = None


def pool(values: Sequence[float], *, on_log: bool = False, level: float = 0.95) -> Pooled:
    """Mean of one value per seed with its t interval; `on_log` for ratios (all positive).

    One value has no interval; two have one, very wide (t = 12.7).

    Raises:
        ValueError: no value, or one that is not positive with `on_log`.
    """
    if not values:
        raise ValueError("no values to pool")
    if on_log and min(values) <= 0:
        raise ValueError(f"ratios must be positive, got {min(values)}")
    data = np.log(values) if on_log else np.asarray(values, dtype=float)
    back: Callable[[float], float] = math.exp if on_log else float
    n, mean = len(data), float(np.mean(data))
    if np.ptp(data) <= 1e-12 * abs(mean):  # equal but for rounding
        data = np.full(n, mean)
    if n < 2:
        return Pooled(back(mean), n=n, reason="one seed: no interval")
    reach = float(stats.t.ppf((1 + level) / 2, n - 1) * np.std(data, ddof=1) / math.sqrt(n))
    method = f"t interval{' of the log' if on_log else ''} over {n} fine-tuning seeds"
    interval = Interval(low=back(mean - reach), high=back(mean + reach), level=level, method=method)
    return Pooled(back(mean), interval, n)


def pool_figure(group: SeedGroup, name: str, variant: str) -> Pooled:
    """A figure of one variant over the seeds of a group, in its own unit."""
    values: dict[int, list[float]] = {}
    kinds: set[str] = set()
    for seed, results in group.by_seed.items():
        for result in results:
            figure = result.figure(name, variant)
            if figure is not None and figure.value is not None:
                values.setdefault(seed, []).append(figure.value)
                kinds.add(figure.provenance)
    return _refusal(values, kinds) or _known(
        pool([fmean(several) for several in values.values()]), group, kinds
    )


def pool_comparison(
    group: SeedGroup, name: str, variant: str = "pruned", baseline: str = "unpruned"
) -> Pooled:
    """A comparison over the seeds: of metrics the difference, of all else the ratio."""
    values: dict[int, list[float]] = {}
    kinds: set[str] = set()
    better = None
    metric = is_metric(name)
    for seed, results in group.by_seed.items():
        for result in results:
            found, figure = result.comparison(name, variant, baseline), result.figure(name, variant)
            if found is None or figure is None:
                continue
            number = found.difference if metric else found.ratio
            if number is not None:
                values.setdefault(seed, []).append(number)
                kinds.add(figure.provenance)
                better = found.better
    refused = _refusal(values, kinds)
    if refused is not None:
        return refused
    if metric:
        pooled = pool([fmean(several) for several in values.values()])
    elif min(map(min, values.values())) <= 0:
        return Pooled(None, reason="a ratio of 0 has no logarithm")
    else:
        pooled = pool([geometric_mean(several) for several in values.values()], on_log=True)
    verdict = judge(pooled.interval, better, null=0.0 if metric else 1.0)
    return replace(_known(pooled, group, kinds), verdict=verdict)


def is_metric(name: str) -> bool:
    """Whether a figure is compared by difference (accuracy, F1, MCC …), not by ratio."""
    return name in _METRICS


def _refusal(values: Mapping[int, Sequence[float]], kinds: set[str]) -> Pooled | None:
    if not values:
        return Pooled(None, reason="not in any of these results")
    if len(kinds) > 1:
        return Pooled(None, reason=f"{' and '.join(sorted(kinds))} are not averaged")
    return None


def _known(pooled: Pooled, group: SeedGroup, kinds: set[str]) -> Pooled:
    reason = pooled.reason
    if pooled.n < len(group.by_seed):
        reason = f"in {pooled.n} of {len(group.by_seed)} seeds only"
    return replace(pooled, provenance=next(iter(kinds)), reason=reason)
