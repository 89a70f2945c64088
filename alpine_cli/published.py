"""Importing published checkpoints: bare weight files whose meaning stands in the papers' code.

    compressor   soarsmu/Compressor, `model.bin`: a state dict of a small RoBERTa classifier
                 (clone detection, vulnerability prediction; the CodeBERT students)
    alpine       SMART-Dal/FSE25-Alpine-Replication-Package, `model.bin`:
                 {model_state_dict, alpha, layers}, with parameters named as in its `polp` library

Such files hold tensors only. What else is needed comes from the published code and is written
down below (input form, label order, number of heads); the tokenizer must be given. Every weight
must find its place and every place its weight, or the import fails and lists the difference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast, RobertaConfig

from alpine_cli.checkpoint import Checkpoint, describe_config, load_tensors
from alpine_cli.encoders import classifier_config
from alpine_cli.errors import CheckpointError, ConfigError
from alpine_cli.tasks.encoding import EncodingSpec
from alpine_cli.tasks.registry import resolve_task
from alpine_cli.tokenizer_record import describe_tokenizer, read_tokenizer

__all__ = ["KINDS", "import_published", "recognise"]

KINDS = ("compressor", "alpine")

# Attention heads are not visible in the weights. Compressor's README names 8 for its 3 MB models
# and 16 for those of 25 and 50 MB; ALPINE's three models have the usual 64 features per head.
_COMPRESSOR_HEADS = {96: 8, 432: 16, 480: 16}
_FEATURES_PER_HEAD = 64

# polp's names (lib/polp/nn/models/roberta/_hf.py, the inverse of its hub mapping) to transformers'.
_POLP_NAMES = (
    (r"^embeddings\.piece_embeddings\.", "embeddings.word_embeddings."),
    (r"^embeddings\.type_embeddings\.", "embeddings.token_type_embeddings."),
    (r"^embeddings\.embed_output_layer_norm\.", "embeddings.LayerNorm."),
    (r"^layers\.(\d+)\.mha\.(query|key|value)\.", r"encoder.layer.\1.attention.self.\2."),
    (r"^layers\.(\d+)\.mha\.output\.", r"encoder.layer.\1.attention.output.dense."),
    (
        r"^layers\.(\d+)\.attn_residual_layer_norm\.",
        r"encoder.layer.\1.attention.output.LayerNorm.",
    ),
    (r"^layers\.(\d+)\.ffn\.intermediate\.", r"encoder.layer.\1.intermediate.dense."),
    (r"^layers\.(\d+)\.ffn\.output\.", r"encoder.layer.\1.output.dense."),
    (r"^layers\.(\d+)\.ffn_residual_layer_norm\.", r"encoder.layer.\1.output.LayerNorm."),
)


def import_published(
    path: Path | str,
    *,
    tokenizer: Path | str,
    kind: str = "auto",
    num_heads: int | None = None,
) -> Checkpoint:
    """Turn a published weight file into a checkpoint.

    Args:
        path: the `model.bin`.
        tokenizer: what `tokenizer_record.read_tokenizer` reads; Compressor's `BPE_1000.json`, or
            the directory of the model that ALPINE fine-tuned.
        kind: one of `KINDS`, or "auto" to recognise it.
        num_heads: attention heads, where neither the file nor the publication says.

    Returns:
        A checkpoint that was rebuilt once, so weights, config and tokenizer fit together.

    Raises:
        CheckpointError: not such a file, or weights are missing, left over or misshapen.
        ConfigError: unknown `kind`, or `num_heads` is needed.
    """
    path = Path(path)
    payload = load_tensors(path)
    found = recognise(payload) if kind == "auto" else kind
    if found not in KINDS:
        if kind == "auto":
            raise CheckpointError(f"{path}: holds tensors of none of the kinds {', '.join(KINDS)}")
        raise ConfigError(f"kind: unknown kind {kind!r}; known: {', '.join(KINDS)}, auto")
    reader = read_tokenizer(Path(tokenizer))
    try:
        build = _from_compressor if found == "compressor" else _from_alpine
        checkpoint = build(payload, reader, num_heads)
        checkpoint.model_name = f"{found}:{path.name}"
        checkpoint.build()
    except CheckpointError as error:
        raise CheckpointError(f"{path} (read as {found}): {error}") from error
    return checkpoint


def recognise(payload: Any) -> str | None:
    """Which kind of published file a loaded payload is; None if none."""
    if not isinstance(payload, Mapping):
        return None
    if isinstance(payload.get("model_state_dict"), Mapping):
        return "alpine"
    keys = [key for key in payload if isinstance(key, str)]
    if len(keys) == len(payload) and any(
        key.startswith(("encoder.roberta.", "encoder.encoder.layer.")) for key in keys
    ):
        return "compressor"
    return None


def _from_compressor(
    payload: Any, tokenizer: PreTrainedTokenizerFast, num_heads: int | None
) -> Checkpoint:
    """Compressor's CodeBERT students (ASE 2022): vocabulary of their own, 400 tokens."""
    weights = _tensors(payload)
    if "encoder.roberta.embeddings.word_embeddings.weight" in weights:
        if "classifier.dense.weight" in weights:
            raise CheckpointError(
                "a GraphCodeBERT student for clone detection: it reads data flow beside the code, "
                "which is not supported; use the CodeBERT student"
            )
        task, head, base = "defect-detection", "standard", "encoder.roberta."
        # Published with label 0 for vulnerable: P(vulnerable) = softmax(logits)[:, 0]. Swapping
        # the two rows of the last layer gives alpine's order and changes nothing else.
        for name in ("encoder.classifier.out_proj.weight", "encoder.classifier.out_proj.bias"):
            if name in weights:
                weights[name] = weights[name].flip(0).contiguous()
    else:
        task, head, base = "clone-detection", "alpine", "encoder."
        weights = {
            re.sub(r"^classifier\.", "head.", name): tensor
            for name, tensor in weights.items()
            # The pooler was carried along; the head reads the last hidden state.
            if not name.startswith("encoder.pooler.")
        }
    hidden_size = _shape(weights, base + "embeddings.word_embeddings.weight")[1]
    heads = num_heads or _COMPRESSOR_HEADS.get(hidden_size)
    if heads is None:
        raise ConfigError(
            f"heads: the file does not say how many attention heads go with hidden size "
            f"{hidden_size}; pass --heads"
        )
    return Checkpoint(
        weights=weights,
        model_config=_roberta_config(weights, base, heads, tokenizer, task),
        tokenizer=describe_tokenizer(tokenizer),
        task=task,
        head=head,
        encoding=EncodingSpec(task=task, max_length=400).to_dict(),
    )


def _from_alpine(
    payload: Any, tokenizer: PreTrainedTokenizerFast, num_heads: int | None
) -> Checkpoint:
    """The original ALPINE checkpoints (FSE 2025): raw text, 512 tokens, no mode prefix."""
    alpha, layers = payload.get("alpha"), payload.get("layers")
    if not isinstance(alpha, (int, float)) or not isinstance(layers, list):
        raise CheckpointError(
            "expected `alpha` (a number) and `layers` (a list) beside the weights"
        )
    weights: dict[str, Tensor] = {}
    for published, tensor in _tensors(payload["model_state_dict"]).items():
        name = published.removeprefix("module.")  # saved from under DataParallel
        if name.startswith("encoder."):
            name = _rename_polp(name.removeprefix("encoder."))
            name = f"encoder.{name}"
        else:
            name = f"head.{name.removeprefix('classifier.')}"
        weights[name] = tensor
    pair = _shape(weights, "head.dense.weight")[1] == 2 * _shape(weights, "head.dense.weight")[0]
    task = "clone-detection" if pair else "defect-detection"
    hidden_size = _shape(weights, "encoder.embeddings.word_embeddings.weight")[1]
    if num_heads is None and hidden_size % _FEATURES_PER_HEAD:
        raise ConfigError(f"heads: pass --heads; hidden size {hidden_size} is no multiple of 64")
    heads = num_heads or hidden_size // _FEATURES_PER_HEAD
    return Checkpoint(
        weights=weights,
        model_config=_roberta_config(weights, "encoder.", heads, tokenizer, task),
        tokenizer=describe_tokenizer(tokenizer),
        task=task,
        head="alpine",
        encoding=EncodingSpec(task=task, max_length=512, collapse_whitespace=False).to_dict(),
        pruning={
            "layers": ",".join(str(int(layer)) for layer in layers) or "none",
            "alpha": float(alpha),
            "merge": "mean",
            "protect": "ends",  # what the published code does from the second pruned layer on
        },
    )


def _rename_polp(name: str) -> str:
    for pattern, replacement in _POLP_NAMES:
        renamed, count = re.subn(pattern, replacement, name)
        if count:
            return renamed
    return name  # left as it is, it is listed as unexpected when the weights are loaded


def _tensors(state: Any) -> dict[str, Tensor]:
    """The floating-point tensors of a state dict. Buffers such as `position_ids` are rebuilt."""
    if not isinstance(state, Mapping) or not all(
        torch.is_tensor(value) for value in state.values()
    ):
        raise CheckpointError("expected a state dict of tensors")
    return {
        name: tensor.float()
        for name, tensor in state.items()
        if tensor.is_floating_point() and not name.endswith("position_ids")
    }


def _shape(weights: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    if name not in weights or weights[name].ndim != 2:
        raise CheckpointError(f"weight {name!r} is missing or no matrix")
    return weights[name].shape[0], weights[name].shape[1]


def _roberta_config(
    weights: Mapping[str, Tensor],
    base: str,
    num_heads: int,
    tokenizer: PreTrainedTokenizerFast,
    task: str,
) -> dict[str, Any]:
    """Read the sizes of a RoBERTa encoder off its weights."""
    vocab_size, hidden_size = _shape(weights, base + "embeddings.word_embeddings.weight")
    layers = {
        int(found[1])
        for name in weights
        if (found := re.match(re.escape(base) + r"encoder\.layer\.(\d+)\.", name))
    }
    if hidden_size % num_heads:
        raise ConfigError(f"heads: {num_heads} heads do not divide hidden size {hidden_size}")
    config = RobertaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=len(layers),
        num_attention_heads=num_heads,
        intermediate_size=_shape(weights, base + "encoder.layer.0.intermediate.dense.weight")[0],
        max_position_embeddings=_shape(weights, base + "embeddings.position_embeddings.weight")[0],
        type_vocab_size=_shape(weights, base + "embeddings.token_type_embeddings.weight")[0],
        layer_norm_eps=1e-5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return describe_config(classifier_config(config, resolve_task(task)))
