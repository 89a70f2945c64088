"""How often do confidence intervals of a ratio hold the truth? By simulation, method by method.

    python -m benchmarks.interval_coverage        (about five minutes on one core; no model, no GPU)

A trial draws n paired values of a variant and its baseline and asks every method for a nominal
95 % interval of the ratio of their means; its coverage is the share of trials whose interval holds
the true ratio. Of two alike variants (an A/A test), one minus the coverage is the share of verdicts
that are wrong. `in use` is what `statistics.ratio_interval` returns, called as alpine calls it.

Noise of runs, on the log of the time, besides a drift that both variants of a run share (3 %):
    normal          symmetric, 2 %
    skewed          gamma with shape 0.5
    lognormal       a long tail
    spikes          one run in ten takes 20 % longer on average
    ..., one side   the variant has it, the baseline is steady: nothing cancels
Samples of a data set: what is taken differs from sample to sample with its length (lognormal), and
the variant needs half of it on average, between a tenth and nine tenths.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alpine_cli.files import write_atomic
from alpine_cli.measure.statistics import aggregate, expanded_level, ratio_interval

RESULTS = Path(__file__).parent / "results"
LEVEL = 0.95
Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], tuple[Array, Array]]


def _normal(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return draw.normal(0, 0.02, shape)


def _steady(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return draw.normal(0, 0.005, shape)


def _skewed(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return draw.gamma(0.5, 0.02, shape)


def _lognormal(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 0.02 * draw.lognormal(0, 1, shape)


def _spikes(draw: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return _steady(draw, shape) + (draw.random(shape) < 0.1) * draw.exponential(0.2, shape)


def runs_of(noise: Any, other: Any) -> Draw:
    """Repeated runs of the same work by two variants that differ in nothing but, maybe, noise."""

    def draw_runs(draw: np.random.Generator, shape: tuple[int, ...]) -> tuple[Array, Array]:
        drift = draw.normal(0, 0.03, shape)
        return np.exp(drift + noise(draw, shape)), np.exp(drift + other(draw, shape))

    return draw_runs


def samples(draw: np.random.Generator, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Different work: each sample has its own length, and its own saving."""
    lengths = draw.lognormal(0, 0.6, shape)
    return lengths * draw.beta(5, 5, shape), lengths


@dataclass(frozen=True)
class Case:
    """One kind of data, at several n, under one aggregate."""

    name: str
    draw: Draw
    sizes: tuple[int, ...]
    how: str = "mean"
    unit: str = "run"


_RUNS = (5, 6, 8, 10, 20, 30, 50, 100)
CASES = (
    *(
        Case(name, runs_of(noise, noise), _RUNS)
        for name, noise in (
            ("normal", _normal),
            ("skewed", _skewed),
            ("lognormal", _lognormal),
            ("spikes", _spikes),
        )
    ),
    Case("lognormal, one side", runs_of(_lognormal, _steady), _RUNS),
    Case("spikes, one side", runs_of(_spikes, _steady), _RUNS),
    Case("samples, mean", samples, (5, 10, 20, 40, 80, 400), unit="sample"),
    Case("samples, median", samples, (10, 40, 80, 400), "median", "sample"),
    Case("samples, p90", samples, (40, 80, 400), "p90", "sample"),
    Case("samples, p95", samples, (80, 400), "p95", "sample"),
    Case("samples, p99", samples, (400,), "p99", "sample"),
    Case("normal, median", runs_of(_normal, _normal), (5, 10, 20), "median"),
)

# Means also under the usual bootstraps: (name, method, level raised for small n, on the log).
RIVALS = (
    ("BCa", "BCa", False, False),
    ("BCa, raised", "BCa", True, False),
    ("percentile, raised", "percentile", True, False),
    ("basic of log, raised", "basic", True, True),
)


def true_ratio(case: Case, draw: np.random.Generator) -> float:
    """From two million values, and exact where both sides are alike."""
    if case.name in ("normal", "skewed", "lognormal", "spikes", "normal, median"):
        return 1.0
    a, b = case.draw(draw, (2_000_000,))
    return float(aggregate(a, case.how) / aggregate(b, case.how))  # type: ignore[arg-type]


def in_use(case: Case, a: Array, b: Array) -> tuple[Array, Array]:
    """Ends of `ratio_interval` for every trial: (trials,), (trials,)."""
    ends = []
    for one, other in zip(a, b, strict=True):
        found = ratio_interval(one, other, case.how, unit=case.unit)  # type: ignore[arg-type]
        assert found is not None
        ends.append((found.low, found.high))
    low, high = np.array(ends).T
    return low, high


def rivals(a: Array, b: Array, seed: int, resamples: int) -> dict[str, tuple[Array, Array]]:
    """Ends of the usual bootstraps, all trials at once; the resampling is shared by all trials."""
    n = a.shape[-1]
    found: dict[str, tuple[Array, Array]] = {}
    for name, method, raised, on_log in RIVALS:

        def statistic(x: Array, y: Array, axis: int = -1, on_log: bool = on_log) -> Array:
            ratio = x.mean(axis) / y.mean(axis)
            return np.log(ratio) if on_log else ratio

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of trials whose values are all alike
            ends = stats.bootstrap(
                (a, b),
                statistic,
                paired=True,
                vectorized=True,
                axis=-1,
                n_resamples=resamples,
                batch=max(1, 20_000_000 // a.size),
                method=method,
                confidence_level=expanded_level(LEVEL, n) if raised else LEVEL,
                rng=np.random.default_rng(seed),
            ).confidence_interval
        low, high = np.asarray(ends.low), np.asarray(ends.high)
        found[name] = (np.exp(low), np.exp(high)) if on_log else (low, high)
    return found


def simulate(case: Case, n: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One row: coverage and mean width of every method."""
    draw = np.random.default_rng([arguments.seed, n, sum(map(ord, case.name))])
    truth = true_ratio(case, draw)
    a, b = case.draw(draw, (arguments.trials, n))
    slow = case.unit == "sample" and (case.how != "mean" or n >= 50)
    few = min(arguments.trials, arguments.slow_trials) if slow else arguments.trials
    ends = {"in use": in_use(case, a[:few], b[:few])}
    if case.how == "mean":
        for start in range(0, arguments.trials, 100):  # bounds the memory of the resamples
            part = slice(start, start + 100)
            taken = rivals(a[part], b[part], arguments.seed + start, arguments.resamples)
            for name, (low, high) in taken.items():
                before = ends.get(name, (np.empty(0), np.empty(0)))
                ends[name] = (np.append(before[0], low), np.append(before[1], high))
    row: dict[str, Any] = {"case": case.name, "n": n, "aggregate": case.how, "true_ratio": truth}
    row["methods"] = {
        name: {
            "coverage": float(((low <= truth) & (truth <= high)).mean()),
            "mean_width": float((high - low).mean()),
            "trials": len(low),
        }
        for name, (low, high) in ends.items()
    }
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Coverage in per cent, mean width in brackets."""
    names = ["in use", *(name for name, *_ in RIVALS)]
    lines = [
        "| values | n | " + " | ".join(names) + " |",
        "|---|---:|" + "---:|" * len(names),
    ]
    for row in rows:
        cells = []
        for name in names:
            found = row["methods"].get(name)
            told = f"{100 * found['coverage']:.1f} ({found['mean_width']:.3f})" if found else ""
            cells.append(told)
        lines.append(f"| {row['case']} | {row['n']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run all cases and write `results/interval-coverage.{json,md}`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--slow-trials", type=int, default=500, help="of bootstraps in use")
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS / "interval-coverage")
    arguments = parser.parse_args()
    rows = []
    started = time.perf_counter()
    for case in CASES:
        for n in case.sizes:
            rows.append(simulate(case, n, arguments))
            used = rows[-1]["methods"]["in use"]["coverage"]
            print(f"{time.perf_counter() - started:5.0f} s  {case.name}, n={n}: {used:.3f}")
    document = {
        "benchmark": "interval-coverage",
        "nominal_level": LEVEL,
        "arguments": {k: v for k, v in vars(arguments).items() if k != "output"},
        "results": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(arguments.output.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    about = (
        "Coverage of nominal 95 % intervals of a ratio, in per cent, and their mean width in\n"
        f"brackets; {arguments.trials} trials ({arguments.slow_trials} for bootstraps in use), so"
        " that a figure of 95\nhas a standard error of about 0.5 (1.0). Made by"
        " `python -m benchmarks.interval_coverage`.\n\n"
    )
    write_atomic(arguments.output.with_suffix(".md"), about + table(rows))


if __name__ == "__main__":
    main()
