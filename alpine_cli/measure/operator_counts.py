"""Counting multiply-adds of operators that ran, by two independent counters.

- `count_dispatched`: torch.utils.flop_counter sees every operator below autograd. It counts FLOPs
  (two per multiply-add), and by default it drops the fused attention operator of the CPU, for
  which it has no formula; one is added here.
- `count_traced`: fvcore follows a TorchScript trace. It calls multiply-adds "flops", counts
  LayerNorm in true FLOPs beside them, and has no formula for fused attention; here attention gets
  one and only matrix products are summed. It also takes an einsum to multiply over all its indices
  at once, where PyTorch first sums over those that only one side has (additions): with H heads the
  scores of a padded grid then count H times; here einsum is counted as PyTorch computes it.

Both are returned in MACs of matrix products, the unit in which the analytic count can be checked,
by module and operator, so that a disagreement can be located.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = [
    "WEIGHT_OPERATORS",
    "OperatorCount",
    "count_dispatched",
    "count_linear",
    "count_traced",
]

WEIGHT_OPERATORS = frozenset({"linear", "addmm", "mm"})
"""Products with a weight matrix; attention's own products run under other operators."""

_MATRIX_PRODUCTS = WEIGHT_OPERATORS | {
    "matmul",
    "bmm",
    "baddbmm",
    "einsum",
    "scaled_dot_product_attention",
}


@dataclass(frozen=True)
class OperatorCount:
    """MACs of the matrix products of one forward pass.

    Attributes:
        by_module: by module name as in `named_modules()` ("" is the model), then by operator;
            a module's count includes those of its submodules. Modules that did nothing may lack.
    """

    by_module: Mapping[str, Mapping[str, float]]

    @property
    def total(self) -> float:
        """MACs of the whole model."""
        return self.of("")

    def of(self, module: str, operators: Collection[str] | None = None) -> float:
        """MACs of one module, of all or some operators."""
        counts = self.by_module.get(module, {})
        return sum(n for name, n in counts.items() if operators is None or name in operators)


def count_dispatched(model: nn.Module, inputs: Mapping[str, Tensor]) -> OperatorCount:
    """MACs of one forward pass by torch's dispatcher counter."""
    fused_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={fused_cpu: _attention_flops})
    with torch.no_grad(), counter:
        model(**inputs)
    root = type(model).__name__
    by_module = {}
    for path, counts in counter.get_flop_counts().items():
        # The counter calls the sum "Global" and puts the model's class before each name.
        name = "" if path == "Global" else path.removeprefix(root).removeprefix(".")
        by_module[name] = {
            str(operator).removeprefix("aten."): flops / 2 for operator, flops in counts.items()
        }
    return OperatorCount(by_module)


def _attention_flops(
    query_shape: Any, key_shape: Any, value_shape: Any, *args: Any, out_shape: Any = None, **_: Any
) -> int:
    """FLOPs of fused attention: queries by keys, then probabilities by values."""
    batch, heads, queries, width = query_shape
    keys = key_shape[2]
    return int(2 * batch * heads * queries * keys * (width + value_shape[3]))


def count_traced(model: nn.Module, inputs: Mapping[str, Tensor]) -> OperatorCount:
    """MACs of one forward pass by fvcore.

    Raises:
        Exception: whatever TorchScript tracing raises on a model it cannot follow.
    """
    from fvcore.nn import FlopCountAnalysis

    names = list(inputs)
    with warnings.catch_warnings():
        # Tracing warns of every shape read as a Python number; that is meant here, because the
        # count is for exactly this input.
        warnings.simplefilter("ignore")
        _hush("fvcore.nn.jit_analysis")
        analysis = FlopCountAnalysis(_Positional(model, names), tuple(inputs.values()))
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        analysis.tracer_warnings("none")
        analysis.set_op_handle("aten::scaled_dot_product_attention", _traced_attention)
        analysis.set_op_handle("aten::baddbmm", _traced_baddbmm)
        analysis.set_op_handle("aten::einsum", _traced_einsum)
        with torch.no_grad():
            counted = analysis.by_module_and_operator()
    by_module = {}
    for path, counts in counted.items():
        if path == "model" or path.startswith("model."):
            kept = {name: float(n) for name, n in counts.items() if name in _MATRIX_PRODUCTS}
            by_module[path.removeprefix("model").removeprefix(".")] = kept
    return OperatorCount(by_module)


class _Positional(nn.Module):
    """Gives the tracer positional inputs and a plain tensor output."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *values: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, values, strict=True))).logits
        return logits


def _shape(value: Any) -> list[int]:
    sizes: list[int] = value.type().sizes()
    return sizes


def _traced_attention(inputs: list[Any], outputs: list[Any]) -> float:
    *outer, queries, width = _shape(inputs[0])
    keys, values = _shape(inputs[1])[-2], _shape(inputs[2])[-1]
    return float(math.prod(outer) * queries * keys * (width + values))


def _traced_baddbmm(inputs: list[Any], outputs: list[Any]) -> float:
    batch, rows, inner = _shape(inputs[1])
    return float(batch * rows * inner * _shape(inputs[2])[-1])


def _traced_einsum(inputs: list[Any], outputs: list[Any]) -> float:
    """Of two operands, as PyTorch computes it; of more, as fvcore estimates it."""
    operands = [_shape(value) for value in inputs[1].node().inputs()]
    if len(operands) != 2:
        from fvcore.nn.jit_handles import einsum_flop_jit

        return float(einsum_flop_jit(inputs, outputs))
    terms, _, result = inputs[0].toIValue().replace(" ", "").partition("->")
    left, right = terms.split(",")
    sizes = dict(zip(left + right, [*operands[0], *operands[1]], strict=True))
    multiplied = (set(left) & set(right)) | set(result)
    return float(math.prod(sizes[index] for index in multiplied))


def _hush(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)


def count_linear(
    model: nn.Module, modules: Mapping[str, nn.Linear], inputs: Mapping[str, Tensor]
) -> float:
    """MACs that the linear modules named do in one forward pass of `model`."""
    total = 0

    def add(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal total
        total += output.numel() * args[0].shape[-1]

    hooks = [module.register_forward_hook(add) for module in modules.values()]
    try:
        with torch.no_grad():
            model(**inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return float(total)
