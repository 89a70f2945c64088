"""Intervals, ratios and verdicts. Pure functions of numbers: no model, no clock, no file.

The ratio of two variants is aggregate(variant) / aggregate(baseline), with the aggregate that
their `value` shows, so that a printed ratio is always the quotient of the printed values. Its
interval is a bootstrap that resamples *runs*: run i of both variants belongs to the same block, so
a machine that drifts during the session cancels out.

Which bootstrap was decided by simulation (ratio of two equal variants, shared drift, four kinds of
noise from normal to rare spikes). Run times are skewed to the right and runs are few; there the
usual choices cover too little: a nominal 95 % interval held 82-87 % (BCa or percentile, 5 or 10
runs), 88-94 % with the level raised as below. The reversed ("basic") bootstrap on the log scale
with the raised level held 93-99 % in every case, at the same width. So:

    below 50 values     basic bootstrap of the log, at `expanded_level`
    50 to 2,500         BCa (samples of a data set, e.g. MACs of each)
    more                percentile
    medians, quantiles  percentile, at the plain level (conservative already)

Two sample sets of different sessions share no blocks and are resampled apart, with the level of
the smaller one: 95-99 % in the same kind of simulation. What differs between the sessions as a
whole (another clock, a busy neighbour) is in no such interval.

`expanded_level` makes up for few values (Hesterberg 2015, The American Statistician 69:4).
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
    "spread",
]

# Below this number a bootstrap has too few distinct resamples to say anything.
MIN_RUNS_FOR_INTERVAL = 5

_RESAMPLES = 5000
_MIN_FOR_BCA = 50
_MAX_FOR_BCA = 2500  # its jackknife builds an n x n table
_QUANTILES = ("median", "p90", "p95", "p99")
# Bounds the memory of one batch of resamples to about 100 MB, whatever the number of samples.
_VALUES_PER_BATCH = 6_000_000


def aggregate(samples: ArrayLike, how: Aggregate, axis: int = -1) -> Any:
    """Reduce samples along `axis` as `how` says; 'single' asks for exactly one sample."""
    values = np.asarray(samples, dtype=np.float64)
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
    """Bootstrap interval of one variant's aggregate; None below 5 samples."""
    return _bootstrap([np.asarray(samples, float)], how, level, seed, unit=unit)


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
    """Bootstrap interval of aggregate(numerator) / aggregate(denominator), paired by index.

    Args:
        numerator: samples of the variant; all positive.
        denominator: samples of the baseline, as many, index i from the same block.
        how: the aggregate that both figures show as their value.
        level: coverage wanted; expanded for small n, see the head of this module.
        seed: of the resampling, so that a report can be repeated to the digit.
        unit: what is resampled, for the method's text ("run", "sample").
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
    return _bootstrap([a, b], how, level, seed, unit=unit, paired=paired)


def _bootstrap(
    data: list[NDArray[np.float64]],
    how: Aggregate,
    level: float,
    seed: int,
    *,
    unit: str,
    paired: bool = True,
) -> Interval | None:
    n, largest = min(map(len, data)), max(map(len, data))
    if n < MIN_RUNS_FOR_INTERVAL or how in ("single", "sum"):
        return None
    is_ratio = len(data) == 2
    method, asked = "percentile", expanded_level(level, n)
    if how in _QUANTILES:
        asked = level
    elif n < _MIN_FOR_BCA:
        method = "basic"
    elif largest <= _MAX_FOR_BCA:
        method = "BCa"
    on_log = method == "basic" and all((side > 0).all() for side in data)

    def statistic(*sides: Any, axis: int = -1) -> Any:
        values = [aggregate(side, how, axis) for side in sides]
        found = values[0] / values[1] if is_ratio else values[0]
        return np.log(found) if on_log else found

    with warnings.catch_warnings():
        # scipy warns of degenerate (all equal) data; that case is handled just below.
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            tuple(data),
            statistic,
            paired=is_ratio and paired,
            vectorized=True,
            n_resamples=_RESAMPLES if largest <= _MAX_FOR_BCA else _RESAMPLES // 5,
            batch=max(1, _VALUES_PER_BATCH // largest),
            method=method,
            confidence_level=asked,
            rng=np.random.default_rng(seed),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    if not (np.isfinite(low) and np.isfinite(high)):
        # All resamples equal: the samples do not vary, and neither does the statistic.
        low = high = float(statistic(*data))
    if on_log:
        low, high = float(np.exp(low)), float(np.exp(high))
    name = f"{method} bootstrap{' of the log' if on_log else ''}"
    if is_ratio and not paired:
        over = f"over {len(data[0])} and {len(data[1])} {unit}s, unpaired"
    else:
        over = f"over {n} {unit}s{', paired' if is_ratio else ''}"
    return Interval(low=low, high=high, level=level, method=f"{name} {over}")


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
