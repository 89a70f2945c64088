"""A tokenizer as plain data, and back: how a checkpoint carries its tokenizer with it.

The record holds the text of `tokenizer.json` (vocabulary, merges, normaliser, added tokens) and
the few settings transformers keeps beside it. It is rebuilt as a `PreTrainedTokenizerFast`, which
gives the same ids as the original class without any file, hub or class-specific code.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast, RobertaTokenizerFast

from alpine_cli.errors import CheckpointError

__all__ = ["describe_tokenizer", "read_tokenizer", "rebuild_tokenizer"]

_NAMED_SPECIALS = (
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
)
_ROBERTA_SPECIALS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "</s>",
    "pad_token": "<pad>",
    "cls_token": "<s>",
    "mask_token": "<mask>",
}


def describe_tokenizer(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The tokenizer as a dict of strings, numbers and lists."""
    document = json.loads(tokenizer.backend_tokenizer.to_str())
    # Calls with truncation or padding leave their settings behind; they belong to the call.
    document["truncation"] = document["padding"] = None
    specials = {name: getattr(tokenizer, name) for name in _NAMED_SPECIALS}
    return {
        "json": json.dumps(document, ensure_ascii=False),
        "special_tokens": {name: str(token) for name, token in specials.items() if token},
        "model_max_length": int(tokenizer.model_max_length),
        "padding_side": tokenizer.padding_side,
        "model_input_names": list(tokenizer.model_input_names),
    }


def rebuild_tokenizer(record: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Inverse of `describe_tokenizer`.

    Raises:
        CheckpointError: the record is not one.
    """
    try:
        backend = Tokenizer.from_str(record["json"])
        # `tokenizers` stops the whole process on some malformed input but raises a bare Exception
        # on most of it; nothing narrower exists.
    except Exception as error:
        raise CheckpointError(f"the tokenizer in the checkpoint is damaged: {error}") from error
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=record.get("model_max_length", int(1e30)),
        padding_side=record.get("padding_side", "right"),
        model_input_names=record.get("model_input_names", ["input_ids", "attention_mask"]),
        clean_up_tokenization_spaces=False,
        **record.get("special_tokens", {}),
    )


def read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """A tokenizer from local files, for weights that were published without theirs.

    Args:
        path: a bare `tokenizer.json` (special tokens are RoBERTa's, as far as its vocabulary holds
            them), or a directory with a saved tokenizer or with RoBERTa's `vocab.json` and
            `merges.txt`.

    Raises:
        CheckpointError: missing, unreadable, or without `<s>`, `</s>` and `<pad>`.
    """
    if path.is_dir():
        return _read_tokenizer_directory(path)
    try:
        backend = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception as error:  # see above
        raise CheckpointError(f"{path}: not a tokenizer.json: {error}") from error
    vocabulary = backend.get_vocab()
    specials = {name: token for name, token in _ROBERTA_SPECIALS.items() if token in vocabulary}
    if not {"bos_token", "eos_token", "pad_token"} <= set(specials):
        raise CheckpointError(f"{path}: the vocabulary lacks <s>, </s> or <pad>")
    # So that the tokenizer, exported and used without alpine, frames its input as the model wants.
    backend.post_processor = TemplateProcessing(
        single="<s> $A </s>",
        special_tokens=[(token, vocabulary[token]) for token in ("<s>", "</s>")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **specials
    )


def _read_tokenizer_directory(path: Path) -> PreTrainedTokenizerFast:
    files = ("tokenizer.json", "vocab.json")
    # Without this transformers makes an empty tokenizer of an empty directory.
    if not any((path / name).is_file() for name in files):
        raise CheckpointError(f"{path}: holds no tokenizer ({' or '.join(files)})")
    saved = (path / "tokenizer_config.json").is_file() or (path / "config.json").is_file()
    loader: Any = AutoTokenizer if saved else RobertaTokenizerFast
    try:
        tokenizer = loader.from_pretrained(path, local_files_only=True)
    except Exception as error:  # transformers and tokenizers raise many kinds
        raise CheckpointError(f"{path}: holds no readable tokenizer: {error}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise CheckpointError(f"{path}: holds no fast tokenizer")
    return tokenizer
