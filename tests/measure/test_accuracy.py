"""Metrics with intervals and paired tests, against scikit-learn and hand-computed values."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats

from alpine_cli.measure.accuracy import (
    compare_predictions,
    mcnemar_p_value,
    metric_figures,
    metric_of_tables,
)
from alpine_cli.tasks.metrics import METRIC_NAMES, compute_metrics


def draw(n: int, right: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    stream = np.random.default_rng(seed)
    labels = stream.integers(0, 2, n)
    return labels, np.where(stream.random(n) < right, labels, 1 - labels)


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("seed", range(5))
def test_the_bootstraps_metrics_are_scikit_learns(name: str, seed: int) -> None:
    labels, predicted = draw(40, 0.7, seed)
    table = np.bincount(2 * labels + predicted, minlength=4)[None]
    expected = compute_metrics(labels, predicted)[name]
    assert metric_of_tables(name, table)[0] == pytest.approx(expected)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_constant_predictions_give_zero_not_nan(name: str) -> None:
    table = np.array([[3, 0, 2, 0]])  # nothing predicted 1
    assert np.isfinite(metric_of_tables(name, table)).all()


def test_the_accuracy_interval_is_close_to_the_exact_one() -> None:
    labels, predicted = draw(500, 0.9, 0)
    (figure,) = [f for f in metric_figures("pruned", labels, predicted) if f.name == "accuracy"]
    right = int((labels == predicted).sum())
    exact = stats.binomtest(right, 500).proportion_ci(0.95, method="exact")
    assert figure.interval is not None
    assert figure.interval.low == pytest.approx(exact.low, abs=0.01)
    assert figure.interval.high == pytest.approx(exact.high, abs=0.01)


def test_mcnemar_by_hand() -> None:
    """Pruned alone is right twice, unpruned alone nine times: 2 * P(X <= 2 | 11, 1/2) = 0.0654."""
    labels = np.zeros(50, dtype=np.int64)
    predicted, other = labels.copy(), labels.copy()
    other[:2] = 1
    predicted[2:11] = 1
    assert mcnemar_p_value(labels, predicted, other) == pytest.approx(0.0654, abs=1e-4)


def test_equal_predictions_show_no_difference() -> None:
    labels, predicted = draw(100, 0.8, 1)
    agreement, comparisons = compare_predictions("pruned", "unpruned", labels, predicted, predicted)
    assert agreement.value == 1
    assert agreement.interval is not None
    assert agreement.interval.low < 1
    by_name = {comparison.figure: comparison for comparison in comparisons}
    assert set(by_name) == set(METRIC_NAMES)
    assert by_name["accuracy"].p_value == 1
    assert all(c.difference == 0 for c in comparisons)
    assert all(c.verdict == "no difference shown" for c in comparisons)


@pytest.mark.parametrize("n", [2, 16, 400])
def test_no_change_seen_is_not_shown_to_be_none(n: int) -> None:
    """The plain bootstrap gave [0, 0], however few the samples; the exact bound is some 3.7 / n."""
    labels, predicted = draw(n, 0.8, 1)
    _, comparisons = compare_predictions("pruned", "unpruned", labels, predicted, predicted)
    (accuracy,) = [c for c in comparisons if c.figure == "accuracy"]
    interval = accuracy.difference_interval
    assert interval is not None
    exact = stats.binomtest(0, n).proportion_ci(0.95, method="exact").high
    assert 0.2 * exact < interval.high <= 1.2 * exact
    assert interval.low == pytest.approx(-interval.high, abs=2 / n)
    assert accuracy.difference == 0
    assert "half a sample added" in interval.method


def test_all_right_is_not_shown_to_stay_so() -> None:
    labels = np.arange(20) % 2
    by_name = {figure.name: figure for figure in metric_figures("pruned", labels, labels)}
    for name in METRIC_NAMES:
        interval = by_name[name].interval
        assert by_name[name].value == 1
        assert interval is not None
        assert interval.low < 1 == interval.high


@examples(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=2, max_size=40))
def test_the_difference_lies_in_its_interval(cells: list[int]) -> None:
    """What is added must not push the interval off the value, however extreme that is."""
    labels, predicted, other = (np.array([cell >> bit & 1 for cell in cells]) for bit in (2, 1, 0))
    _, comparisons = compare_predictions("pruned", "unpruned", labels, predicted, other)
    for found in comparisons:
        assert found.difference_interval is not None
        assert found.difference is not None
        low, high = found.difference_interval.low, found.difference_interval.high
        assert low - 1e-9 <= found.difference <= high + 1e-9


def test_a_real_loss_is_found_by_interval_and_test() -> None:
    labels, good = draw(1000, 0.95, 2)
    _, comparisons = compare_predictions("pruned", "unpruned", labels, draw(1000, 0.7, 2)[1], good)
    (accuracy,) = [c for c in comparisons if c.figure == "accuracy"]
    assert accuracy.verdict == "worse"
    assert accuracy.p_value is not None
    assert accuracy.p_value < 1e-6
    assert accuracy.difference is not None
    assert accuracy.difference < -0.15


def test_pairing_narrows_the_interval() -> None:
    """Two variants that differ in few samples are told apart better than two independent ones."""
    labels, predicted = draw(400, 0.8, 3)
    other = predicted.copy()
    other[:4] = 1 - other[:4]
    _, comparisons = compare_predictions("pruned", "unpruned", labels, predicted, other)
    (accuracy,) = [c for c in comparisons if c.figure == "accuracy"]
    assert accuracy.difference_interval is not None
    width = accuracy.difference_interval.high - accuracy.difference_interval.low
    assert width < 0.03  # unpaired: 2 * 1.96 * sqrt(2 * 0.16 / 400) = 0.11


def slow_metrics(labels: list[int], predicted: list[int]) -> dict[str, float]:
    """F1 of label 1 and Matthews' correlation, counted one by one, from their definitions."""
    pairs = list(zip(labels, predicted, strict=True))
    tp, fp = pairs.count((1, 1)), pairs.count((0, 1))
    fn, tn = pairs.count((1, 0)), pairs.count((0, 0))
    precision, recall = tp / max(tp + fp, 1), tp / max(tp + fn, 1)
    f1 = 2 * precision * recall / (precision + recall) if tp else 0.0
    below = ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)) ** 0.5
    return {"f1": f1, "mcc": (tp * tn - fp * fn) / below if below else 0.0}


def test_the_paired_bootstrap_is_that_of_resampled_samples() -> None:
    """Drawing tables from a multinomial against drawing samples with replacement, one by one.

    Eight more samples, one of each kind, take part with half the weight of the others.
    """
    labels, predicted = draw(120, 0.8, 4)
    other = np.where(np.random.default_rng(5).random(120) < 0.15, 1 - predicted, predicted)
    stream = random.Random(6)
    population = list(zip(labels.tolist(), predicted.tolist(), other.tolist(), strict=True))
    population += itertools.product((0, 1), repeat=3)
    drawn: dict[str, list[float]] = {"f1": [], "mcc": []}
    for _ in range(3000):
        chosen = stream.choices(population, [1.0] * 120 + [0.5] * 8, k=120)
        sides = [
            slow_metrics([one[0] for one in chosen], [one[side] for one in chosen])
            for side in (1, 2)
        ]
        for name, values in drawn.items():
            values.append(sides[0][name] - sides[1][name])
    _, comparisons = compare_predictions("pruned", "unpruned", labels, predicted, other)
    whole = [slow_metrics(labels.tolist(), side.tolist()) for side in (predicted, other)]
    for name, values in drawn.items():
        (found,) = [c for c in comparisons if c.figure == name]
        assert found.difference == pytest.approx(whole[0][name] - whole[1][name])
        low, high = np.quantile(values, [0.025, 0.975])
        assert found.difference_interval is not None
        # Both ends carry the noise of their resamples: some 3 % of the width each.
        assert found.difference_interval.low == pytest.approx(low, abs=0.1 * (high - low))
        assert found.difference_interval.high == pytest.approx(high, abs=0.1 * (high - low))


def test_one_sample_has_values_but_no_interval() -> None:
    labels = np.array([1])
    assert all(figure.interval is None for figure in metric_figures("pruned", labels, labels))
    _, comparisons = compare_predictions("pruned", "unpruned", labels, labels, labels)
    assert all(c.verdict == "not judged" for c in comparisons)
