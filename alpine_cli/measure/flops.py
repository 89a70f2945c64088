"""Multiply-adds and FLOPs per sample, by three methods that must agree.

(a) analytic: the formulas of `cost` at the lengths each layer really ran at, all samples;
(b) dispatcher: torch's operator counter, (c) fvcore: a trace (`operator_counts`), both on a few
samples spread over the lengths, because they are slow; each is set against (a) on those very
samples, and a disagreement of more than 1 % becomes a caution.

At batch size 1 unless asked otherwise: engines that pad cost more in larger batches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.cost import (
    EncoderShape,
    attention_macs,
    feed_forward_macs,
    pruning_overhead_flops,
)
from alpine_cli.measure.lengths import LayerLengths, layer_lengths, mean_length_series
from alpine_cli.measure.operator_counts import count_dispatched, count_linear, count_traced
from alpine_cli.measure.statistics import compare_all, mean_interval
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import LoadedVariant, WorkloadRequest, load_workload
from alpine_cli.pruning.patch.registry import find_base_model
from alpine_cli.results import Caution, Figure, Part, Provenance, Series

__all__ = ["MAX_DISAGREEMENT", "VariantCost", "analytic_cost", "head_macs", "measure_flops"]

MAX_DISAGREEMENT = 0.01
_CHECKED_SAMPLES = 8


@dataclass(frozen=True)
class VariantCost:
    """MACs per sample and layer (samples, layers); overhead in FLOPs; the rest per sample."""

    attention: NDArray[np.int64]
    feed_forward: NDArray[np.int64]
    overhead_flops: NDArray[np.int64]
    projection: NDArray[np.int64]
    head: float

    @property
    def total(self) -> NDArray[np.float64]:
        """MACs of each sample, encoder and head."""
        encoder = self.attention.sum(axis=1) + self.feed_forward.sum(axis=1) + self.projection
        return encoder + self.head


def analytic_cost(
    shape: EncoderShape,
    lengths: LayerLengths,
    batches: Sequence[Sequence[int]],
    *,
    pads: bool,
    head: float,
) -> VariantCost:
    """The formulas of `cost` at the lengths executed in these batches."""
    executed = lengths.executed(batches, pads=pads)  # (samples, functions, layers + 1)
    before, after = executed[:, :, :-1], executed[:, :, 1:]
    overhead = np.zeros(before.shape, dtype=np.int64)
    for layer in lengths.pruned_layers:
        overhead[:, :, layer] = pruning_overhead_flops(
            shape, before[:, :, layer], after[:, :, layer], merge=lengths.merges
        )
    return VariantCost(
        attention=attention_macs(shape, before).sum(axis=1),
        feed_forward=feed_forward_macs(shape, after).sum(axis=1),
        overhead_flops=overhead.sum(axis=1),
        projection=executed[:, :, 0].sum(axis=1) * shape.projection_macs_per_token,
        head=head,
    )


def measure_flops(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data."""
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    parts = []
    for done, (name, variant) in enumerate(workload.variants.items()):
        report_progress(done, len(workload.variants), f"lengths of {name}")
        parts.append(_measure_variant(variant, request["batch_size"], workload.request.batch_size))
    part = parts[0].merged(*parts[1:])
    comparisons = compare_all(part.figures, request["pairs"], unit="sample")
    return part.model_copy(update={"comparisons": comparisons}).model_dump(mode="json")


def _measure_variant(variant: LoadedVariant, batch_size: int, run_batch_size: int) -> Part:
    base, family = find_base_model(variant.model)
    num_layers = len(family.layers(base))
    lengths = layer_lengths(variant, run_batch_size, num_layers)
    series = [mean_length_series(variant.name, lengths)]
    batches = [batch.indices for batch in variant.batches(batch_size, seed=0)]
    checked = _spread_over_lengths(variant)
    try:
        shape = EncoderShape.from_config(base.config)
    except MeasurementError as error:
        figures = [
            _absent(variant.name, name, str(error)) for name in ("total_macs", "total_flops")
        ]
        counted, cautions = _counted(variant, checked, None)
        return Part(figures=figures + counted, series=series, cautions=cautions)
    head = head_macs(variant, family.layers(base), checked[0])
    cost = analytic_cost(shape, lengths, batches, pads=variant.pads, head=head)
    singles = analytic_cost(shape, lengths, [[i] for i in checked], pads=variant.pads, head=head)
    counted, cautions = _counted(variant, checked, singles.total[checked])
    return Part(
        figures=_analytic_figures(variant.name, cost, batch_size) + counted,
        series=series + _layer_series(variant.name, cost),
        cautions=cautions,
    )


def _analytic_figures(variant: str, cost: VariantCost, batch_size: int) -> list[Figure]:
    where = f"batch size {batch_size}, mean over all samples"
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
        figure("attention_macs", "MACs", attention, "4 n D^2 + 2 n^2 D per layer"),
        figure("feed_forward_macs", "MACs", feed_forward, "2 n D F per layer, n after its pruning"),
        figure(
            "pruning_overhead_flops",
            "FLOPs",
            overhead,
            "scores, statistics and merging in pruning layers: additions, no multiply-adds",
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
            unit="MACs",
            x_name="layer",
            x=layers,
            y=[float(value) for value in values.mean(axis=0)],
            method="mean over all samples, per sample",
        )
        for name, values in (
            ("attention_macs_per_layer", cost.attention),
            ("feed_forward_macs_per_layer", cost.feed_forward),
        )
    ]


def _spread_over_lengths(variant: LoadedVariant) -> list[int]:
    """A few samples evenly spaced over the lengths of the split."""
    order = sorted(range(len(variant.encoded)), key=lambda i: (variant.encoded.length(i), i))
    count = min(_CHECKED_SAMPLES, len(order))
    return [order[(2 * k + 1) * len(order) // (2 * count)] for k in range(count)]


def _inputs(variant: LoadedVariant, sample: int) -> dict[str, Tensor]:
    batch = variant.batch_of([sample])
    return {
        "input_ids": batch.input_ids.to(variant.device),
        "attention_mask": batch.attention_mask.to(variant.device),
    }


def head_macs(variant: LoadedVariant, layers: list[nn.Module], sample: int) -> float:
    """MACs of linear modules outside the layers; those that depend on length are not among them."""
    inside = {id(module) for layer in layers for module in layer.modules()}
    outside = {
        name: module
        for name, module in variant.model.named_modules()
        if isinstance(module, nn.Linear)
        and id(module) not in inside
        and not name.endswith("embeddings_project")
    }
    return count_linear(variant.model, outside, _inputs(variant, sample))


def _counted(
    variant: LoadedVariant, checked: list[int], analytic: NDArray[np.float64] | None
) -> tuple[list[Figure], list[Caution]]:
    """Figures of both operator counters on the checked samples, and cautions of disagreement."""
    figures, cautions = [], []
    for name, count, label in (
        ("dispatcher_macs", count_dispatched, "torch.utils.flop_counter, FLOPs / 2"),
        ("fvcore_macs", count_traced, "fvcore, matrix products only"),
    ):
        method = f"{label}; {len(checked)} samples spread over the lengths, batch size 1"
        try:
            values = [count(variant.model, _inputs(variant, sample)) for sample in checked]
        except Exception as error:  # tracing fails in many ways; none may lose the other figures
            reason = f"{label.split(',')[0]} failed: {type(error).__name__}: {_first_line(error)}"
            figures.append(_absent(variant.name, name, reason))
            continue
        figures.append(_mean(variant.name, name, "MACs", values, method, "counted"))
        if analytic is None:
            continue
        ratio = sum(values) / float(analytic.sum())
        figures.append(
            Figure(
                name=f"{name}_over_analytic",
                variant=variant.name,
                unit="1",
                value=ratio,
                provenance="counted",
                method=f"{method}, over the analytic count of the same samples",
                n=len(values),
            )
        )
        if abs(ratio - 1) > MAX_DISAGREEMENT:
            cautions.append(
                Caution(
                    code="counts-disagree",
                    text=f"{variant.name}: {label.split(',')[0]} counts {ratio - 1:+.1%} against"
                    " the formulas on the same samples",
                    effect="one of the two counts is wrong",
                    remedy="Do not cite either before the cause is known",
                )
            )
    return figures, cautions


def _mean(
    variant: str, name: str, unit: str, values: list[float], method: str, provenance: Provenance
) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=float(np.mean(values)),
        provenance=provenance,
        method=method,
        per="sample",
        better="lower",
        n=len(values),
        aggregate="mean",
        samples=values,
    )


def _absent(variant: str, name: str, reason: str) -> Figure:
    unit = "FLOPs" if name.endswith("flops") else "MACs"
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=None,
        reason=reason,
        provenance="absent",
        method="not counted",
        per="sample",
        better="lower",
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "(no message)"
