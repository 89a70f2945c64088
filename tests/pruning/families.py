"""Tiny models of every supported family, and batches of sequences of chosen lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from transformers import (
    AutoModel,
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    RobertaConfig,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
)

VOCABULARY = 300
LAYERS = 4

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 130,
    # larger than usual: near-uniform attention would make every plan look the same
    "initializer_range": 0.2,
}

CONFIGS: dict[str, PreTrainedConfig] = {
    "roberta": RobertaConfig(**_SHAPE, pad_token_id=1, type_vocab_size=1),
    "bert": BertConfig(**_SHAPE),
    "electra": ElectraConfig(**_SHAPE, embedding_size=24),
    "xlm-roberta": XLMRobertaConfig(**_SHAPE, pad_token_id=1, type_vocab_size=1),
    "distilbert": DistilBertConfig(
        vocab_size=VOCABULARY,
        dim=48,
        n_layers=LAYERS,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=130,
        initializer_range=0.2,
    ),
    "modernbert": ModernBertConfig(
        **_SHAPE,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        global_attn_every_n_layers=2,
        local_attention=16,
    ),
    "t5": T5Config(
        vocab_size=VOCABULARY,
        d_model=48,
        d_kv=12,
        d_ff=64,
        num_layers=LAYERS,
        num_heads=4,
        relative_attention_num_buckets=8,
        relative_attention_max_distance=32,
        initializer_factor=1.0,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=48,
        n_layer=LAYERS,
        n_head=4,
        n_inner=64,
        n_positions=130,
        initializer_range=0.2,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    ),
    "llama": LlamaConfig(**_SHAPE, num_key_value_heads=2, pad_token_id=0),
    "qwen2": Qwen2Config(**_SHAPE, num_key_value_heads=2, pad_token_id=0),
}
FAMILIES = list(CONFIGS)
DECODERS = ["gpt2", "llama", "qwen2"]
ENCODERS = [family for family in FAMILIES if family not in DECODERS]
ENGINES = ["packed", "padded", "reference"]


def make_model(family: str, *, attention: str = "sdpa", seed: int = 0) -> PreTrainedModel:
    """A seeded encoder in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = CONFIGS[family]
        if family == "t5":  # AutoModel would add a decoder
            return T5EncoderModel._from_config(config, attn_implementation=attention).eval()
        return AutoModel.from_config(config, attn_implementation=attention).eval()


def make_rows(lengths: Sequence[int], seed: int = 0) -> list[list[int]]:
    """Random token ids of the given lengths, free of special ids."""
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randint(5, VOCABULARY, (length,), generator=generator).tolist() for length in lengths
    ]


def make_batch(
    rows: Sequence[Sequence[int]], pad_id: int, *, extra: int = 0, left: bool = False
) -> dict[str, torch.Tensor]:
    """Pad rows to the longest plus `extra` columns, on the right or on the left."""
    width = max(map(len, rows)) + extra
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.int64)
    for b, row in enumerate(rows):
        columns = slice(width - len(row), width) if left else slice(0, len(row))
        ids[b, columns] = torch.tensor(row, dtype=torch.int64)
        mask[b, columns] = 1
    return {"input_ids": ids, "attention_mask": mask}
