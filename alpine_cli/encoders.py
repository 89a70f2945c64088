"""Encoders: which transformers class, how big a position table, and new ones with random weights.

No names and no files here; `hub` finds and loads, `models` puts heads on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from transformers import (
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaModel,
    T5EncoderModel,
)

from alpine_cli.errors import ModelError
from alpine_cli.tasks.registry import TaskSpec

__all__ = [
    "DEFAULT_SEED",
    "check_vocabulary",
    "classifier_config",
    "encoder_class",
    "max_tokens",
    "new_encoder",
    "new_roberta",
    "seeded",
]

DEFAULT_SEED = 123456
"""The ALPINE paper's seed."""


def classifier_config(config: PretrainedConfig, task: TaskSpec) -> PretrainedConfig:
    """Write the task's labels into a config (in place), for models with the standard head."""
    config.num_labels = task.num_labels
    config.id2label = dict(enumerate(task.label_names))
    config.label2id = {name: label for label, name in enumerate(task.label_names)}
    config.problem_type = "single_label_classification"
    return config


def encoder_class(
    config: PretrainedConfig, *, for_classification: bool
) -> tuple[type[PreTrainedModel], dict[str, Any]]:
    """The transformers class for a config, and the keyword arguments to build it with.

    Base models are built without their pooler: no head reads it, and parameters that get no
    gradient would make data-parallel training stop.

    Raises:
        ModelError: transformers has no such class for this kind of model.
    """
    if config.model_type == "t5":  # transformers' own choices would add a decoder
        if for_classification:
            raise ModelError(
                "T5's sequence-classification head reads a decoder, which costs more than the"
                " encoder that pruning shortens; take the head 'alpine'"
            )
        return T5EncoderModel, {}
    mapping = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING if for_classification else MODEL_MAPPING
    if type(config) not in mapping:
        what = "a sequence-classification head" if for_classification else "an encoder"
        raise ModelError(f"transformers offers {what} for no model of type {config.model_type!r}")
    found = mapping[type(config)]
    chosen = cast(type[PreTrainedModel], found[0] if isinstance(found, (tuple, list)) else found)
    has_pooler = "add_pooling_layer" in inspect.signature(chosen).parameters
    return chosen, {"add_pooling_layer": False} if has_pooler else {}


def new_encoder(
    config: PretrainedConfig,
    *,
    for_classification: bool = False,
    attn_implementation: str | None = None,
) -> PreTrainedModel:
    """An encoder with random weights, drawn from torch's global random state."""
    chosen, arguments = encoder_class(config, for_classification=for_classification)
    if attn_implementation is not None:
        arguments["attn_implementation"] = attn_implementation
    return chosen._from_config(config, **arguments)


def new_roberta(
    *,
    vocab_size: int,
    hidden_size: int = 128,
    num_layers: int = 4,
    num_heads: int = 4,
    intermediate_size: int | None = None,
    max_length: int = 512,
    pad_id: int = 1,
    bos_id: int = 0,
    eos_id: int = 2,
    dropout: float = 0.1,
    seed: int = DEFAULT_SEED,
    attn_implementation: str | None = None,
) -> RobertaModel:
    """A RoBERTa encoder of any size with random weights: the start of training from scratch.

    `encoder.config.save_pretrained(DIR)` and `tokenizer.save_pretrained(DIR)` make a directory
    that `build_model` trains from scratch. The global random state is left as it was.

    Args:
        vocab_size: number of token ids.
        hidden_size: D, a multiple of `num_heads`.
        num_layers: encoder layers.
        num_heads: attention heads.
        intermediate_size: feed-forward size; None means 4 D.
        max_length: tokens it can read; RoBERTa's position table is `pad_id + 1` longer.
        pad_id: padding token.
        bos_id: first token.
        eos_id: last token.
        dropout: of hidden layers and of attention.
        seed: of the weights.
        attn_implementation: "sdpa", "eager", …; None lets transformers choose.
    """
    config = RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size if intermediate_size is None else intermediate_size,
        max_position_embeddings=max_length + pad_id + 1,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=pad_id,
        bos_token_id=bos_id,
        eos_token_id=eos_id,
    )
    with seeded(seed):
        encoder = new_encoder(config, attn_implementation=attn_implementation)
    return cast(RobertaModel, encoder)


def max_tokens(encoder: PreTrainedModel) -> int:
    """How many tokens the encoder's position table can tell apart.

    RoBERTa counts positions from `padding_idx + 1`, which its embedding declares; others from 0.
    Models without a position table answer their config's `max_position_embeddings` (rotary); those
    that know distances only (T5) read any number.
    """
    for name, module in encoder.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else module.padding_idx + 1
            return module.num_embeddings - offset
    return int(getattr(encoder.config, "max_position_embeddings", sys.maxsize))


def check_vocabulary(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer that knows no words, or makes ids the model has no embedding for.

    Raises:
        ModelError: the tokenizer is empty, as transformers makes it where its files are missing;
            it knows more ids than the model; or it has no padding token.
    """
    if len(tokenizer.get_vocab()) <= len(set(tokenizer.all_special_tokens)):
        raise ModelError("the tokenizer has no vocabulary; its tokenizer.json is missing or empty")
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= encoder.config.vocab_size:
        raise ModelError(
            f"tokenizer and model do not fit: the tokenizer has ids up to {largest}, the model "
            f"embeds {encoder.config.vocab_size}"
        )
    if tokenizer.pad_token_id is None:
        raise ModelError(
            "the tokenizer has no padding token; decoders' often have none: set one in the"
            " tokenizer's directory (tokenizer.pad_token = …, then save_pretrained)"
        )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw from `seed` inside the block and leave the global CPU random state as it was."""
    state = torch.get_rng_state()
    torch.random.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(state)
