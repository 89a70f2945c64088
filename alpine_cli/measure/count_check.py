"""Both operator counters against the formulas, and, where they disagree, where.

A disagreement is located twice: in which part of the model (attention's weight matrices, its
products of activations, feed-forward, outside the layers) and in which layers and operators, so
that whoever reads the caution knows what to look at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from alpine_cli.measure.operator_counts import (
    WEIGHT_OPERATORS,
    OperatorCount,
    count_dispatched,
    count_traced,
)
from alpine_cli.results import Caution, Figure, Part

__all__ = ["COUNTERS", "MAX_DISAGREEMENT", "ExpectedMacs", "check_counts", "explain"]

MAX_DISAGREEMENT = 0.01

Count = Callable[[nn.Module, Mapping[str, Tensor]], OperatorCount]

# (figure, counter's name, in which terms it counts, how to ask it)
COUNTERS: tuple[tuple[str, str, str, Count], ...] = (
    ("dispatcher_macs", "torch.utils.flop_counter", "FLOPs / 2", count_dispatched),
    ("fvcore_macs", "fvcore", "matrix products only", count_traced),
)
# A part takes the blame where it holds at least this share of the difference.
_NOTABLE = 0.1


@dataclass(frozen=True)
class ExpectedMacs:
    """What the formulas say that one forward pass of each checked sample holds, summed over them.

    Attributes:
        attention_weights, attention_products, feed_forward: (layers,) MACs.
        outside: head, pooler and embedding projection.
    """

    attention_weights: NDArray[np.float64]
    attention_products: NDArray[np.float64]
    feed_forward: NDArray[np.float64]
    outside: float

    @property
    def total(self) -> float:
        """All of them."""
        layers = self.attention_weights + self.attention_products + self.feed_forward
        return float(layers.sum()) + self.outside


def check_counts(
    variant: str,
    model: nn.Module,
    layers: Sequence[nn.Module],
    inputs: Sequence[Mapping[str, Tensor]],
    expected: ExpectedMacs | None,
) -> Part:
    """Count single samples with both counters; figures of each, and cautions of disagreement.

    Args:
        variant: name of the variant.
        model: the whole model; `layers`: its encoder layers.
        inputs: one batch of a single sample each.
        expected: by formula, of these samples; None where no formula describes the model.
    """
    figures: list[Figure] = []
    cautions: list[Caution] = []
    for name, label, terms, count in COUNTERS:
        method = f"{label}, {terms}; {len(inputs)} samples spread over the lengths"
        method += ", batch size 1; pruning's own products, where it has any, included"
        try:
            counts = [count(model, one) for one in inputs]
        except Exception as error:  # tracing fails in many ways; none may lose the other figures
            reason = f"{label} failed: {type(error).__name__}: {_first_line(error)}"
            figures.append(_absent(variant, name, reason))
            continue
        values = [found.total for found in counts]
        figures.append(
            Figure(
                name=name,
                variant=variant,
                unit="MACs",
                value=float(np.mean(values)),
                provenance="counted",
                method=method,
                per="sample",
                better="lower",
                n=len(values),
                aggregate="mean",
                samples=values,
            )
        )
        if expected is None:
            continue
        ratio = sum(values) / expected.total
        figures.append(
            Figure(
                name=f"{name}_over_analytic",
                variant=variant,
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
                    text=f"{variant}: {label} counts {ratio - 1:+.1%} against the formulas on the"
                    f" same samples; {explain(model, layers, counts, expected)}",
                    effect="one of the two counts is wrong there",
                    remedy="Do not cite either before the cause is known",
                )
            )
    return Part(figures=figures, cautions=cautions)


def explain(
    model: nn.Module,
    layers: Sequence[nn.Module],
    counts: Sequence[OperatorCount],
    expected: ExpectedMacs,
) -> str:
    """A clause that says in which parts, layers and operators the counts differ."""
    names = {id(module): name for name, module in model.named_modules()}
    whole = [names[id(layer)] for layer in layers]
    attention = [names[id(_attention_of(layer))] for layer in layers]
    in_layers = _per_module(counts, whole)
    weights = _per_module(counts, attention, weights=True)
    products = _per_module(counts, attention, weights=False)
    outside = sum(found.total for found in counts) - float(in_layers.sum())
    parts = {
        "attention's weight matrices": (weights, expected.attention_weights, attention),
        "attention's products": (products, expected.attention_products, attention),
        "feed-forward": (in_layers - weights - products, expected.feed_forward, whole),
        "what stands outside the layers": (np.array([outside]), np.array([expected.outside]), []),
    }
    total = sum(abs(float((counted - wanted).sum())) for counted, wanted, _ in parts.values())
    clauses = []
    for part, (counted, wanted, modules) in parts.items():
        difference = counted - wanted
        if abs(float(difference.sum())) < _NOTABLE * total:
            continue
        clause = f"{part} ({_relative(float(counted.sum()), float(wanted.sum()))}"
        clause += f"{_which_layers(difference)}{_which_operator(counts, modules, difference)})"
        clauses.append(clause)
    return f"they differ in {' and '.join(clauses)}" if clauses else "no part stands out"


def _attention_of(layer: nn.Module) -> nn.Module:
    # BERT's relatives and DistilBERT; ModernBERT and GPT-2; Llama
    for name in ("attention", "attn", "self_attn"):
        found = getattr(layer, name, None)
        if isinstance(found, nn.Module):
            return found
    return cast(nn.ModuleList, layer.layer)[0]  # T5


def _per_module(
    counts: Sequence[OperatorCount], modules: Sequence[str], *, weights: bool | None = None
) -> NDArray[np.float64]:
    """(modules,) MACs summed over samples: of all operators, of weight products, or of others."""
    found = np.zeros(len(modules))
    for at, module in enumerate(modules):
        for count in counts:
            if weights is not False:
                found[at] += count.of(module, None if weights is None else WEIGHT_OPERATORS)
            else:
                found[at] += count.of(module) - count.of(module, WEIGHT_OPERATORS)
    return found


def _relative(counted: float, wanted: float) -> str:
    return f"{counted / wanted - 1:+.1%}" if wanted else f"{counted:.3g} instead of none"


def _which_layers(difference: NDArray[np.float64]) -> str:
    """The layers that differ, unless all do."""
    notable = np.flatnonzero(np.abs(difference) >= _NOTABLE * np.abs(difference).max())
    if len(notable) == len(difference):
        return ""
    word = "layer" if len(notable) == 1 else "layers"
    return f", {word} {', '.join(str(layer) for layer in notable)}"


def _which_operator(
    counts: Sequence[OperatorCount], modules: Sequence[str], difference: NDArray[np.float64]
) -> str:
    """An operator whose whole count there is the difference, where there is one."""
    sums: dict[str, float] = {}
    for module in modules:
        for count in counts:
            for operator, macs in count.by_module.get(module, {}).items():
                sums[operator] = sums.get(operator, 0.0) + macs
    total = float(difference.sum())
    for operator, macs in sums.items():
        if total > 0 and abs(macs - total) <= 0.02 * total:
            return f"; as much as {operator} counts there"
    return ""


def _absent(variant: str, name: str, reason: str) -> Figure:
    return Figure.absent(
        name, variant, "MACs", reason, better="lower", per="sample", method="not counted"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else "(no message)"
