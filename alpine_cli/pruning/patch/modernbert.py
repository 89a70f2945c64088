"""ModernBERT: pre-norm, rotary positions, local attention in most layers.

Modifications to the stock `ModernBertEncoderLayer.forward`: hidden states are shortened after the
attention residual, where no hook receives them, so the layer's class is exchanged for the subclass
below (weights untouched) and given back by `unprune`; and the rotary tables are those of the
positions that the tokens still here had in the input, instead of 0 … n − 1. Local layers hide keys
by those positions, too: pruning does not widen what a window sees.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.modernbert.modeling_modernbert import ModernBertEncoderLayer

from alpine_cli.pruning.patch.family import (
    Detach,
    Family,
    absolute_positions,
    exchange_class,
)
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["MODERNBERT", "PrunedModernBertEncoderLayer"]


class PrunedModernBertEncoderLayer(ModernBertEncoderLayer):
    """A ModernBERT layer whose tokens may leave after attention."""

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_embeddings: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """(S, N, D) → (S, N', D); see `ModernBertEncoderLayer.forward`."""
        layer_run: LayerRun = kwargs[LAYER_RUN]
        attended, _ = self.attn(
            self.attn_norm(hidden_states),
            position_embeddings=_rotary(layer_run, hidden_states, self.attention_type),
            attention_mask=attention_mask,
            **kwargs,
        )
        hidden_states = layer_run.shorten(hidden_states + attended)
        return hidden_states + self.mlp(self.mlp_norm(hidden_states))


def _rotary(layer_run: LayerRun, hidden_SND: Tensor, layer_type: str) -> tuple[Tensor, Tensor]:
    """Cosines and sines (S, N, d) at the tokens' own positions, made once per set of tokens."""
    tokens = layer_run.tokens
    if layer_type not in tokens.memo:
        assert tokens.position_T is not None
        with torch.no_grad():
            position_SN = layer_run.run.engine.enter(tokens.position_T, tokens.ragged)
            rotary = cast(Any, layer_run.run.model).rotary_emb
            tokens.memo[layer_type] = rotary(hidden_SND, position_SN, layer_type)
    found: tuple[Tensor, Tensor] = tokens.memo[layer_type]
    return found


def _encoder(model: nn.Module) -> nn.Module:
    return model


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.ModuleList, model.layers))


def _attach(layer: nn.Module) -> Detach:
    return exchange_class(layer, PrunedModernBertEncoderLayer)


MODERNBERT = Family(
    "ModernBERT",
    ("modernbert",),
    _encoder,
    _layers,
    _attach,
    absolute_positions,
    tracks_positions=True,
)
