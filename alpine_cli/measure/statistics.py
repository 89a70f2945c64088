"""Intervals, ratios and verdicts. Pure functions of numbers: no model, no clock, no file.

The ratio of two variants is aggregate(variant) / aggregate(baseline), with the aggregate that
their `value` shows, so that a printed ratio is always the quotient of the printed values. Its
interval pairs *runs*: run i of both variants belongs to the same block, so a machine that drifts
during the session cancels out.

Which interval was decided by simulation (`benchmarks/interval_coverage.py`; its result file has all
figures). Noise of runs is skewed to the right and runs are few. The usual choice, BCa at its
nominal 95 %, then covers the ratio of two equal variants in PLACEHOLDER % of cases, and still in PLACEHOLDER % of those
with 50 runs and rare spikes; the percentile and the reversed ("basic") bootstrap do better and fall
to PLACEHOLDER % and PLACEHOLDER % at 5 runs. Student's t of the log ratio, linearised, holds PLACEHOLDER % throughout, hardly wider. So:

    runs                    Student's t of the log ratio (delta method), paired or by Welch
    samples of a data set   the same below 50, BCa up to 2,500, percentile beyond
    medians, quantiles      percentile bootstrap at its plain level

Bootstraps of means are asked for `expanded_level`, which makes up for few values (Hesterberg 2015,
The American Statistician 69:4). No interval covers where only one side has rare large spikes: a
handful of runs then often holds none of them.

Two sample sets of different sessions share no blocks and are taken apart, as independent. What
differs between the sessions as a whole (another clock, a busy neighbour) is in no such interval.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from alpine_cli.results import Aggregate, Better, Comparison, Figure, Interval, Spread, Verdict

__all__ = [
    "MIN_RUNS_FOR_INTERVAL",
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

# Below this number the spread of the runs is itself known too badly to be cited.
MIN_RUNS_FOR_INTERVAL = 5

_RESAMPLES = 5000
_MIN_FOR_BCA = 50
_MAX_FOR_BCA = 2500  # its jackknife builds an n x n table
_QUANTILES = ("median", "p90", "p95", "p99")
# Bounds the memory of one batch of resamples to about 100 MB, whatever the number of samples.
_VALUES_PER_BATCH = 6_000_000


def aggregate(samples: ArrayLike, how: Aggregate, axis: int = -1) -> Any:
    """Reduce samples along `axis` as `how` says.

    Raises:
        ValueError: there are no samples, or 'single' is asked of more than one.
    """
    values = np.asarray(samples, dtype=np.float64)
    if values.shape[axis] == 0:
        raise ValueError(f"aggregate {how!r} takes at least one sample, got none")
    match how:
        case "mean":
            return values.mean(axis=axis)
        case "harmonic_mean":
            return 1.0 / (1.0 / values).mean(axis=axis)
        case "median":
            return np.median(values, axis=axis)
        case "p90" | "p95" | "p99":
            return np.percentile(values, int(how[1:]), axis=axis)
        case "sum":
            return values.sum(axis=axis)
        case "single":
            if values.shape[axis] != 1:
                raise ValueError(f"aggregate 'single' takes one sample, got {values.shape[axis]}")
            return values.take(0, axis=axis)


def spread(samples: Sequence[float]) -> Spread | None:
    """Minimum, quartiles and maximum; None without samples."""
    if not samples:
        return None
    low, q1, median, q3, high = np.percentile(np.asarray(samples), [0, 25, 50, 75, 100])
    return Spread(minimum=low, q1=q1, median=median, q3=q3, maximum=high)


def expanded_level(level: float, n: int) -> float:
    """The level to ask of a bootstrap of `n` values so that it covers with `level`.

    Tends to `level` for large n (0.998 at n=5, 0.983 at n=10, 0.951 at n=1000, for 0.95).
    """
    if n < 2:
        raise ValueError(f"an interval takes at least 2 values, got {n}")
    t = stats.t.ppf((1 + level) / 2, n - 1)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * t)
    return float(1 - 2 * tail)


def mean_interval(
    samples: Sequence[float],
    how: Aggregate = "mean",
    *,
    level: float = 0.95,
    seed: int = 0,
    unit: str = "run",
) -> Interval | None:
    """Interval of one variant's aggregate; None below 5 samples."""
    return _interval_of([np.asarray(samples, float)], how, level, seed, unit=unit)


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
    return _interval_of([a, b], how, level, seed, unit=unit, paired=paired)


def share_interval(
    parts: Sequence[float],
    wholes: Sequence[float],
    *,
    level: float = 0.95,
    seed: int = 0,
    unit: str = "sample",
) -> Interval | None:
    """Bootstrap interval of sum(parts) / sum(wholes), a share that is pooled over clusters.

    Clusters (functions, say) are resampled whole, because what lies in one of them is alike.

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
    found = _interval_of([a, b], "mean", level, seed, unit=unit)
    if found is None:
        return None
    # The interval of a share near 0 or 1 can reach beyond them.
    ends = {"low": min(1.0, max(0.0, found.low)), "high": min(1.0, max(0.0, found.high))}
    return found.model_copy(update=ends)


def _interval_of(
    data: list[NDArray[np.float64]],
    how: Aggregate,
    level: float,
    seed: int,
    *,
    unit: str,
    paired: bool = True,
) -> Interval | None:
    """Choose the interval by what varies and how many there are; see the head of this module."""
    n, largest = min(map(len, data)), max(map(len, data))
    if n < MIN_RUNS_FOR_INTERVAL or how in ("single", "sum"):
        return None
    if how in _QUANTILES:
        name, low, high = _bootstrap(data, how, level, "percentile", seed, paired)
    elif unit == "run" or n < _MIN_FOR_BCA:
        name, low, high = _student(data, how, level, paired)
    else:
        method = "BCa" if largest <= _MAX_FOR_BCA else "percentile"
        name, low, high = _bootstrap(data, how, expanded_level(level, n), method, seed, paired)
    over = f"over {n} {unit}s"
    if len(data) == 2 and paired:
        over = f"{over}, paired"
    elif len(data) == 2:
        over = f"over {len(data[0])} and {len(data[1])} {unit}s, unpaired"
    return Interval(low=low, high=high, level=level, method=f"{name} {over}")


def _student(
    data: list[NDArray[np.float64]], how: Aggregate, level: float, paired: bool
) -> tuple[str, float, float]:
    """Student's t of a mean or a ratio of means, linearised (delta method).

    On the log scale where all values are positive, which keeps the interval of a ratio positive and
    makes that of its inverse the inverse; a harmonic mean is one over the mean of the inverses.
    """
    on_log = all((side > 0).all() for side in data)
    inverse = how == "harmonic_mean"
    if inverse and not on_log:
        raise ValueError("a harmonic mean takes positive values")
    sides = [1 / side if inverse else side for side in data]
    means = [side.mean() for side in sides]
    if on_log:
        # d log mean(x) = sum of (x_i / mean - 1) / n; the minus of inverse and baseline follow.
        sign = -1.0 if inverse else 1.0
        pulls = [sign * (side / mean - 1) for side, mean in zip(sides, means, strict=True)]
        centre = sign * float(np.log(means[0]) - (np.log(means[1]) if len(means) == 2 else 0.0))
    elif len(sides) == 2:
        centre = float(means[0] / means[1])
        pulls = [(sides[0] - means[0]) / means[1], centre * (sides[1] - means[1]) / means[1]]
    else:
        centre, pulls = float(means[0]), [sides[0] - means[0]]
    if len(pulls) == 2 and paired:
        pulls = [pulls[0] - pulls[1]]
    shares = [float(pull.var(ddof=1)) / len(pull) for pull in pulls]  # of the variance
    variance = sum(shares)
    degrees = len(pulls[0]) - 1.0
    if len(pulls) == 2 and variance > 0:  # Welch and Satterthwaite
        degrees = variance**2 / sum(
            share**2 / (len(pull) - 1) for share, pull in zip(shares, pulls, strict=True)
        )
    half = float(stats.t.ppf((1 + level) / 2, degrees)) * variance**0.5
    low, high = centre - half, centre + half
    if on_log:
        return "Student's t of the log", float(np.exp(low)), float(np.exp(high))
    return "Student's t", low, high


def _bootstrap(
    data: list[NDArray[np.float64]],
    how: Aggregate,
    level: float,
    method: str,
    seed: int,
    paired: bool,
) -> tuple[str, float, float]:
    largest = max(map(len, data))

    def statistic(*sides: Any, axis: int = -1) -> Any:
        values = [aggregate(side, how, axis) for side in sides]
        return values[0] / values[1] if len(values) == 2 else values[0]

    with warnings.catch_warnings():
        # scipy warns of degenerate (all equal) data; that case is handled just below.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            tuple(data),
            statistic,
            paired=len(data) == 2 and paired,
            vectorized=True,
            n_resamples=_RESAMPLES if largest <= _MAX_FOR_BCA else _RESAMPLES // 5,
            batch=max(1, _VALUES_PER_BATCH // largest),
            method=method,
            confidence_level=level,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if not (np.isfinite(low) and np.isfinite(high)):
        # All resamples equal: the samples do not vary, and neither does the statistic.
        low = high = float(statistic(*data))
    return f"{method} bootstrap", low, high


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
    without an interval: they do not vary. Figures whose samples are too few get none.
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
