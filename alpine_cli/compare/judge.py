"""How far the candidate B is from the baseline A, whether that is shown, and whether a gate closes.

    both hold predictions of the same samples    difference; paired bootstrap, exact McNemar
    shares without predictions                   difference; the intervals of both, joined
    analytic or counted                          ratio; exact, no interval
    latency of the same samples                  ratio; bootstrap paired by sample
    other raw samples                            ratio; bootstrap of two independent sample sets
    anything else                                ratio; no interval, no verdict

A and B were measured in two sessions. Within a result file variants take turns, so that drift of
the machine cancels; between A and B nothing cancels, and no interval below holds what differs
between the sessions as a whole. A verdict on time, memory or energy is weaker for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alpine_cli.compare.expression import Condition
from alpine_cli.compare.match import Matches, Pair
from alpine_cli.errors import ConfigError, DataError
from alpine_cli.measure.accuracy import compare_predictions
from alpine_cli.measure.statistics import MIN_RUNS_FOR_INTERVAL, judge, ratio_interval
from alpine_cli.results import Comparison, Figure, Interval, Verdict
from alpine_cli.tasks.metrics import METRIC_NAMES

__all__ = ["SESSIONS", "Change", "Outcome", "changes_of", "evaluate"]

SESSIONS = "two sessions, not interleaved"

_POINT = 0.01
_WIDEST = {"mcc": 2.0}  # of a change: MCC runs from -1 to 1, shares from 0 to 1
_DEFAULT_VARIANT = "pruned"


@dataclass(frozen=True)
class Change:
    """A pair and what it shows; in `found`, "variant" is the candidate, "baseline" the baseline."""

    pair: Pair
    found: Comparison


@dataclass(frozen=True)
class Outcome:
    """What became of a condition on one change.

    Attributes:
        condition, change: which condition, on which figure.
        value, low, high: the change in the condition's unit, with its interval where it has one.
        holds: whether the gate closes; None where that cannot be told (see `why`).
        why: one sentence.
    """

    condition: Condition
    change: Change
    value: float
    low: float | None
    high: float | None
    holds: bool | None
    why: str


def changes_of(pairs: Sequence[Pair], *, seed: int = 0) -> list[Change]:
    """B against A for every pair, in the same order."""
    tested: dict[tuple[str, str, str], dict[str, Comparison]] = {}
    changes = []
    for pair in pairs:
        key = (pair.baseline.result.id, pair.candidate.result.id, pair.variant)
        if pair.figure in METRIC_NAMES and key not in tested:
            tested[key] = _from_predictions(pair, seed)
        found = tested.get(key, {}).get(pair.figure)
        changes.append(Change(pair, found or _from_figures(pair, seed)))
    return changes


def _from_predictions(pair: Pair, seed: int) -> dict[str, Comparison]:
    """All metrics of two sets of predictions on the same samples; empty without predictions."""
    sides = []
    for entry in (pair.baseline, pair.candidate):
        saved = entry.result.predictions
        if saved is None or pair.variant not in saved.predicted:
            return {}
        sides.append((saved.labels, saved.predicted[pair.variant]))
    (labels, there), (other_labels, here) = sides
    if labels != other_labels:
        return {}
    _, comparisons = compare_predictions(
        "candidate", "baseline", _digits(labels), _digits(here), _digits(there), seed=seed
    )
    return {found.figure: found for found in comparisons}


def _digits(text: str) -> NDArray[np.int64]:
    return np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - ord("0")


def _from_figures(pair: Pair, seed: int) -> Comparison:
    baseline, candidate = pair.baseline.figure, pair.candidate.figure
    for side, figure in (("A", baseline), ("B", candidate)):
        if figure.value is None:
            return _comparison(pair, reason=f"{side}: {figure.reason}")
    if baseline.provenance != candidate.provenance:
        differ = f"{baseline.provenance} in A, {candidate.provenance} in B"
        return _comparison(pair, reason=differ)
    if pair.family == "metric":
        joined = _joined(baseline, candidate)
        return _comparison(
            pair,
            difference_interval=joined,
            reason=None if joined else "no predictions and no intervals saved",
            method="difference of two shares",
        )
    if pair.family == "exact":
        return _comparison(pair, reason="exact: no interval", method="computed or counted")
    interval, reason = _ratio_interval(pair, seed)
    return _comparison(pair, interval=interval, reason=reason, method=SESSIONS)


def _comparison(
    pair: Pair,
    *,
    interval: Interval | None = None,
    difference_interval: Interval | None = None,
    reason: str | None = None,
    method: str = "not compared",
) -> Comparison:
    a, b = pair.baseline.figure.value, pair.candidate.figure.value
    known = a is not None and b is not None and method != "not compared"
    ratio = b / a if known and a and b is not None else None
    better = pair.candidate.figure.better
    verdict: Verdict = judge(interval, better)
    if difference_interval is not None:
        verdict = judge(difference_interval, better, null=0.0)
    elif pair.family == "exact" and known and better is not None:
        same_way = (b < a) == (better == "lower")  # type: ignore[operator]
        verdict = "no difference shown" if a == b else "better" if same_way else "worse"
    return Comparison(
        figure=pair.figure,
        variant="candidate",
        baseline="baseline",
        better=better,
        ratio=ratio,
        interval=interval,
        difference=b - a if known else None,  # type: ignore[operator]
        difference_interval=difference_interval,
        verdict=verdict,
        reason=reason,
        method=method,
    )


def _ratio_interval(pair: Pair, seed: int) -> tuple[Interval | None, str | None]:
    """The interval of B / A, or the reason why there is none."""
    baseline, candidate = pair.baseline.figure, pair.candidate.figure
    a, b = baseline.samples or [], candidate.samples or []
    if baseline.aggregate != candidate.aggregate:
        return None, f"no interval: {baseline.aggregate} in A, {candidate.aggregate} in B"
    if min(len(a), len(b)) < MIN_RUNS_FOR_INTERVAL:
        counts = f"{len(a)} and {len(b)} raw samples"
        return None, f"no interval: {counts}, at least {MIN_RUNS_FOR_INTERVAL} of each are needed"
    # Samples of latency are data samples, the same ones in both files, where all else is values of
    # runs: their spread over lengths is no noise and must not widen the interval.
    by_sample = pair.figure.startswith("latency") and len(a) == len(b)
    interval = ratio_interval(
        b,
        a,
        candidate.aggregate,
        seed=seed,
        unit="sample" if by_sample else "run",
        paired=by_sample,
    )
    reason = None if interval else f"no interval for a {candidate.aggregate} of these samples"
    return interval, reason


def _joined(baseline: Figure, candidate: Figure) -> Interval | None:
    """The interval of B - A from those of A and B, as if the two were independent.

    Newcombe's hybrid (1998, Statistics in Medicine 17:873, method 10; Zou and Donner 2008). Both
    were taken on the same samples, so this is wider than the paired interval would be.
    """
    a, b = baseline.interval, candidate.interval
    if a is None or b is None or baseline.value is None or candidate.value is None:
        return None
    difference = candidate.value - baseline.value
    down = math.hypot(candidate.value - b.low, a.high - baseline.value)
    up = math.hypot(b.high - candidate.value, baseline.value - a.low)
    method = "intervals of both joined as if independent (Newcombe): no predictions saved"
    return Interval(low=difference - down, high=difference + up, level=a.level, method=method)


def evaluate(
    condition: Condition, changes: Sequence[Change], matches: Matches, *, strict: bool = False
) -> list[Outcome]:
    """Try a condition on every change it speaks of.

    Without a variant it speaks of `pruned` where that was compared, else of every variant. It
    holds where it is *shown*: the whole 95 % interval lies beyond the bound (exact figures: the
    value does). With `strict` the value decides, whatever the interval.

    Raises:
        ConfigError: the unit does not fit the figure.
        DataError: nothing that was compared is meant; says why.
    """
    meant = [change for change in changes if change.pair.figure == condition.figure]
    variants = {change.pair.variant for change in meant}
    wanted = condition.variant or (_DEFAULT_VARIANT if _DEFAULT_VARIANT in variants else None)
    meant = [change for change in meant if wanted in (None, change.pair.variant)]
    if not meant:
        raise DataError(
            f"--fail-if {condition.text!r}: {_why_nothing(condition, changes, matches)}"
        )
    return [_try(condition, change, strict) for change in meant]


def _try(condition: Condition, change: Change, strict: bool) -> Outcome:
    value, interval = _in_unit(condition, change)
    low, high = interval or (value, value)
    shown = condition.met_by(low) and condition.met_by(high)
    holds: bool | None = shown
    why = "the whole interval is beyond the bound" if shown else "not shown by the interval"
    if change.pair.family == "exact":
        why = "exact"
    elif strict:
        holds, why = condition.met_by(value), "by its value (--strict)"
    elif interval is None:
        holds = None if shown else False
        why = change.found.reason or "no interval"
    if interval is None:
        return Outcome(condition, change, value, None, None, holds, why)
    return Outcome(condition, change, value, low, high, holds, why)


def _in_unit(condition: Condition, change: Change) -> tuple[float, tuple[float, float] | None]:
    """The change and the ends of its interval, in the condition's unit.

    A bound in a figure's own unit takes A's value as it stands: B - A = (B / A - 1) x A.

    Raises:
        ConfigError: points of something that is no share, per cent of one, or a bound that no
            change of it can pass.
        DataError: one of the sides has no value, or A is 0.
    """
    found, figure = change.found, change.pair.baseline.figure
    name = f"--fail-if {condition.text!r}: {figure.name}"
    is_metric = change.pair.family == "metric"
    if is_metric and condition.unit == "%":
        example = f"{figure.name}{condition.operator}{condition.bound:g}pts"
        raise ConfigError(f"{name} is a share itself: say pts, e.g. {example!r}")
    if is_metric:
        _check_reach(condition, name)
    if condition.unit == "pts" and not is_metric:
        raise ConfigError(f"{name} is in {figure.unit}, which has no points: say % or a number")
    if found.difference is None:
        raise DataError(f"{name}.{figure.variant} was not compared: {found.reason}")
    if is_metric:
        scale = 1 / _POINT if condition.unit == "pts" else 1.0
        between = found.difference_interval
        ends = None if between is None else (between.low * scale, between.high * scale)
        return found.difference * scale, ends
    scale, value = figure.value or 0.0, found.difference
    if condition.unit == "%":
        if found.ratio is None and found.difference != 0:
            raise DataError(f"{name}.{figure.variant} is 0 in A: no relative change")
        scale, value = 100.0, 0.0 if found.ratio is None else 100.0 * (found.ratio - 1)
    if found.interval is None:
        return value, None
    return value, ((found.interval.low - 1) * scale, (found.interval.high - 1) * scale)


def _check_reach(condition: Condition, name: str) -> None:
    """Refuse a bound at which the gate says nothing: it would never close, or always.

    Raises:
        ConfigError: it is such a one; names what was probably meant.
    """
    widest = _WIDEST.get(condition.figure, 1.0)
    scale = 1.0 if condition.unit == "" else _POINT
    if abs(condition.bound) * scale < widest:
        return
    what = "runs from -1 to 1" if condition.figure == "mcc" else "is a share from 0 to 1"
    told = f"{name} {what} and cannot change by more than {widest / scale:g}{condition.unit}"
    if condition.unit == "" and abs(condition.bound) * _POINT < widest:
        head = condition.figure + (f".{condition.variant}" if condition.variant else "")
        head += condition.operator
        in_points, plain = f"{head}{condition.bound:g}pts", f"{head}{condition.bound * _POINT:g}"
        told += f"; for points write {in_points!r} or {plain!r}"
    raise ConfigError(told)


def _why_nothing(condition: Condition, changes: Sequence[Change], matches: Matches) -> str:
    for (figure, variant), why in matches.refused.items():
        if figure == condition.figure and condition.variant in (None, variant):
            remedy = ". Pass --allow-other-machine to compare all the same"
            return f"was not compared: {why}{remedy if 'machine' in why else ''}"
    variants = sorted({c.pair.variant for c in changes if c.pair.figure == condition.figure})
    if variants:
        return f"no variant {condition.variant!r}; compared were {', '.join(variants)}"
    known = sorted({change.pair.figure for change in changes})
    return f"{condition.figure!r} is not in both A and B; compared were {', '.join(known)}"
