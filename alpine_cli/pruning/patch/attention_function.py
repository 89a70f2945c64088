"""alpine's attention function, registered with transformers by name.

A stock attention module looks its function up by the implementation that its config names. While
a model is pruned, its attention modules hold a copy of the config that names `ATTENTION`; the
config itself, which other models may share and which is saved, stays as it was. The function
hands q, k and v to the run that travels in the keyword arguments. No mask is involved: layouts
know their lengths, and tokens whether they are causal.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface

from alpine_cli.pruning.bias import BiasRule, Window
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["ATTENTION", "divert"]

ATTENTION = "alpine"


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, Tensor | None]:
    """transformers' attention interface: (S, H, N, d) each → (S, N, H, d), probabilities."""
    layer_run: LayerRun | None = kwargs.get(LAYER_RUN)
    if layer_run is None:
        raise PruningError(
            "the 'alpine' attention ran outside a pruned model's forward; call the model itself"
            " (not one of its layers), or unprune() it first"
        )
    scaling = query.shape[-1] ** -0.5 if scaling is None else scaling
    if key.shape[1] != query.shape[1]:  # grouped queries share keys and values
        key, value = (
            x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value)
        )
    rule: BiasRule | None = kwargs.get("position_bias")
    window = kwargs.get("sliding_window")
    if window is not None:
        rule = Window(window - 1)  # transformers counts the token itself
    return layer_run.attend(query, key, value, scaling, dropout, rule)


def divert(layer: nn.Module) -> list[tuple[nn.Module, Any]]:
    """Send the attention modules in `layer` through alpine's function.

    Returns:
        The modules with their stock configs, to be given back.
    """
    AttentionInterface.register(ATTENTION, _attend)
    diverted = []
    for module in layer.modules():
        stock = getattr(module, "config", None)
        if stock is not None:
            diverted.append((module, stock))
            private = copy.copy(stock)
            private._attn_implementation = ATTENTION
            module.config = private
    return diverted
