"""The encoders of the benchmarks: published sizes, built from their configs, random weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from transformers import ModernBertConfig, PreTrainedModel, RobertaConfig

from alpine_cli.encoders import new_encoder, seeded

__all__ = ["ENCODERS", "build_encoder"]

_ROBERTA_TABLE = 512


def _roberta(longest: int, vocab_size: int = 50265, **size: Any) -> RobertaConfig:
    return RobertaConfig(
        # RoBERTa counts positions from padding_idx + 1; longer inputs get a longer table.
        max_position_embeddings=max(longest, _ROBERTA_TABLE) + 2,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        use_cache=False,
        vocab_size=vocab_size,
        **size,
    )


def _large(longest: int) -> RobertaConfig:
    return _roberta(
        longest,
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
    )


def _modernbert(longest: int) -> ModernBertConfig:
    """ModernBERT-base (22 layers, d = 768, gated feed-forward of 1152) with our tokenizer's ids."""
    return ModernBertConfig(
        max_position_embeddings=max(longest, 8192),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        cls_token_id=0,
        sep_token_id=2,
    )


def _small(longest: int) -> RobertaConfig:
    return _roberta(
        longest,
        vocab_size=400,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )


ENCODERS: dict[str, Callable[[int], Any]] = {
    "roberta-base": _roberta,
    "roberta-large": _large,
    "modernbert-base": _modernbert,
    "small": _small,
}
"""Name → config for inputs of so many tokens."""


def build_encoder(name: str, longest: int, seed: int = 0) -> PreTrainedModel:
    """An encoder of that size with random weights, in evaluation mode, float32, on the CPU."""
    config = ENCODERS[name](longest)
    with seeded(seed):
        return new_encoder(config, attn_implementation="sdpa").eval()
