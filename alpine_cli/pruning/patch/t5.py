"""T5's encoder (CodeT5): pre-norm, relative position bias.

Modifications to a stock block: its self-attention part (norm, attention, residual) returns
shortened hidden states, by a forward hook; the feed-forward part and all later blocks see only
those. And instead of one (1, H, L, L) bias made from the columns of the input, `RelativeBias` is
passed down, which makes the bias of each sequence from the positions that its tokens had in the
input. No class, weight or forward is replaced.

Only the encoder: a decoder reads every position of its encoder, and pruning leaves fewer of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from alpine_cli.pruning.patch.family import Detach, Family
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["T5", "RelativeBias"]


@dataclass(frozen=True)
class RelativeBias:
    """T5's bucketed bias of the distance between key and query, at any positions.

    Attributes:
        attention: the `T5Attention` that holds the table; that of the first block.
    """

    attention: Any

    def __call__(self, position_BL: Tensor) -> Tensor:
        """(..., L) → (..., H, L, L). Merged tokens stand at means: distances are rounded."""
        distance = position_BL[..., None, :] - position_BL[..., :, None]
        bucket = self.attention._relative_position_bucket(
            distance.round().to(torch.int64),
            bidirectional=True,
            num_buckets=self.attention.relative_attention_num_buckets,
            max_distance=self.attention.relative_attention_max_distance,
        )
        # (..., q, k, H) → (..., H, q, k)
        return self.attention.relative_attention_bias(bucket).movedim(-1, -3)


def _encoder(model: nn.Module) -> nn.Module:
    """The stack of blocks: of a `T5EncoderModel`, or the `T5Stack` itself."""
    return cast(nn.Module, getattr(model, "encoder", model))


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.ModuleList, _encoder(model).block))


def _give_bias(
    block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Pre-hook of a block, called as block(hidden_states, mask, position_bias, …)."""
    layer_run: LayerRun = kwargs[LAYER_RUN]
    first = cast(Any, _layers(layer_run.run.model)[0])
    bias = RelativeBias(first.layer[0].SelfAttention)
    if len(args) > 2:
        return (*args[:2], bias, *args[3:]), kwargs
    return args, {**kwargs, "position_bias": bias}


def _shorten_attention_output(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Any, ...]
) -> tuple[Any, ...]:
    """Forward hook of `T5LayerSelfAttention`: (hidden_SND, bias, probabilities)."""
    layer_run: LayerRun = kwargs[LAYER_RUN]
    return (layer_run.shorten(output[0]), *output[1:])


@dataclass(frozen=True, eq=False)
class _Both:
    """Undoes two things."""

    first: Detach
    second: Detach

    def __call__(self) -> None:
        self.first()
        self.second()


def _attach(layer: nn.Module) -> Detach:
    attention = cast(nn.ModuleList, layer.layer)[0]
    return _Both(
        layer.register_forward_pre_hook(_give_bias, with_kwargs=True).remove,
        attention.register_forward_hook(_shorten_attention_output, with_kwargs=True).remove,
    )


T5 = Family("T5 encoder (CodeT5)", ("t5",), _encoder, _layers, _attach, None, tracks_positions=True)
