"""Which confidence interval: one aggregate, or the ratio of two, by what varies and how often.

    runs                    Student's t of the log ratio (delta method), paired, or Welch's
    samples of a data set   the same below 50, BCa up to 2,500, percentile bootstrap beyond
    medians, quantiles      percentile bootstrap at its plain level

Decided by simulation: `benchmarks/interval_coverage.py`, all figures in its result file. Of the
ratio of two equal variants, whose runs share a drift, with noise from normal to rare spikes, a
nominal 95 % interval held

    BCa, the usual choice              73–90 % at 5 to 10 runs; 81 % at 50 with rare spikes
    BCa, percentile, level raised      82–95 % and 90–95 % at 5 to 10 runs
    basic of the log, level raised     91–99 %
    Student's t of the log             94–99 %, at 5 to 100 runs; from 10 on no wider than the last

Of the mean over different samples, each with its own length, t held 92–96 % below 80, and BCa at
400 as much; medians and quantiles 94–100 %. No method covers where one side alone has rare large
spikes (36 % at 5 runs, 84 % at 100): a handful of runs often holds none of them.

`expanded_level` makes up for few values in bootstraps (Hesterberg 2015, The American Statistician
69:4).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from alpine_cli.results import Aggregate, Interval

__all__ = ["MIN_RUNS_FOR_INTERVAL", "aggregate", "expanded_level", "interval_of"]

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


def expanded_level(level: float, n: int) -> float:
    """The level to ask of a bootstrap of `n` values so that it covers with `level`.

    Tends to `level` for large n (0.998 at n=5, 0.983 at n=10, 0.951 at n=1000, for 0.95).
    """
    if n < 2:
        raise ValueError(f"an interval takes at least 2 values, got {n}")
    t = stats.t.ppf((1 + level) / 2, n - 1)
    tail = stats.norm.cdf(-np.sqrt(n / (n - 1)) * t)
    return float(1 - 2 * tail)


def interval_of(
    data: list[NDArray[np.float64]],
    how: Aggregate,
    level: float,
    seed: int,
    *,
    unit: str,
    paired: bool = True,
) -> Interval | None:
    """The interval of an aggregate, or of the ratio of two; see the head of this module.

    Args:
        data: one or two sides, (n,) each; of a ratio first the variant, then the baseline.
        how: the aggregate.
        level: coverage wanted.
        seed: of the resampling.
        unit: "run" for repetitions of the same work, anything else for different work.
        paired: whether index i of both sides belongs together.

    Returns:
        None below 5 values, or for aggregates that are no average.
    """
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
