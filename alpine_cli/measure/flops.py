"""Multiply-adds and FLOPs per sample, by three methods that must agree.

(a) analytic: the formulas of `cost` at the lengths each layer really ran at, all samples
(`analytic`); (b) dispatcher: torch's operator counter, (c) fvcore: a trace (`operator_counts`),
both on a few samples spread over the lengths, because they are slow; each is set against (a) on
those very samples, and a disagreement of more than 1 % becomes a caution that says where
(`count_check`).

At batch size 1 unless asked otherwise: engines that pad cost more in larger batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.analytic import Layout, VariantCost, analytic_cost, head_macs, inputs_of
from alpine_cli.measure.cost import EncoderShape
from alpine_cli.measure.count_check import ExpectedMacs, check_counts
from alpine_cli.measure.lengths import layer_lengths, mean_length_series
from alpine_cli.measure.statistics import compare_all, mean_interval
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import (
    LoadedVariant,
    WorkloadRequest,
    evenly_over_lengths,
    load_workload,
)
from alpine_cli.pruning.patch.registry import find_base_model
from alpine_cli.results import Figure, Part, Series
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["measure_flops"]

_CHECKED_SAMPLES = 8


def measure_flops(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data."""
    # in float32 whatever the precision: in half of it a CPU fills rows up (`engines`)
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]), widened=True)
    limit = BatchLimit.named(request)
    parts = []
    for done, (name, variant) in enumerate(workload.variants.items()):
        report_progress(done, len(workload.variants), f"lengths of {name}")
        parts.append(_measure_variant(variant, limit, workload.request.batch_limit))
    part = parts[0].merged(*parts[1:])
    comparisons = compare_all(part.figures, request["pairs"], unit="sample")
    return part.model_copy(update={"comparisons": comparisons}).model_dump(mode="json")


def _measure_variant(variant: LoadedVariant, limit: BatchLimit, run_limit: BatchLimit) -> Part:
    base, family = find_base_model(variant.model)
    layers = family.layers(base)
    lengths = layer_lengths(variant, run_limit, len(layers))
    curve = Part(series=[mean_length_series(variant.name, lengths)])
    checked = evenly_over_lengths(variant.encoded, _CHECKED_SAMPLES)
    inputs = [inputs_of(variant, sample) for sample in checked]
    try:
        shape = EncoderShape.from_config(base.config)
    except MeasurementError as error:
        figures = [
            Figure.absent(
                f"total_{unit.lower()}",
                variant.name,
                unit,
                str(error),
                better="lower",
                per="sample",
                method="not counted",
            )
            for unit in ("MACs", "FLOPs")
        ]
        counted = check_counts(variant.name, variant.model, layers, inputs, None)
        return Part(figures=figures).merged(counted, curve)
    head, layout = head_macs(variant, layers, checked[0]), Layout.of(variant)
    batches = [batch.indices for batch in variant.batches(limit, seed=0)]
    cost = analytic_cost(shape, lengths, batches, layout, head=head)
    alone = analytic_cost(shape, lengths, [[i] for i in checked], layout, head=head)
    expected = _expected(alone, checked)
    counted = check_counts(variant.name, variant.model, layers, inputs, expected)
    analytic = Part(
        figures=_analytic_figures(variant.name, cost, limit),
        series=_layer_series(variant.name, cost),
    )
    return analytic.merged(counted, curve)


def _expected(cost: VariantCost, checked: list[int]) -> ExpectedMacs:
    """What counters of matrix products must find: pruning's own products are seen by them, too."""

    def layers(values: NDArray[np.int64]) -> NDArray[np.float64]:
        return values[checked].sum(axis=0).astype(np.float64)

    return ExpectedMacs(
        attention_weights=layers(cost.attention_weights),
        attention_products=layers(cost.attention_products + cost.overhead_products),
        feed_forward=layers(cost.feed_forward),
        outside=float(cost.projection[checked].sum()) + len(checked) * cost.head,
    )


def _analytic_figures(variant: str, cost: VariantCost, limit: BatchLimit) -> list[Figure]:
    where = f"{limit.words}, mean over all samples"
    scope = "weights and attention products of all encoder layers and the head; embeddings are"
    scope += " look-ups and cost none; biases, norms, softmax and activations not counted"

    def figure(name: str, unit: str, values: NDArray[Any], method: str) -> Figure:
        keep = name in ("total_macs", "total_flops")
        samples = [float(value) for value in values] if keep else None
        return Figure(
            name=name,
            variant=variant,
            unit=unit,
            value=float(values.mean()),
            provenance="analytic",
            method=f"{method}; {where}",
            per="sample",
            better="lower",
            n=len(values),
            aggregate="mean",
            interval=mean_interval(samples, unit="sample") if samples else None,
            samples=samples,
        )

    attention, feed_forward = cost.attention.sum(axis=1), cost.feed_forward.sum(axis=1)
    overhead = cost.overhead_flops.sum(axis=1)
    total = cost.total
    return [
        figure("total_macs", "MACs", total, f"formula at each layer's actual length: {scope}"),
        figure(
            "total_flops", "FLOPs", 2 * total + overhead, "2 x total_macs + pruning_overhead_flops"
        ),
        figure(
            "attention_macs",
            "MACs",
            attention,
            "4 n D I + 2 n^2 I per layer, I = D but in T5; 2 n D (I + K) where heads share keys",
        ),
        figure(
            "feed_forward_macs",
            "MACs",
            feed_forward,
            "2 n D F per layer (gated: 3 n D F), n after its pruning",
        ),
        figure(
            "pruning_overhead_flops",
            "FLOPs",
            overhead,
            "scores, statistics and merging in pruning layers",
        ),
        figure(
            "head_macs",
            "MACs",
            np.full(len(total), cost.head) + cost.projection,
            "linear modules outside the encoder layers (head, pooler, embedding projection)",
        ),
    ]


def _layer_series(variant: str, cost: VariantCost) -> list[Series]:
    layers = [float(layer) for layer in range(cost.attention.shape[1])]
    return [
        Series(
            name=name,
            variant=variant,
            unit=unit,
            x_name="layer",
            x=layers,
            y=[float(value) for value in values.mean(axis=0)],
            method="mean over all samples, per sample",
        )
        for name, unit, values in (
            ("attention_macs_per_layer", "MACs", cost.attention),
            ("feed_forward_macs_per_layer", "MACs", cost.feed_forward),
            ("pruning_overhead_flops_per_layer", "FLOPs", cost.overhead_flops),
        )
    ]
