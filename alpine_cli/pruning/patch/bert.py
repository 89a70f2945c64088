"""Post-norm encoders of BERT's shape: BERT, ELECTRA, RoBERTa (CodeBERT, …), XLM-RoBERTa.

Modifications to a stock layer: its attention block (attention, residual, LayerNorm) returns
shortened hidden states; everything after it, feed-forward and residual included, sees only those.
No class, weight or forward is replaced: one forward hook per layer does it.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from alpine_cli.pruning.patch.family import Detach, Family, absolute_positions
from alpine_cli.pruning.run import LAYER_RUN, LayerRun

__all__ = ["BERT", "ELECTRA", "ROBERTA", "XLM_ROBERTA"]


def _encoder(model: nn.Module) -> nn.Module:
    return cast(nn.Module, model.encoder)


def _layers(model: nn.Module) -> list[nn.Module]:
    return list(cast(nn.ModuleList, _encoder(model).layer))


def _shorten_attention_output(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """Forward hook of an attention block, whose output is (hidden_SND, probabilities or None)."""
    layer_run: LayerRun = kwargs[LAYER_RUN]
    return (layer_run.shorten(output[0]), *output[1:])


def _attach(layer: nn.Module) -> Detach:
    attention = cast(nn.Module, layer.attention)
    return attention.register_forward_hook(_shorten_attention_output, with_kwargs=True).remove


def _roberta_positions(
    model: nn.Module, input_ids: Tensor | None, shape: tuple[int, int], device: torch.device
) -> Tensor:
    """Count the tokens that are not padding, from padding_idx + 1 on, as fairseq did."""
    embeddings = cast(Any, model).embeddings
    padding_idx = embeddings.padding_idx
    if input_ids is not None:
        return embeddings.create_position_ids_from_input_ids(input_ids, padding_idx)
    return absolute_positions(model, None, shape, device) + padding_idx + 1


BERT = Family("BERT", ("bert",), _encoder, _layers, _attach, absolute_positions)
ELECTRA = Family("ELECTRA", ("electra",), _encoder, _layers, _attach, absolute_positions)
ROBERTA = Family(
    "RoBERTa (CodeBERT, GraphCodeBERT, UniXcoder)",
    ("roberta",),
    _encoder,
    _layers,
    _attach,
    _roberta_positions,
)
XLM_ROBERTA = Family(
    "XLM-RoBERTa", ("xlm-roberta",), _encoder, _layers, _attach, _roberta_positions
)
