"""A pruned model is a stock model with hooks: it saves, copies, pickles and unprunes as one."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import pytest
import torch

from alpine_cli.pruning import PruningConfig, is_pruned, prune, unprune
from tests.pruning.families import FAMILIES, make_batch, make_model, make_rows


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_saved_weights_are_those_of_the_stock_model(family: str, tmp_path: Path) -> None:
    stock, model = make_model(family), make_model(family)
    prune(model, PruningConfig("all"))
    model.save_pretrained(tmp_path / "pruned")
    stock.save_pretrained(tmp_path / "stock")
    config = json.loads((tmp_path / "pruned" / "config.json").read_text(encoding="utf-8"))
    assert config == json.loads((tmp_path / "stock" / "config.json").read_text(encoding="utf-8"))
    assert "alpine" not in json.dumps(config)

    loaded = type(model).from_pretrained(tmp_path / "pruned").eval()
    assert not is_pruned(loaded)
    batch = make_batch(make_rows([12, 5]), model.config.pad_token_id)
    assert torch.equal(loaded(**batch).last_hidden_state, stock(**batch).last_hidden_state)
    prune(loaded, PruningConfig("all"))
    assert torch.equal(loaded(**batch).last_hidden_state, model(**batch).last_hidden_state)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_unprune_gives_the_stock_model_back(family: str) -> None:
    model = make_model(family)
    batch = make_batch(make_rows([12, 5]), model.config.pad_token_id)
    before = model(**batch).last_hidden_state
    classes = [type(module) for module in model.modules()]
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    prune(model, PruningConfig("all"))
    prune(model, PruningConfig("odd"))
    model(**batch)
    unprune(model)
    assert torch.equal(model(**batch).last_hidden_state, before)
    assert [type(module) for module in model.modules()] == classes
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    assert model.config._attn_implementation == "sdpa"


@torch.no_grad()
def test_models_that_share_a_config_are_not_touched() -> None:
    """Regression: naming our attention in the shared config broke every sibling model."""
    model, sibling = make_model("roberta"), make_model("roberta", seed=1)
    assert model.config is sibling.config or model.config.to_dict() == sibling.config.to_dict()
    batch = make_batch(make_rows([12, 5]), 1)
    before = sibling(**batch).last_hidden_state
    prune(model, PruningConfig("all"))
    assert torch.equal(sibling(**batch).last_hidden_state, before)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_copies_are_independent(family: str, pickled: bool) -> None:
    model = make_model(family)
    prune(model, PruningConfig("all", alpha=0.7))
    batch = make_batch(make_rows([22, 15]), model.config.pad_token_id)
    expected = model(**batch).last_hidden_state
    if pickled:
        buffer = io.BytesIO()
        torch.save(model, buffer)
        buffer.seek(0)
        # our own bytes of a moment ago, so executing the pickle is safe
        twin = torch.load(buffer, weights_only=False)
    else:
        twin = copy.deepcopy(model)
    prune(twin, PruningConfig("none"))
    assert torch.equal(model(**batch).last_hidden_state, expected)
    unprune(twin)
    assert is_pruned(model)
    assert not is_pruned(twin)
    assert torch.equal(model(**batch).last_hidden_state, expected)
    stock = make_model(family)
    assert torch.equal(twin(**batch).last_hidden_state, stock(**batch).last_hidden_state)
