"""Llama and Qwen2 reading a prompt: pre-norm, causal, rotary positions. Experimental.

Modifications to the stock decoder layers' forward, which is the same in both: hidden states are
shortened after the attention residual, where no hook receives them, so the layer's class is
exchanged for a subclass below (weights untouched) and given back by `unprune`; there is no cache;
and the rotary tables are those of the positions that the tokens still here had in the input. A
merged token is rotated to the mean position of those it stands for, as in ModernBERT, although it
stands in order where the last of them stood: whoever sees it comes later still.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer
from transformers.models.qwen2.modeling_qwen2 import Qwen2DecoderLayer

from alpine_cli.pruning.patch.family import (
    Detach,
    Family,
    absolute_positions,
    exchange_class,
)
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["LLAMA", "PrunedLlamaDecoderLayer", "PrunedQwen2DecoderLayer"]


def _rotary(layer_run: LayerRun, hidden_SND: Tensor) -> tuple[Tensor, Tensor]:
    """Cosines and sines (S, N, d) at the tokens' own positions, made once per set of tokens."""
    tokens = layer_run.tokens
    if "rotary" not in tokens.memo:
        assert tokens.position_T is not None
        with torch.no_grad():
            position_SN = layer_run.run.engine.enter(tokens.position_T, tokens.ragged)
            rotary = cast(Any, layer_run.run.model).rotary_emb
            tokens.memo["rotary"] = rotary(hidden_SND, position_SN)
    found: tuple[Tensor, Tensor] = tokens.memo["rotary"]
    return found


class _ShortensAfterAttention(nn.Module):
    """The forward of both, whose tokens may leave after attention."""

    input_layernorm: Any
    self_attn: Any
    post_attention_layernorm: Any
    mlp: Any

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Any = None,
        past_key_values: Any = None,
        use_cache: bool | None = False,
        position_embeddings: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        """(S, N, D) → (S, N', D); see `LlamaDecoderLayer.forward`."""
        layer_run: LayerRun = kwargs[LAYER_RUN]
        attended, _ = self.self_attn(
            self.input_layernorm(hidden_states),
            position_embeddings=_rotary(layer_run, hidden_states),
            attention_mask=attention_mask,
            **kwargs,
        )
        hidden_states = layer_run.shorten(hidden_states + attended)
        mixed: Tensor = self.mlp(self.post_attention_layernorm(hidden_states))
        return hidden_states + mixed


class PrunedLlamaDecoderLayer(_ShortensAfterAttention, LlamaDecoderLayer):
    """A Llama layer whose tokens may leave after attention."""


class PrunedQwen2DecoderLayer(_ShortensAfterAttention, Qwen2DecoderLayer):
    """A Qwen2 layer whose tokens may leave after attention."""


def _model(model: nn.Module) -> nn.Module:
    return model


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.ModuleList, model.layers))


def _attach(layer: nn.Module) -> Detach:
    is_qwen2 = isinstance(layer, Qwen2DecoderLayer)
    return exchange_class(layer, PrunedQwen2DecoderLayer if is_qwen2 else PrunedLlamaDecoderLayer)


LLAMA = Family(
    "Llama, Qwen2 (experimental)",
    ("llama", "qwen2"),
    _model,
    _layers,
    _attach,
    absolute_positions,
    tracks_positions=True,
    causal=True,
)
