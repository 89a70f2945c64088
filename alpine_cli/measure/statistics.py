"""Intervals, ratios and verdicts. Pure functions of numbers: no model, no clock, no file.

The ratio of two variants is aggregate(variant) / aggregate(baseline), with the aggregate that
their `value` shows, so that a printed ratio is always the quotient of the printed values. Its
interval pairs *runs*: run i of both variants belongs to the same block, so a machine that drifts
during the session cancels out. Which interval is used, and why, stands in `intervals`.

Two sample sets of different sessions share no blocks and are taken apart, as independent. What
differs between the sessions as a whole (another clock, a busy neighbour) is in no such interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from scipy import stats

from alpine_cli.measure.intervals import (
    MIN_RUNS_FOR_INTERVAL,
    aggregate,
    expanded_level,
    interval_of,
)
from alpine_cli.results import Aggregate, Better, Comparison, Figure, Interval, Spread, Verdict

__all__ = [
    "MIN_RUNS_FOR_INTERVAL",
    "MODELLED",
    "aggregate",
    "compare",
    "compare_all",
    "expanded_level",
    "judge",
    "mean_interval",
    "ratio_interval",
    "share_interval",
    "spread",
]


def spread(samples: Sequence[float]) -> Spread | None:
    """Minimum, quartiles and maximum; None without samples."""
    if not samples:
        return None
    low, q1, median, q3, high = np.percentile(np.asarray(samples), [0, 25, 50, 75, 100])
    return Spread(minimum=low, q1=q1, median=median, q3=q3, maximum=high)


def mean_interval(
    samples: Sequence[float],
    how: Aggregate = "mean",
    *,
    level: float = 0.95,
    seed: int = 0,
    unit: str = "run",
) -> Interval | None:
    """Interval of one variant's aggregate; None below 5 samples."""
    return interval_of([np.asarray(samples, float)], how, level, seed, unit=unit)


def ratio_interval(
    numerator: Sequence[float],
    denominator: Sequence[float],
    how: Aggregate = "mean",
    *,
    level: float = 0.95,
    seed: int = 0,
    unit: str = "run",
    paired: bool = True,
) -> Interval | None:
    """Interval of aggregate(numerator) / aggregate(denominator), paired by index.

    Args:
        numerator: samples of the variant; all positive.
        denominator: samples of the baseline, as many, index i from the same block.
        how: the aggregate that both figures show as their value.
        level: coverage wanted.
        seed: of the resampling, so that a report can be repeated to the digit.
        unit: what varies: "run" for repetitions of the same work, "sample" for different work.
        paired: False for two sample sets taken apart, which may differ in number.

    Returns:
        None where a side has fewer than 5 samples, or where a value is not positive.

    Raises:
        ValueError: the two sides have different lengths.
    """
    a, b = np.asarray(numerator, float), np.asarray(denominator, float)
    if paired and len(a) != len(b):
        raise ValueError(f"paired samples differ in number: {len(a)} and {len(b)}")
    if not ((a > 0).all() and (b > 0).all()):
        return None
    return interval_of([a, b], how, level, seed, unit=unit, paired=paired)


def share_interval(
    parts: Sequence[float],
    wholes: Sequence[float],
    *,
    level: float = 0.95,
    seed: int = 0,
    unit: str = "sample",
) -> Interval | None:
    """Bootstrap interval of sum(parts) / sum(wholes), a share that is pooled over clusters.

    Clusters (functions, say) are resampled whole, because what lies in one of them is alike. Where
    all shares are 0, or all are 1, the interval is the exact one of as many yes-or-no answers as
    there are clusters: no part in 10 functions is not shown to be none in any.

    Args:
        parts: per cluster, how many count; 0 ≤ part ≤ whole.
        wholes: per cluster, out of how many; all positive, as many as `parts`.
        level: coverage wanted; expanded for small n, see the head of this module.
        seed: of the resampling.
        unit: what a cluster is called in the method's text.

    Returns:
        None below 5 clusters.

    Raises:
        ValueError: the two sides differ in number, or a part does not fit its whole.
    """
    a, b = np.asarray(parts, float), np.asarray(wholes, float)
    if len(a) != len(b) or not ((b > 0) & (a >= 0) & (a <= b)).all():
        raise ValueError("every share needs 0 <= part <= whole and a whole above 0")
    found = interval_of([a, b], "mean", level, seed, unit=unit)
    if found is None:
        return None
    if not a.any() or (a == b).all():
        # No resample differs. Every cluster counts as one observation: cautious, as they are alike.
        exact = stats.binomtest(len(a) if a.any() else 0, len(a)).proportion_ci(level, "exact")
        return Interval(
            low=exact.low, high=exact.high, level=level, method=f"exact, one per {unit}, n={len(a)}"
        )
    # The interval of a share near 0 or 1 can reach beyond them.
    ends = {"low": min(1.0, max(0.0, found.low)), "high": min(1.0, max(0.0, found.high))}
    return found.model_copy(update=ends)


MODELLED = "modelled, not measured"
"""Why the comparison of a modelled figure has no verdict, though it may have an interval."""


def judge(interval: Interval | None, better: Better | None, *, null: float = 1.0) -> Verdict:
    """Say whether a ratio (or, with null=0, a difference) is better, worse or undecided."""
    if interval is None or better is None:
        return "not judged"
    if interval.low <= null <= interval.high:
        return "no difference shown"
    lower = interval.high < null
    return "better" if lower == (better == "lower") else "worse"


def compare(figure: Figure, baseline: Figure, *, unit: str = "run", seed: int = 0) -> Comparison:
    """Set a figure against the same figure of a baseline variant.

    Figures without samples that are counted or computed exactly (FLOPs by formula) get a verdict
    without an interval: they do not vary. Figures whose samples are too few get none, and neither
    do modelled ones: their interval knows how the model's input varied, not how wrong the model is,
    and a verdict on modelled energy would only repeat, or contradict, the one on time.
    """
    common: dict[str, Any] = {
        "figure": figure.name,
        "variant": figure.variant,
        "baseline": baseline.variant,
        "better": figure.better,
        "method": figure.method,
    }
    for side in (figure, baseline):
        if side.value is None:
            reason = f"{side.variant}: {side.reason}"
            return Comparison(**common, verdict="not judged", reason=reason)
    if figure.provenance != baseline.provenance:
        reason = f"{figure.provenance} cannot be set against {baseline.provenance}"
        return Comparison(**common, verdict="not judged", reason=reason)
    assert figure.value is not None
    assert baseline.value is not None
    common["difference"] = figure.value - baseline.value
    if baseline.value == 0:
        reason = f"{baseline.variant} is 0: no ratio"
        return Comparison(**common, verdict="not judged", reason=reason)
    ratio = figure.value / baseline.value
    a, b = figure.samples or [], baseline.samples or []
    exact = figure.provenance in ("analytic", "counted")
    if exact and not (a and b):
        verdict: Verdict = "no difference shown"
        if ratio != 1:
            same_way = (ratio < 1) == (figure.better == "lower")
            verdict = "better" if same_way else "worse"
        if figure.better is None:
            verdict = "not judged"
        reason = "deterministic: no interval"
        return Comparison(**common, ratio=ratio, verdict=verdict, reason=reason)
    if len(a) != len(b):
        reason = f"no interval: {len(a)} and {len(b)} runs cannot be paired"
        return Comparison(**common, ratio=ratio, verdict="not judged", reason=reason)
    interval = ratio_interval(a, b, figure.aggregate, seed=seed, unit=unit) if a else None
    note = None
    if interval is None:
        note = f"no interval: {len(a)} {unit}(s), at least {MIN_RUNS_FOR_INTERVAL} are needed"
    verdict = judge(interval, figure.better)
    if figure.provenance == "modelled":
        verdict, note = "not judged", note or MODELLED
    return Comparison(**common, ratio=ratio, interval=interval, verdict=verdict, reason=note)


def compare_all(
    figures: Iterable[Figure],
    pairs: Iterable[Sequence[str]],
    *,
    unit: str = "run",
    seed: int = 0,
) -> list[Comparison]:
    """Compare the figures of each (variant, baseline) pair, name by name."""
    by_variant: dict[str, dict[str, Figure]] = {}
    for figure in figures:
        by_variant.setdefault(figure.variant, {})[figure.name] = figure
    return [
        compare(figure, by_variant[baseline][name], unit=unit, seed=seed)
        for variant, baseline in pairs
        for name, figure in by_variant.get(variant, {}).items()
        if name in by_variant.get(baseline, {})
    ]
