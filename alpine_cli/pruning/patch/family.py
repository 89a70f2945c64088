"""What a model family tells alpine: where its encoder is, and where tokens can leave a layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

__all__ = ["Detach", "Family", "absolute_positions", "exchange_class"]

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
    """One family of encoders, or of decoders that read a prompt.

    Attributes:
        name: as users know it.
        model_types: transformers' `config.model_type` of its members.
        encoder: the module that takes (S, N, D) embeddings through all layers and returns a
            ModelOutput with `last_hidden_state`; called with the model's extra keyword arguments.
        layers: its layers in order.
        attach: make one layer call `LayerRun.shorten` (found in its keyword arguments under
            `run.LAYER_RUN`) on its hidden states between attention and feed-forward.
        positions: position ids where the caller gave none; None for models that take none.
        tracks_positions: whether layers look at positions, so that tokens must carry theirs.
        causal: a decoder: each token attends to itself and those before it, and heads read the
            last one. Tokens then stay in order, and hidden states come back in the columns of the
            input; see `apply.prune`.
    """

    name: str
    model_types: tuple[str, ...]
    encoder: Callable[[nn.Module], nn.Module]
    layers: Callable[[nn.Module], list[nn.Module]]
    attach: Callable[[nn.Module], Detach]
    positions: Positions | None
    tracks_positions: bool = False
    causal: bool = False


def absolute_positions(
    model: nn.Module, input_ids: Tensor | None, shape: tuple[int, int], device: torch.device
) -> Tensor:
    """Columns of the input, whatever its mask: BERT, ELECTRA, DistilBERT, GPT-2, Llama."""
    return torch.arange(shape[1], device=device).expand(shape)


@dataclass(frozen=True, eq=False)
class _GiveBackClass:
    """Undoes `exchange_class`; no closure, so that a copied model undoes its own."""

    layer: nn.Module
    stock: type[nn.Module]

    def __call__(self) -> None:
        self.layer.__class__ = self.stock


def exchange_class(layer: nn.Module, pruned: type[nn.Module]) -> Detach:
    """Give a layer the forward of `pruned`, a subclass of its class, where no hook would do."""
    give_back = _GiveBackClass(layer, layer.__class__)
    layer.__class__ = pruned
    return give_back
