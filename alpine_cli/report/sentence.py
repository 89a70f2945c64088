"""A comparison in words: "1.42× faster (95 % CI 1.38–1.46)", "no difference shown (…)".

    speeds and times    a factor             1.42× faster (95 % CI 1.38–1.46)
    costs               per cent             30.2 % less memory (95 % CI 28.0–32.5 %)
    metrics             points               0.4 points lower (95 % CI −1.2 to −0.1)
    interval covers 1   no claim             no difference shown (95 % CI of the ratio 0.98–1.03)
    modelled            no verdict           −15.9 % (95 % CI −24.0 to −7.1), not judged: …
    too few runs        no interval, and why 1.42× faster, not judged (no interval: 2 run(s), …)

The baseline is not named: whoever prints the sentence says what is set against what. Digits are
added until an interval that excludes "no change" also excludes it as printed.
"""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.results import Comparison

__all__ = ["sentence"]

_SPEEDS = ("throughput", "token_throughput", "training_throughput", "tokenisation_throughput")
_TIMES = ("latency", "finetuning_seconds")
# Of costs: the longest beginning of the figure's name decides on the words for less and more.
_COSTS: dict[str, tuple[str, str]] = {
    "inference_memory": ("less memory", "more memory"),
    "training_memory": ("less memory", "more memory"),
    "energy": ("less energy", "more energy"),
    "training_energy": ("less energy", "more energy"),
    "finetuning_energy": ("less energy", "more energy"),
    "co2": ("less CO2", "more CO2"),
    "training_co2": ("less CO2", "more CO2"),
    "finetuning_co2": ("less CO2", "more CO2"),
    "total_macs": ("fewer multiply-adds", "more multiply-adds"),
    "attention_macs": ("fewer multiply-adds", "more multiply-adds"),
    "feed_forward_macs": ("fewer multiply-adds", "more multiply-adds"),
    "head_macs": ("fewer multiply-adds", "more multiply-adds"),
    "dispatcher_macs": ("fewer multiply-adds", "more multiply-adds"),
    "fvcore_macs": ("fewer multiply-adds", "more multiply-adds"),
    "total_flops": ("fewer operations", "more operations"),
    "pruning_overhead_flops": ("fewer operations", "more operations"),
}
_NOT_SHARES = ("mcc",)  # metrics that are not told in points
_MAX_DIGITS = 6


def sentence(comparison: Comparison) -> str:
    """What a comparison shows, as a clause without a full stop.

    An interval that covers "no change" gives "no difference shown". Without an interval, although
    the figure varies, the clause says why nothing is judged; a counted figure needs none. Without a
    ratio and a difference it is "not compared", with the reason.
    """
    if comparison.difference_interval is not None and comparison.difference is not None:
        interval = comparison.difference_interval
        scale, unit = (1.0, "") if comparison.figure in _NOT_SHARES else (100.0, " points")
        numbers = [scale * x for x in (comparison.difference, interval.low, interval.high)]
        return _difference(numbers, unit, f"{100 * interval.level:g} % CI")
    ratio = comparison.ratio
    if ratio is None or ratio <= 0:
        return f"not compared ({comparison.reason or 'there is no positive ratio'})"
    bounds: list[float] = []
    level = "95 % CI"
    if comparison.interval is not None:
        bounds = [comparison.interval.low, comparison.interval.high]
        level = f"{100 * comparison.interval.level:g} % CI"
    if bounds and comparison.verdict == "not judged" and comparison.reason:
        changes = [100 * (bound - 1) for bound in (ratio, *bounds)]
        value, low, high = (f"{change:+.1f}".replace("-", "−") for change in changes)
        return f"{value} % ({level} {low} to {high}), not judged: {comparison.reason}"
    if comparison.figure.startswith(_SPEEDS):
        told = _factor(ratio, bounds, level)
    elif comparison.figure.startswith(_TIMES):
        if _covers(bounds):
            told = _undecided(bounds, level)
        else:
            told = _factor(1 / ratio, [1 / bound for bound in reversed(bounds)], level)
    else:
        told = _share(comparison.figure, ratio, bounds, level)
    if bounds or comparison.reason is None or comparison.reason.startswith("deterministic"):
        return told
    return f"{told}, not judged ({comparison.reason})"


def _covers(bounds: Sequence[float]) -> bool:
    return bool(bounds) and bounds[0] <= 1 <= bounds[1]


def _undecided(bounds: Sequence[float], level: str) -> str:
    """With the interval of the ratio itself, variant over baseline, as tables print it."""
    digits = _digits(bounds, 1.0, 2)
    return (
        f"no difference shown ({level} of the ratio {bounds[0]:.{digits}f}–{bounds[1]:.{digits}f})"
    )


def _factor(speed: float, bounds: Sequence[float], level: str) -> str:
    """`speed` and its bounds are those of the variant in units of the baseline's."""
    if _covers(bounds):
        return _undecided(bounds, level)
    if speed == 1:
        return "as fast"
    word = "faster"
    if speed < 1:
        word, speed, bounds = "slower", 1 / speed, [1 / bound for bound in reversed(bounds)]
    digits = _digits(bounds or [speed], 1.0, 2)
    claim = f"{speed:.{digits}f}× {word}"
    if not bounds:
        return claim
    return f"{claim} ({level} {bounds[0]:.{digits}f}–{bounds[1]:.{digits}f})"


def _share(figure: str, ratio: float, bounds: Sequence[float], level: str) -> str:
    known = [name for name in _COSTS if figure.startswith(name)]
    less, more = _COSTS[max(known, key=len)] if known else ("lower", "higher")
    change = 100 * (ratio - 1)
    changes = [100 * (bound - 1) for bound in bounds]
    if changes and changes[0] <= 0 <= changes[1]:
        return f"no difference shown ({level} {_signed(changes, _digits(changes, 0.0, 1))} %)"
    if change == 0:
        return "the same"
    word = more if change > 0 else less
    change, changes = abs(change), sorted(abs(bound) for bound in changes)
    digits = _digits(changes or [change], 0.0, 1)
    claim = f"{change:.{digits}f} % {word}"
    if not changes:
        return claim
    return f"{claim} ({level} {changes[0]:.{digits}f}–{changes[1]:.{digits}f} %)"


def _difference(numbers: Sequence[float], unit: str, level: str) -> str:
    value, *bounds = numbers
    digits = _digits(bounds, 0.0, 1 if unit else 3)
    between = _signed(bounds, digits)
    if bounds[0] <= 0 <= bounds[1]:
        return f"no difference shown ({level} {between}{unit})"
    word = "higher" if value > 0 else "lower"
    return f"{abs(value):.{digits}f}{unit} {word} ({level} {between})"


def _signed(bounds: Sequence[float], digits: int) -> str:
    """ "−1.2 to +0.4"; a bound that is zero has no sign."""
    texts = [f"{bound:+.{digits}f}" for bound in bounds]
    zero = f"{0:.{digits}f}"
    texts = [zero if text[1:] == zero else text.replace("-", "−") for text in texts]
    return f"{texts[0]} to {texts[1]}"


def _digits(bounds: Sequence[float], null: float, least: int) -> int:
    """Decimals at which no bound is printed as `null` unless it is `null`."""
    for digits in range(least, _MAX_DIGITS):
        if all(bound == null or round(bound, digits) != null for bound in bounds):
            return digits
    return _MAX_DIGITS
