"""Empty, one-token, all-special, all-equal and all-padding inputs: finite, and as documented."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alpine_cli.pruning import PruningConfig, prune, trace
from tests.pruning.families import DECODERS, ENGINES, FAMILIES, make_batch, make_model, make_rows


@pytest.mark.parametrize("merge", ["mean", "none"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_short_and_empty_rows(family: str, engine: Any, merge: Any) -> None:
    """Rows of 0, 1 and 2 tokens keep all they have; a row of padding comes back as zeros."""
    model = make_model(family)
    prune(model, PruningConfig("all", alpha=0.1, merge=merge, engine=engine))
    batch = make_batch([[], *make_rows([1, 2, 3, 20])], model.config.pad_token_id)
    with trace(model) as recorded:
        hidden = model(**batch).last_hidden_state
    assert torch.isfinite(hidden).all()
    assert not hidden[0].any()
    lengths = recorded.calls[0].lengths[-1]
    assert lengths[:4] == (0, 1, 2, 3)
    for b in (1, 2, 3):
        assert int(hidden[b].any(-1).sum()) == lengths[b]
        assert hidden[b, 0].any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_a_batch_of_nothing_but_padding(family: str, engine: Any) -> None:
    """Heads read position 0, so one column of zeros remains."""
    model = make_model(family)
    prune(model, PruningConfig("all", engine=engine))
    batch = make_batch([[], []], model.config.pad_token_id, extra=4)
    hidden = model(**batch).last_hidden_state
    assert hidden.shape == (2, 4 if family in DECODERS else 1, 48)
    assert not hidden.any()


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_equal_scores_remove_nothing(engine: Any) -> None:
    """With zero query weights attention is uniform: σ is 0 and every token lies in the band."""
    model = make_model("roberta")
    for layer in model.encoder.layer:
        layer.attention.self.query.weight.zero_()
        layer.attention.self.query.bias.zero_()
    prune(model, PruningConfig("all", alpha=0.01, engine=engine))
    batch = make_batch(make_rows([25, 11]), model.config.pad_token_id)
    with trace(model) as recorded:
        hidden = model(**batch).last_hidden_state
    assert torch.isfinite(hidden).all()
    assert recorded.calls[0].lengths[-1] == (25, 11)


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_an_infinite_weight_shows(engine: Any) -> None:
    """Broken weights are not hidden: the output is not finite, and no call fails on the way."""
    model = make_model("roberta")
    model.encoder.layer[1].attention.output.dense.weight[0, 0] = torch.inf
    prune(model, PruningConfig("all", engine=engine))
    batch = make_batch(make_rows([9, 4]), model.config.pad_token_id)
    assert not torch.isfinite(model(**batch).last_hidden_state).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_gradients_of_degenerate_rows_are_finite(engine: Any) -> None:
    model = make_model("roberta").train()
    prune(model, PruningConfig("all", alpha=0.3, engine=engine))
    batch = make_batch([[], *make_rows([1, 2, 15])], model.config.pad_token_id)
    model(**batch).last_hidden_state.square().sum().backward()
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()
