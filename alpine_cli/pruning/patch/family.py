"""What a model family tells alpine: where its encoder is, and where tokens can leave a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Detach", "Family", "absolute_positions"]

Detach = Callable[[], None]
"""Undoes what `Family.attach` did to one layer. No closure: copies of a model copy it, too."""


class Positions(Protocol):
    """Position ids (B, L) of an input, as the stock model would make them."""

    def __call__(
        self,
        model: nn.Module,
        input_ids: Tensor | None,
        shape: tuple[int, int],
        device: torch.device,
    ) -> Tensor: ...


@dataclass(frozen=True)
class Family:
    """One family of encoders.

    Attributes:
        name: as users know it.
        model_types: transformers' `config.model_type` of its members.
        encoder: the module that takes (S, N, D) embeddings through all layers and returns a
            ModelOutput with `last_hidden_state`; called with the model's extra keyword arguments.
        layers: its layers in order.
        attach: make one layer call `LayerRun.shorten` (found in its keyword arguments under
            `run.LAYER_RUN`) on its hidden states between attention and feed-forward.
        positions: position ids where the caller gave none.
    """

    name: str
    model_types: tuple[str, ...]
    encoder: Callable[[nn.Module], nn.Module]
    layers: Callable[[nn.Module], list[nn.Module]]
    attach: Callable[[nn.Module], Detach]
    positions: Positions


def absolute_positions(
    model: nn.Module, input_ids: Tensor | None, shape: tuple[int, int], device: torch.device
) -> Tensor:
    """Columns of the input, whatever its mask: BERT, ELECTRA, DistilBERT."""
    return torch.arange(shape[1], device=device).expand(shape)
