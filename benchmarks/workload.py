"""What the benchmarks run on: real functions as token ids, and models of the published size."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import torch
from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

from alpine_cli.tasks.reading import read_rows

__all__ = ["load_rows", "pack_batch", "pad_batch", "roberta_base", "unpadding"]


def load_rows(count: int, max_length: int, seed: int = 0) -> tuple[list[list[int]], str]:
    """Token ids of `count` randomly drawn BigCloneBench functions, and where they came from.

    Reads `data/bcb/data.jsonl.gz` and `data/tokenizer/roberta-base` in the folder that
    ALPINE_SHARED names. Functions are whitespace-collapsed and cut at `max_length`, as the
    published scripts do.
    """
    shared = os.environ.get("ALPINE_SHARED")
    if not shared:
        raise SystemExit("set ALPINE_SHARED to the folder that holds data/bcb and data/tokenizer")
    folder = Path(shared) / "data"
    vocabulary = folder / "tokenizer" / "roberta-base"
    tokenizer = RobertaTokenizerFast(
        vocab=str(vocabulary / "vocab.json"), merges=str(vocabulary / "merges.txt")
    )
    functions = [row["func"] for _, row in read_rows(folder / "bcb" / "data.jsonl.gz")]
    drawn = random.Random(seed).sample(functions, count)
    encoded = tokenizer(
        [" ".join(function.split()) for function in drawn], truncation=True, max_length=max_length
    )
    return encoded["input_ids"], f"BigCloneBench, {count} functions drawn with seed {seed}"


def roberta_base(seed: int = 0) -> RobertaModel:
    """CodeBERT's architecture (12 layers, d = 768, 12 heads) with random weights, eval mode."""
    torch.manual_seed(seed)
    config = RobertaConfig(
        vocab_size=50265,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    return RobertaModel(config, add_pooling_layer=False).eval()


def pad_batch(rows: list[list[int]], pad_id: int = 1) -> dict[str, torch.Tensor]:
    """input_ids and attention_mask, padded on the right to the longest row."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for b, row in enumerate(rows):
        ids[b, : len(row)] = torch.tensor(row)
        mask[b, : len(row)] = 1
    return {"input_ids": ids, "attention_mask": mask}


def pack_batch(rows: list[list[int]], pad_id: int = 1) -> dict[str, Any]:
    """All rows in one: transformers' packed input, positions and lengths by its names.

    Positions count from `pad_id + 1`, as RoBERTa's table does.
    """
    return {
        "input_ids": torch.tensor([[token for row in rows for token in row]]),
        "position_ids": torch.cat([torch.arange(len(row)) for row in rows])[None] + pad_id + 1,
        **_cumulative(rows),
    }


def unpadding(rows: list[list[int]]) -> dict[str, Any]:
    """Where the tokens of a padded batch of these rows stand once it is flattened, and lengths."""
    width = max(map(len, rows))
    starts = [torch.arange(len(row)) + b * width for b, row in enumerate(rows)]
    return {"valid_rows_T": torch.cat(starts), **_cumulative(rows)}


def _cumulative(rows: list[list[int]]) -> dict[str, Any]:
    """transformers' names for where packed sequences begin and end."""
    lengths = torch.tensor([len(row) for row in rows])
    cumulative = torch.nn.functional.pad(lengths.cumsum(0), (1, 0)).to(torch.int32)
    longest = max(map(len, rows))
    return {
        "cu_seq_lens_q": cumulative,
        "cu_seq_lens_k": cumulative,
        "max_length_q": longest,
        "max_length_k": longest,
    }
