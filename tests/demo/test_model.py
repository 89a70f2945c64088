"""The demo's tokenizer and model: a directory that any transformers program can read."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch
from transformers import AutoModel, AutoTokenizer

from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model

SIZE = ModelSize(vocabulary=300, hidden=32, layers=2, heads=2, max_length=64)
TEXTS = ["def f(x):\n    return x is None\n"] * 3


def test_nothing_is_unknown_to_the_tokenizer() -> None:
    tokenizer = train_tokenizer(TEXTS, SIZE)
    text = "naïve ← 名前 \t\0"
    ids = tokenizer(text)["input_ids"]
    assert ids[0] == tokenizer.cls_token_id == 0
    assert ids[-1] == tokenizer.sep_token_id == 2
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_directory_is_read_by_transformers(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, SIZE)
    write_model(tmp_path, tokenizer, SIZE, seed=1)
    model = AutoModel.from_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert read("return x")["input_ids"] == tokenizer("return x")["input_ids"]
    output = model(**read("return x", return_tensors="pt")).last_hidden_state
    assert output.shape[-1] == SIZE.hidden
    assert torch.isfinite(output).all()


def test_seed_decides_the_weights(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, SIZE)
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_model(tmp_path / name, tokenizer, SIZE, seed)
    a, b, c = ((tmp_path / name / "model.safetensors").read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_neighbouring_positions_start_alike(tmp_path: Path) -> None:
    write_model(tmp_path, train_tokenizer(TEXTS, SIZE), SIZE, seed=1)
    table = AutoModel.from_pretrained(tmp_path).embeddings.position_embeddings.weight[2:]
    table = torch.nn.functional.normalize(table, dim=-1)
    near, far = (table[:-9] * table[1:-8]).sum(-1), (table[:-9] * table[9:]).sum(-1)
    assert (near > far).all()


def test_layers_beyond_the_fourth_start_almost_as_identities(tmp_path: Path) -> None:
    deep = ModelSize(vocabulary=300, hidden=32, layers=6, heads=2, max_length=64)
    tokenizer = train_tokenizer(TEXTS, deep)
    write_model(tmp_path, tokenizer, deep, seed=1)
    model = AutoModel.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        output = model(**tokenizer("return x", return_tensors="pt"), output_hidden_states=True)
    states = output.hidden_states
    moved = [(after - before).norm() / before.norm() for before, after in pairwise(states)]
    assert all(found > 0.5 for found in moved[:4])
    assert all(found < 0.25 for found in moved[4:])
