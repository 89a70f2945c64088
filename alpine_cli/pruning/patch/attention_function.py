"""alpine's attention function and mask function, registered with transformers by name.

While a model is pruned its config names `ATTENTION` as attention implementation, so that stock
attention modules hand q, k and v to the run that travels in their keyword arguments. The mask
function returns None: layouts know their lengths, nothing is masked by a tensor.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["ATTENTION", "register"]

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
    return layer_run.attend(query, key, value, scaling, dropout)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


def register() -> None:
    """Make the name known to transformers; calling again changes nothing."""
    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, _no_mask)
