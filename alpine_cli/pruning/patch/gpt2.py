"""GPT-2 (CodeGPT) reading a prompt: pre-norm, causal, learned positions. Experimental.

Modifications to the stock `GPT2Block.forward`: hidden states are shortened after the attention
residual, where no hook receives them, so the block's class is exchanged for the subclass below
(weights untouched) and given back by `unprune`; there is no cross-attention and no cache. What
leaves the last block is filled up to the rows that came in, because `GPT2Model` views its result in
the shape of its input.

Positions are those of the columns, as in the stock model: whoever pads on the left and wants the
same positions as without padding gives `position_ids`, as transformers' `generate` does.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from transformers.models.gpt2.modeling_gpt2 import GPT2Block

from alpine_cli.pruning.patch.family import (
    Detach,
    Family,
    absolute_positions,
    exchange_class,
)
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["GPT2", "PrunedGPT2Block"]


class PrunedGPT2Block(GPT2Block):
    """A GPT-2 block whose tokens may leave after attention."""

    def forward(
        self,
        hidden_states: Any,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        use_cache: bool | None = False,
        **kwargs: Any,
    ) -> Tensor:
        """(S, N, D) → (S, N', D); see `GPT2Block.forward`."""
        layer_run: LayerRun = kwargs[LAYER_RUN]
        attended, _ = self.attn(self.ln_1(hidden_states), attention_mask=attention_mask, **kwargs)
        hidden_states = layer_run.shorten(hidden_states + attended)
        hidden_states = hidden_states + self.mlp(self.ln_2(hidden_states))
        return layer_run.refill(hidden_states)


def _model(model: nn.Module) -> nn.Module:
    return model


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.ModuleList, model.h))


def _attach(layer: nn.Module) -> Detach:
    return exchange_class(layer, PrunedGPT2Block)


GPT2 = Family(
    "GPT-2 (CodeGPT; experimental)",
    ("gpt2",),
    _model,
    _layers,
    _attach,
    absolute_positions,
    causal=True,
)
