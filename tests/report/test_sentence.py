"""Comparisons in words: direction, wording, digits, and what is not claimed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.measure.statistics import judge
from alpine_cli.report.sentence import sentence
from alpine_cli.results import Better, Comparison, Interval, Verdict


def compared(
    figure: str,
    ratio: float | None,
    low: float | None = None,
    high: float | None = None,
    better: Better = "higher",
    reason: str | None = None,
    verdict: Verdict | None = None,
) -> Comparison:
    interval = None
    if low is not None and high is not None:
        interval = Interval(low=low, high=high, method="x")
    return Comparison(
        figure=figure,
        variant="pruned",
        baseline="unpruned",
        better=better,
        ratio=ratio,
        interval=interval,
        verdict=verdict or judge(interval, better),
        reason=reason,
        method="x",
    )


@pytest.mark.parametrize(
    ("comparison", "text"),
    [
        (compared("throughput", 1.42, 1.38, 1.46), "1.42× faster (95 % CI 1.38–1.46)"),
        (compared("training_throughput", 0.8, 0.75, 0.85), "1.25× slower (95 % CI 1.18–1.33)"),
        (
            compared("throughput", 1.01, 0.98, 1.03),
            "no difference shown (95 % CI of the ratio 0.98–1.03)",
        ),
        # A time that falls to 0.5 is a speed that doubles; its bounds change places.
        (compared("latency_p99", 0.5, 0.4, 0.625, "lower"), "2.00× faster (95 % CI 1.60–2.50)"),
        # Undecided, the interval is that of the ratio, as tables have it: not of a speed.
        (
            compared("latency", 1.25, 1.0, 1.6, "lower"),
            "no difference shown (95 % CI of the ratio 1.00–1.60)",
        ),
        (
            compared("inference_memory_run", 0.698, 0.675, 0.72, "lower"),
            "30.2 % less memory (95 % CI 28.0–32.5 %)",
        ),
        (
            compared("energy_gross", 1.1, 1.05, 1.15, "lower"),
            "10.0 % more energy (95 % CI 5.0–15.0 %)",
        ),
        (
            compared("co2", 0.99, 0.96, 1.02, "lower"),
            "no difference shown (95 % CI −4.0 to +2.0 %)",
        ),
        (
            compared("total_macs", 0.477, better="lower", reason="deterministic: no interval"),
            "52.3 % fewer multiply-adds",
        ),
        (compared("total_macs", 1.0, better="lower", reason="deterministic: exact"), "the same"),
        (
            compared("throughput", 1.42, reason="no interval: 1 run(s), at least 5 are needed"),
            "1.42× faster, not judged (no interval: 1 run(s), at least 5 are needed)",
        ),
        (
            compared("energy_gpu", None, reason="pruned: no GPU in use"),
            "not compared (pruned: no GPU in use)",
        ),
        (
            compared("energy_gross", 0.84, 0.76, 0.93, "lower", "modelled", "not judged"),
            "−16.0 % (95 % CI −24.0 to −7.0), not judged: modelled",
        ),
        (compared("something_new", 2.0, 1.9, 2.1), "100.0 % higher (95 % CI 90.0–110.0 %)"),
    ],
    ids=lambda value: value.figure if isinstance(value, Comparison) else "",
)
def test_wording(comparison: Comparison, text: str) -> None:
    assert sentence(comparison) == text


@pytest.mark.parametrize(
    ("figure", "difference", "low", "high", "text"),
    [
        ("accuracy", -0.004, -0.012, -0.001, "0.4 points lower (95 % CI −1.2 to −0.1)"),
        ("f1", 0.004, -0.01, 0.006, "no difference shown (95 % CI −1.0 to +0.6 points)"),
        ("accuracy", 0.0, 0.0, 0.0, "no difference shown (95 % CI 0.0 to 0.0 points)"),
        ("mcc", 0.0213, 0.01, 0.0301, "0.021 higher (95 % CI +0.010 to +0.030)"),
    ],
)
def test_metrics_are_told_as_differences(
    figure: str, difference: float, low: float, high: float, text: str
) -> None:
    interval = Interval(low=low, high=high, method="x")
    comparison = compared(figure, 1.0).model_copy(
        update={
            "difference": difference,
            "difference_interval": interval,
            "verdict": judge(interval, "higher", null=0),
        }
    )
    assert sentence(comparison) == text


def test_an_interval_that_excludes_one_excludes_it_as_printed() -> None:
    told = sentence(compared("throughput", 1.004, 1.0004, 1.008))
    assert told == "1.0040× faster (95 % CI 1.0004–1.0080)"
    told = sentence(compared("inference_memory_run", 0.999, 0.9985, 0.9997, "lower"))
    assert told == "0.10 % less memory (95 % CI 0.03–0.15 %)"


@given(
    figure=st.sampled_from(["throughput", "latency_p50", "energy_gross", "total_macs"]),
    middle=st.floats(0.1, 10),
    below=st.floats(0, 0.5),
    above=st.floats(0, 0.5),
)
def test_words_follow_the_verdict(figure: str, middle: float, below: float, above: float) -> None:
    """Whatever the figure: a claim exactly where the interval excludes 1, in its direction."""
    better: Better = "higher" if figure == "throughput" else "lower"
    comparison = compared(figure, middle, middle * (1 - below), middle * (1 + above), better)
    told = sentence(comparison)
    assert ("no difference shown" in told) == (comparison.verdict == "no difference shown")
    if comparison.verdict != "no difference shown":
        good = re.search("faster|less|fewer", told) is not None
        assert good == (comparison.verdict == "better")
        assert re.search(r"\(95 % CI [^–]+–[^–]+\)$", told)
