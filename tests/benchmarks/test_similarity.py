"""Similarities are those of a slow loop, of the states that pruning compares."""

from __future__ import annotations

import json
import sys

import pytest
import torch
from transformers import AutoModel, DistilBertConfig, DistilBertModel

from benchmarks import similarity
from benchmarks.similarity import attention_outputs, similarities
from tests.measure.subjects import write_checkpoint, write_data


def test_similarities_are_those_of_a_loop():
    states = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    cosine = torch.nn.functional.cosine_similarity
    each = [
        [float(cosine(states[i], states[j], dim=0)) for j in range(7) if j != i] for i in range(7)
    ]
    any_two, most_similar = similarities(states)
    assert any_two == pytest.approx(sum(map(sum, each)) / 42, abs=1e-6)
    assert most_similar == pytest.approx(sum(map(max, each)) / 7, abs=1e-6)


def test_rows_of_one_direction_are_alike():
    assert similarities(torch.ones(4, 3) * torch.arange(1, 5)[:, None]) == pytest.approx((1, 1))


def test_states_are_those_between_attention_and_feed_forward(tiny_model_dir):
    encoder = AutoModel.from_pretrained(tiny_model_dir).eval()
    ids = torch.tensor([[0, 5, 6, 7, 2]])
    with torch.no_grad(), attention_outputs(encoder) as states:
        hidden = encoder(ids, output_hidden_states=True).hidden_states
    assert len(states) == encoder.config.num_hidden_layers
    for layer, state, after in zip(encoder.encoder.layer, states, hidden[1:], strict=True):
        with torch.no_grad():
            assert torch.allclose(layer.output(layer.intermediate(state), state), after, atol=1e-6)
    with torch.no_grad():
        encoder(ids)
    assert len(states) == encoder.config.num_hidden_layers  # nothing is collected any more


def test_an_encoder_built_otherwise_is_named():
    encoder = DistilBertModel(DistilBertConfig(n_layers=1, dim=8, n_heads=2, hidden_dim=8))
    with pytest.raises(SystemExit, match="DistilBertModel"), attention_outputs(encoder):
        pass


def test_models_are_told_and_drawn(tiny_model_dir, tmp_path, monkeypatch):
    data = write_data(tmp_path / "data")
    checkpoint = write_checkpoint(tmp_path / "run" / "ckpt.pt", tiny_model_dir, data)
    arguments = ["similarity", "--model", f"tiny={checkpoint}={data}", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    similarity.main()
    (one,) = json.loads((tmp_path / "similarity.json").read_text("utf-8"))["models"]
    for layer in one["layers"]:
        for name in ("any_two", "most_similar"):
            interval = layer[f"{name}_interval"]
            assert interval["low"] <= layer[name] <= interval["high"]
        assert layer["any_two"] <= layer["most_similar"] <= 1
    table = (tmp_path / "similarity.md").read_text("utf-8")
    assert f"{one['layers'][0]['any_two']:.2f} ({one['layers'][0]['most_similar']:.2f})" in table
    assert (tmp_path / "similarity.png").stat().st_size > 0


def test_a_model_without_data_is_named(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["similarity", "--model", "tiny=ckpt.pt"])
    with pytest.raises(SystemExit, match="NAME=CHECKPOINT=DATA"):
        similarity.main()
