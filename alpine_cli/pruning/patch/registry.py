"""The families alpine knows, and finding the one base model inside what the user gave."""

from __future__ import annotations

from typing import cast

from torch import nn
from transformers import PreTrainedModel

from alpine_cli.pruning.errors import PruningError, UnsupportedModelError
from alpine_cli.pruning.patch.bert import BERT, ELECTRA, ROBERTA, XLM_ROBERTA
from alpine_cli.pruning.patch.distilbert import DISTILBERT
from alpine_cli.pruning.patch.family import Family
from alpine_cli.pruning.patch.gpt2 import GPT2
from alpine_cli.pruning.patch.llama import LLAMA
from alpine_cli.pruning.patch.modernbert import MODERNBERT
from alpine_cli.pruning.patch.t5 import T5

__all__ = ["FAMILIES", "find_base_model", "is_causal", "register"]

FAMILIES: tuple[Family, ...] = (
    ROBERTA,
    BERT,
    ELECTRA,
    DISTILBERT,
    XLM_ROBERTA,
    MODERNBERT,
    T5,
    GPT2,
    LLAMA,
)

_BY_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}


def register(family: Family) -> None:
    """Add a family of one's own, for this process; see `pruning.conformance` for how to check it.

    Raises:
        PruningError: one of its model types belongs to another family already.
    """
    for model_type in family.model_types:
        other = _BY_MODEL_TYPE.get(model_type)
        if other is not None and other != family:
            raise PruningError(f"model type {model_type!r} belongs to the family {other.name}")
    _BY_MODEL_TYPE.update(dict.fromkeys(family.model_types, family))


def is_causal(model_type: str) -> bool:
    """Whether models of this type are decoders, whose heads read the last token."""
    family = _BY_MODEL_TYPE.get(model_type)
    return family is not None and family.causal


# Their heads read the hidden state of every input token; a pruned encoder no longer has one each.
_TOKEN_LEVEL_HEADS = (
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
    "ForCausalLM",
    "ForPreTraining",
    "LMHeadModel",
    "DoubleHeadsModel",
)


def find_base_model(model: nn.Module) -> tuple[PreTrainedModel, Family]:
    """The transformers model to prune in `model` (itself, its base model, or a submodule).

    Raises:
        UnsupportedModelError: there is none, several, one of an unknown family, an encoder used as
            a decoder, or one under a head that reads every token.
    """
    outermost = _outermost_pretrained(model)
    if not outermost:
        raise UnsupportedModelError(
            f"{type(model).__name__} holds no transformers model to prune; supported families:"
            f" {_supported()}"
        )
    if len(outermost) > 1:
        names = ", ".join(type(found).__name__ for found in outermost)
        raise UnsupportedModelError(
            f"{type(model).__name__} holds several transformers models ({names}); call prune() on"
            " the one you mean"
        )
    found = outermost[0]
    family = _BY_MODEL_TYPE.get(found.config.model_type)
    if family is None:
        raise UnsupportedModelError(
            f"{type(found).__name__} (model_type {found.config.model_type!r}) is not supported;"
            f" supported families: {_supported()}"
        )
    if type(found).__name__.endswith(_TOKEN_LEVEL_HEADS):
        raise UnsupportedModelError(
            f"{type(found).__name__} reads the hidden state of every input token, but pruning"
            f" removes tokens; prune its {'decoder' if family.causal else 'encoder'}"
            f" ({type(found.base_model).__name__}) instead and use trace() to map what is left to"
            " input positions"
        )
    if (
        getattr(found.config, "classifier_pooling", "cls") == "mean"
        and found.base_model is not found
    ):
        raise UnsupportedModelError(
            f"{type(found).__name__} averages the hidden states of all input tokens"
            ' (classifier_pooling="mean"), but pruning removes tokens; set it to "cls", or prune'
            " the encoder alone"
        )
    if hasattr(found.base_model, "decoder"):
        raise UnsupportedModelError(
            f"{type(found).__name__} has a decoder, which reads every position of its encoder, but"
            " pruning removes positions; prune an encoder without decoder (T5EncoderModel) instead"
        )
    if getattr(found.config, "is_decoder", False) and not family.causal:
        raise UnsupportedModelError(
            f"{type(found).__name__} is configured as a decoder (is_decoder=True); of this family"
            " only encoders, whose tokens attend in both directions, can be pruned"
        )
    if getattr(found.config, "chunk_size_feed_forward", 0):
        raise UnsupportedModelError(
            "chunk_size_feed_forward needs lengths that are multiples of it, which pruning does"
            " not give; set it to 0 in the model's config"
        )
    return cast(PreTrainedModel, found.base_model), family


def _outermost_pretrained(module: nn.Module) -> list[PreTrainedModel]:
    if isinstance(module, PreTrainedModel):
        return [module]
    return [found for child in module.children() for found in _outermost_pretrained(child)]


def _supported() -> str:
    return ", ".join(dict.fromkeys(family.name for family in _BY_MODEL_TYPE.values()))
