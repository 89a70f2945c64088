"""Accuracy of every variant on the split, and whether pruning changed the predictions.

Metrics are functions of the confusion matrix, so their bootstrap needs no resampling of samples:
drawing the counts of a table from its multinomial is the same distribution, and quick. For a pair
of variants the table has a cell per (label, prediction, other prediction).

Before drawing, half a sample is added to each cell (`half_added`). The plain bootstrap never draws
what the sample happens not to hold: variants that differ in no prediction of 16 would be "shown" to
differ in none at all, with an interval of no width. The values themselves have nothing added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

from alpine_cli.measure.statistics import judge
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import LoadedVariant, WorkloadRequest, load_workload
from alpine_cli.results import Caution, Comparison, Figure, Interval, Part, Predictions
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.metrics import METRIC_NAMES, compute_metrics

__all__ = [
    "compare_predictions",
    "half_added",
    "mcnemar_p_value",
    "measure_accuracy",
    "metric_figures",
    "metric_of_tables",
    "predict",
]

_RESAMPLES = 9999
_LEVEL = 0.95
_ADDED = 0.5  # of a sample, to each cell
_ADDED_TOLD = "half a sample added to each cell"


def half_added(cells: NDArray[Any]) -> NDArray[np.float64]:
    """Shares of the cells of a table with half a sample added to each, to draw from.

    After Agresti and Min (2005, Statistics in Medicine 24:729). By simulation of pairs that differ
    in 0.4 to 15 % of 16 to 2,732 samples, 95 % intervals of the difference cover 93 to 100 % of the
    time, those of the plain bootstrap as little as 39 %.

    Args:
        cells: (cells,) counts, not negative; they need not be whole.
    """
    added = cells + _ADDED
    return added / added.sum()


def measure_accuracy(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data."""
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    predictions: dict[str, NDArray[np.int64]] = {}
    for done, (name, variant) in enumerate(workload.variants.items()):
        report_progress(done, len(workload.variants), f"predictions of {name}")
        predictions[name] = predict(variant, workload.request.batch_limit)
    labels = np.array([sample.label for sample in workload.samples], dtype=np.int64)
    seed = workload.request.seed
    figures: list[Figure] = []
    comparisons: list[Comparison] = []
    for name, predicted in predictions.items():
        figures += metric_figures(name, labels, predicted, seed=seed)
    for name, baseline in request["pairs"]:
        figure, compared = compare_predictions(
            name, baseline, labels, predictions[name], predictions[baseline], seed=seed
        )
        comparisons += compared
        if not any((f.name, f.variant) == (figure.name, name) for f in figures):
            figures.append(figure)  # with the first, the nearest, baseline of each variant
    part = Part(
        figures=figures,
        comparisons=comparisons,
        cautions=_cautions(labels),
        predictions=Predictions(
            labels=_digits(labels),
            predicted={name: _digits(predicted) for name, predicted in predictions.items()},
        ),
    )
    return part.model_dump(mode="json")


def _digits(values: NDArray[np.int64]) -> str:
    return "".join(map(str, values.tolist()))


def predict(variant: LoadedVariant, limit: BatchLimit) -> NDArray[np.int64]:
    """(samples,) the label with the larger logit."""
    predicted = np.zeros(len(variant.encoded), dtype=np.int64)
    with torch.inference_mode():
        for batch in variant.batches(limit, seed=0):
            predicted[list(batch.indices)] = variant.forward(batch).argmax(dim=-1).cpu().numpy()
    return predicted


def metric_figures(
    variant: str, labels: NDArray[np.int64], predicted: NDArray[np.int64], *, seed: int = 0
) -> list[Figure]:
    """One figure per metric, with a percentile bootstrap interval over samples."""
    n = len(labels)
    drawn = None
    if n > 1:
        counts = np.bincount(2 * labels + predicted, minlength=4)  # tn, fp, fn, tp
        random = np.random.default_rng(seed)
        drawn = random.multinomial(n, half_added(counts), size=_RESAMPLES)
    figures = []
    for name, value in compute_metrics(labels, predicted).items():
        interval = None
        if drawn is not None:
            interval = _percentiles(metric_of_tables(name, drawn), f"over {n} samples")
        figures.append(
            Figure(
                name=name,
                variant=variant,
                unit="1" if name == "mcc" else "share",
                value=value,
                provenance="measured",
                method="scikit-learn, label 1 positive; all samples of the split",
                better="higher",
                n=n,
                interval=interval,
            )
        )
    return figures


def compare_predictions(
    variant: str,
    baseline: str,
    labels: NDArray[np.int64],
    predicted: NDArray[np.int64],
    other: NDArray[np.int64],
    *,
    seed: int = 0,
) -> tuple[Figure, list[Comparison]]:
    """Share of equal predictions, and per metric the paired difference to the baseline.

    The verdict on a metric rests on the interval of its difference. Accuracy also carries the
    exact McNemar test of the hypothesis that both variants err equally often.
    """
    n = len(labels)
    same = int((predicted == other).sum())
    # Wilson's interval needs no more than the two counts.
    wilson = stats.binomtest(same, n).proportion_ci(_LEVEL, method="wilson")
    agreement = Figure(
        name="agreement",
        variant=variant,
        unit="share",
        value=same / n,
        provenance="measured",
        method=f"share of samples with the same prediction as {baseline}",
        better="higher",
        n=n,
        interval=Interval(low=wilson.low, high=wilson.high, level=_LEVEL, method="Wilson"),
    )
    cells = np.bincount(4 * labels + 2 * predicted + other, minlength=8)
    drawn = np.random.default_rng(seed).multinomial(n, half_added(cells), size=_RESAMPLES)
    cube = drawn.reshape(-1, 2, 2, 2)  # (resamples, label, prediction, other prediction)
    mine, theirs = cube.sum(axis=3).reshape(-1, 4), cube.sum(axis=2).reshape(-1, 4)
    p_value = mcnemar_p_value(labels, predicted, other)
    own_metrics, other_metrics = compute_metrics(labels, predicted), compute_metrics(labels, other)
    comparisons = []
    for name in METRIC_NAMES:
        difference = own_metrics[name] - other_metrics[name]
        interval = None
        if n > 1:
            interval = _percentiles(
                metric_of_tables(name, mine) - metric_of_tables(name, theirs),
                f"paired, over {n} samples",
            )
        base = other_metrics[name]
        comparisons.append(
            Comparison(
                figure=name,
                variant=variant,
                baseline=baseline,
                better="higher",
                ratio=own_metrics[name] / base if base else None,
                difference=difference,
                difference_interval=interval,
                p_value=p_value if name == "accuracy" else None,
                verdict=judge(interval, "higher", null=0.0),
                reason=None if n > 1 else "one sample: no interval",
                method="difference of the metric on the same samples"
                + ("; p: exact McNemar test" if name == "accuracy" else ""),
            )
        )
    return agreement, comparisons


def mcnemar_p_value(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], other: NDArray[np.int64]
) -> float:
    """Two-sided exact McNemar test; 1.0 where no sample is judged differently."""
    mine, theirs = predicted == labels, other == labels
    only_mine = int((mine & ~theirs).sum())
    only_theirs = int((~mine & theirs).sum())
    if only_mine + only_theirs == 0:
        return 1.0
    return float(stats.binomtest(only_mine, only_mine + only_theirs, 0.5).pvalue)


def metric_of_tables(name: str, counts: NDArray[Any]) -> NDArray[np.float64]:
    """A metric of many confusion tables (R, 4): tn, fp, fn, tp. 0 where a denominator is 0."""
    tn, fp, fn, tp = (counts[:, cell].astype(np.float64) for cell in range(4))
    match name:
        case "accuracy":
            return _quotient(tp + tn, tp + tn + fp + fn)
        case "precision":
            return _quotient(tp, tp + fp)
        case "recall":
            return _quotient(tp, tp + fn)
        case "f1":
            return _quotient(2 * tp, 2 * tp + fp + fn)
        case "mcc":
            product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
            return _quotient(tp * tn - fp * fn, np.sqrt(product))
    raise ValueError(f"no bootstrap for metric {name!r}")


def _quotient(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(a, b, out=np.zeros_like(a), where=b != 0)


def _percentiles(values: NDArray[np.float64], over: str) -> Interval:
    tail = (1 - _LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    method = f"percentile bootstrap {over}, {_ADDED_TOLD}"
    return Interval(low=float(low), high=float(high), level=_LEVEL, method=method)


def _cautions(labels: Sequence[int] | NDArray[np.int64]) -> list[Caution]:
    if len(set(np.asarray(labels).tolist())) > 1:
        return []
    return [
        Caution(
            code="one-label",
            text="all samples of the split carry the same label",
            effect="F1, recall, precision and MCC say nothing",
            remedy="Check the split or raise --limit",
        )
    ]
