"""Counting multiply-adds of operators that ran, by two independent counters.

- `count_dispatched`: torch.utils.flop_counter sees every operator below autograd. It counts FLOPs
  (two per multiply-add), and by default it drops the fused attention operator of the CPU, for
  which it has no formula; one is added here.
- `count_traced`: fvcore follows a TorchScript trace. It calls multiply-adds "flops", counts
  LayerNorm in true FLOPs beside them, and has no formula for fused attention; here attention gets
  one and only matrix products are summed.

Both are returned in MACs of matrix products, the unit in which the analytic count can be checked.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["count_dispatched", "count_linear", "count_traced"]

_MATRIX_PRODUCTS = (
    "linear",
    "matmul",
    "bmm",
    "addmm",
    "mm",
    "baddbmm",
    "einsum",
    "scaled_dot_product_attention",
)


def count_dispatched(model: nn.Module, inputs: Mapping[str, Tensor]) -> float:
    """MACs of one forward pass by torch's dispatcher counter."""
    fused_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    counter = FlopCounterMode(display=False, custom_mapping={fused_cpu: _attention_flops})
    with torch.no_grad(), counter:
        model(**inputs)
    return counter.get_total_flops() / 2


def _attention_flops(
    query_shape: Any, key_shape: Any, value_shape: Any, *args: Any, out_shape: Any = None, **_: Any
) -> int:
    """FLOPs of fused attention: queries by keys, then probabilities by values."""
    batch, heads, queries, width = query_shape
    keys = key_shape[2]
    return int(2 * batch * heads * queries * keys * (width + value_shape[3]))


def count_traced(model: nn.Module, inputs: Mapping[str, Tensor]) -> float:
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
        with torch.no_grad():
            by_operator = analysis.by_operator()
    return float(sum(by_operator.get(name, 0) for name in _MATRIX_PRODUCTS))


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
