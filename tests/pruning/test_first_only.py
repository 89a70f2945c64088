"""output="first": the last layer's feed-forward part on first tokens alone changes nothing read."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import ModernBertForSequenceClassification

from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import replay
from alpine_cli.pruning.errors import UnsupportedModelError
from tests.pruning.families import (
    CONFIGS,
    DECODERS,
    ENGINES,
    FAMILIES,
    LAYERS,
    make_batch,
    make_model,
    make_rows,
)

LENGTHS = [23, 1, 9]


@pytest.mark.parametrize("layers", ["none", "even", "all"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_first_tokens_are_the_same(family: str, engine: Any, layers: str) -> None:
    model = make_model(family)
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    prune(model, PruningConfig(layers, engine=engine))
    whole = model(**batch)
    prune(model, PruningConfig(layers, engine=engine, output="first"))
    with trace(model) as recorded:
        first = model(**batch, output_hidden_states=True)
    if family in DECODERS:  # the last token is the one that heads read
        assert int(first.last_hidden_state.any(-1).sum()) == len(LENGTHS)
        read = [n - 1 for n in LENGTHS]
    else:
        assert first.last_hidden_state.shape == (len(LENGTHS), 1, 48)
        read = [0] * len(LENGTHS)
    rows = list(range(len(LENGTHS)))
    torch.testing.assert_close(
        first.last_hidden_state[rows, read],
        whole.last_hidden_state[rows, read],
        atol=1e-5,
        rtol=0,
    )
    assert recorded.calls[0].lengths[-1] == (1, 1, 1)
    assert len(first.hidden_states) == LAYERS + 1
    if getattr(whole, "pooler_output", None) is not None:
        torch.testing.assert_close(first.pooler_output, whole.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_are_those_of_all_tokens(engine: Any) -> None:
    model = make_model("roberta")
    batch = make_batch(make_rows(LENGTHS), 1)
    gradients = []
    for output in ("tokens", "first"):
        prune(model, PruningConfig("even", engine=engine, output=output))  # type: ignore[arg-type]
        model.zero_grad()
        model(**batch).last_hidden_state[:, 0].pow(3).sum().backward()
        gradients.append(
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_empty_rows_and_replay() -> None:
    model = make_model("bert")
    batch = make_batch(make_rows([7, 4]), 0)
    batch["attention_mask"][1] = 0
    prune(model, PruningConfig("all", output="first"))
    with trace(model) as recorded:
        hidden = model(**batch).last_hidden_state
    assert recorded.calls[0].lengths[-1] == (1, 0)
    assert not hidden[1].any()
    with replay(model, recorded.calls[0]):
        again = model(**batch).last_hidden_state
    torch.testing.assert_close(again, hidden, atol=1e-5, rtol=0)


def test_a_head_that_averages_all_tokens_is_refused() -> None:
    config = type(CONFIGS["modernbert"])(**CONFIGS["modernbert"].to_dict())
    config.classifier_pooling = "mean"
    with pytest.raises(UnsupportedModelError, match="averages the hidden states"):
        prune(ModernBertForSequenceClassification(config), PruningConfig("all"))
