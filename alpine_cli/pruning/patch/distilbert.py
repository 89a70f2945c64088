"""DistilBERT: BERT's shape, but the residual and its LayerNorm stand in the block itself.

Modifications to the stock `TransformerBlock.forward`: hidden states are shortened between
`sa_layer_norm` and `ffn`, where no hook receives the run's keyword argument. So the block's class
is exchanged for the subclass below, and given back by `unprune`; weights are untouched.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import nn
from transformers.models.distilbert.modeling_distilbert import TransformerBlock

from alpine_cli.pruning.patch.family import (
    Detach,
    Family,
    absolute_positions,
    exchange_class,
)
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["DISTILBERT", "PrunedTransformerBlock"]


class PrunedTransformerBlock(TransformerBlock):
    """A DistilBERT block whose tokens may leave after attention."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(S, N, D) → (S, N', D); see `TransformerBlock.forward`."""
        layer_run: LayerRun = kwargs[LAYER_RUN]
        attended, _ = self.attention(hidden_states, attention_mask=attention_mask, **kwargs)
        hidden_states = self.sa_layer_norm(attended + hidden_states)
        hidden_states = layer_run.shorten(hidden_states)
        return self.output_layer_norm(self.ffn(hidden_states) + hidden_states)


def _encoder(model: nn.Module) -> nn.Module:
    return cast(nn.Module, model.transformer)


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.ModuleList, _encoder(model).layer))


def _attach(layer: nn.Module) -> Detach:
    return exchange_class(layer, PrunedTransformerBlock)


DISTILBERT = Family("DistilBERT", ("distilbert",), _encoder, _layers, _attach, absolute_positions)
