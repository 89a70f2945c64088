"""Classification metrics, all by scikit-learn, as fractions between 0 and 1 (MCC: -1 to 1)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["METRIC_NAMES", "compute_metrics"]

METRIC_NAMES = ("accuracy", "precision", "recall", "f1", "mcc")


def compute_metrics(
    labels: Sequence[int] | ArrayLike, predictions: Sequence[int] | ArrayLike
) -> dict[str, float]:
    """Accuracy, and precision, recall and F1 of label 1, and Matthews' correlation.

    Where a denominator is zero (no sample was predicted 1, or none is 1) the figure is 0.0, as
    scikit-learn defines it; MCC of a constant prediction is 0.0.

    Args:
        labels: (N,) true labels, 0 or 1.
        predictions: (N,) predicted labels.

    Raises:
        ValueError: lengths differ or nothing was given.
    """
    from sklearn import metrics

    true, predicted = np.asarray(labels), np.asarray(predictions)
    if true.shape != predicted.shape or true.ndim != 1 or not true.size:
        raise ValueError(
            f"labels {true.shape} and predictions {predicted.shape} must be two equally long, "
            "non-empty lists"
        )
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        true, predicted, average="binary", pos_label=1, zero_division=0.0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that only one label occurs; MCC is 0 then
        mcc = metrics.matthews_corrcoef(true, predicted)
    return {
        "accuracy": float(metrics.accuracy_score(true, predicted)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "mcc": float(mcc),
    }
