"""The metrics agree with the formulas, also where a denominator is zero."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.tasks import METRIC_NAMES, compute_metrics

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=40)


def by_hand(pairs: list[tuple[int, int]]) -> dict[str, float]:
    """The textbook formulas, on counts."""
    tp = sum(p == (1, 1) for p in pairs)
    tn = sum(p == (0, 0) for p in pairs)
    fp = sum(p == (0, 1) for p in pairs)
    fn = sum(p == (1, 0) for p in pairs)
    precision = tp / (tp + fp) if tp + fp else 0.0
    recall = tp / (tp + fn) if tp + fn else 0.0
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "accuracy": (tp + tn) / len(pairs),
        "precision": precision,
        "recall": recall,
        "f1": 2 * tp / (2 * tp + fp + fn) if 2 * tp + fp + fn else 0.0,
        "mcc": (tp * tn - fp * fn) / root if root else 0.0,
    }


@settings(deadline=None)  # the first call imports scikit-learn
@given(PAIRS)
def test_against_the_formulas(pairs: list[tuple[int, int]]):
    found = compute_metrics([p[0] for p in pairs], [p[1] for p in pairs])
    assert tuple(found) == METRIC_NAMES
    assert found == pytest.approx(by_hand(pairs), abs=1e-12)
    assert all(type(value) is float for value in found.values())


@pytest.mark.parametrize(("labels", "predictions"), [([], []), ([1], [1, 0]), ([[1]], [[1]])])
def test_wrong_shapes(labels, predictions):
    with pytest.raises(ValueError, match="equally long"):
        compute_metrics(labels, predictions)
