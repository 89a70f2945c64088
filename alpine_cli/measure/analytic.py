"""Analytic cost of a variant: the formulas of `cost` at the lengths each layer really ran at.

Which lengths those are depends on the engine (`Layout`): the packed engine computes at true
lengths, others at the longest row of a batch; where no other back end serves it on CUDA, the
packed engine pads inside attention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from alpine_cli.measure.cost import (
    EncoderShape,
    attention_product_macs,
    attention_weight_macs,
    feed_forward_macs,
)
from alpine_cli.measure.lengths import LayerLengths
from alpine_cli.measure.operator_counts import count_linear
from alpine_cli.measure.overhead import pruning_overhead
from alpine_cli.measure.workload import LoadedVariant
from alpine_cli.pruning.attention import (
    Request,
    attend_flash_attn,
    attend_padded,
    attend_per_sequence,
    attend_varlen,
    choose_backend,
)
from alpine_cli.pruning.attention.availability import availability
from alpine_cli.pruning.patch.registry import find_base_model

__all__ = ["Layout", "VariantCost", "analytic_cost", "head_macs", "inputs_of"]


@dataclass(frozen=True)
class Layout:
    """Where a variant computes at the longest row of a batch instead of each row's own length.

    Attributes:
        linear_pads: in matrices of weights.
        attention_pads: in attention's products.
        weights_queries: scores are a product with the mask of valid queries, as a grid needs it.
        score_passes: how often QKᵀ is computed for the scores alone: 0 where probabilities are at
            hand, else 1, or 2 where the attention kernel returns no log-sum-exp.
    """

    linear_pads: bool = False
    attention_pads: bool = False
    weights_queries: bool = False
    score_passes: int = 0

    @classmethod
    def of(cls, variant: LoadedVariant) -> Layout:
        """How this variant computes on its device."""
        engine = variant.pruning.engine if variant.pruning is not None else None
        if engine != "packed":
            return cls(variant.pads, variant.pads, engine == "padded")
        base, family = find_base_model(variant.model)
        biased = family.tracks_positions and not family.causal  # by positions, in some layers
        request = Request(variant.device, base.dtype, bias="pair" if biased else "none")
        scoring = choose_backend(replace(request, score="received"))
        holds_probabilities = scoring is attend_per_sequence or (
            scoring is attend_padded and (biased or not availability(variant.device).kernels)
        )
        returns_lse = scoring in (attend_varlen, attend_flash_attn)
        return cls(
            attention_pads=choose_backend(request) is attend_padded,
            weights_queries=holds_probabilities and scoring is attend_padded,
            score_passes=0 if holds_probabilities else 1 if returns_lse else 2,
        )


@dataclass(frozen=True)
class VariantCost:
    """MACs per sample and layer, (samples, layers); `overhead_flops`, too, but in FLOPs.

    Attributes:
        attention_weights, attention_products, feed_forward: the parts of a layer.
        overhead_products: MACs of the matrix products among the overhead; no part of any total.
        overhead_flops: what pruning itself computes.
        projection: (samples,) embedding projection.
        head: head and pooler, the same for every sample.
    """

    attention_weights: NDArray[np.int64]
    attention_products: NDArray[np.int64]
    feed_forward: NDArray[np.int64]
    overhead_products: NDArray[np.int64]
    overhead_flops: NDArray[np.int64]
    projection: NDArray[np.int64]
    head: float

    @property
    def attention(self) -> NDArray[np.int64]:
        """MACs of the attention blocks, (samples, layers)."""
        return self.attention_weights + self.attention_products

    @property
    def total(self) -> NDArray[np.float64]:
        """MACs of each sample, encoder and head, (samples,)."""
        encoder = (self.attention + self.feed_forward).sum(axis=1) + self.projection
        return encoder + self.head


def analytic_cost(
    shape: EncoderShape,
    lengths: LayerLengths,
    batches: Sequence[Sequence[int]] = (),
    layout: Layout = Layout(),
    *,
    head: float,
) -> VariantCost:
    """The formulas of `cost` at the lengths executed when the samples run in these batches."""
    linear = lengths.executed(batches, pads=layout.linear_pads)  # (samples, functions, layers + 1)
    attended = lengths.executed(batches, pads=layout.attention_pads)[:, :, :-1]
    flops = products = np.zeros_like(attended)
    if lengths.pruning is not None:
        prunes = np.isin(np.arange(attended.shape[2]), lengths.pruned_layers)
        overhead = pruning_overhead(
            shape,
            attended,
            lengths.removed,
            lengths.compared,
            lengths.pruning,
            weights_queries=layout.weights_queries,
            score_passes=layout.score_passes,
        )
        flops, products = overhead.flops * prunes, overhead.products * prunes
    return VariantCost(
        attention_weights=attention_weight_macs(shape, linear[:, :, :-1]).sum(axis=1),
        attention_products=attention_product_macs(shape, attended).sum(axis=1),
        feed_forward=feed_forward_macs(shape, linear[:, :, 1:]).sum(axis=1),
        overhead_products=products.sum(axis=1),
        overhead_flops=flops.sum(axis=1),
        projection=linear[:, :, 0].sum(axis=1) * shape.projection_macs_per_token,
        head=head,
    )


def head_macs(variant: LoadedVariant, layers: Sequence[nn.Module], sample: int) -> float:
    """MACs of linear modules outside the layers; those that depend on length are not among them."""
    inside = {id(module) for layer in layers for module in layer.modules()}
    outside = {
        name: module
        for name, module in variant.model.named_modules()
        if isinstance(module, nn.Linear)
        and id(module) not in inside
        and not name.endswith("embeddings_project")
    }
    return count_linear(variant.model, outside, inputs_of(variant, sample))


def inputs_of(variant: LoadedVariant, sample: int) -> dict[str, Tensor]:
    """The model's input for one sample alone, on its device."""
    return variant.batch_of([sample]).inputs(variant.device)
