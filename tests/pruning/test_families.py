"""Every family: equal to stock transformers with layers none, and the same under every engine."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alpine_cli.pruning import PruningConfig, prune, trace
from tests.pruning.families import DECODERS, ENGINES, FAMILIES, make_batch, make_model, make_rows
from tests.reference import alpine as slow

LENGTHS = [40, 13, 1, 27, 5, 2]


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_unpruned_equals_stock(family: str, engine: Any, attention: str) -> None:
    model = make_model(family, attention=attention)
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id, extra=3)
    stock = model(**batch)
    prune(model, PruningConfig(layers="none", engine=engine))
    ours = model(**batch)
    assert type(ours) is type(stock)
    width = max(LENGTHS) + (3 if family in DECODERS else 0)  # those keep the input's columns
    assert ours.last_hidden_state.shape == (len(LENGTHS), width, 48)
    for b, length in enumerate(LENGTHS):
        torch.testing.assert_close(
            ours.last_hidden_state[b, :length],
            stock.last_hidden_state[b, :length],
            atol=1e-5,
            rtol=0,
        )
        assert not ours.last_hidden_state[b, length:].any()
    if getattr(stock, "pooler_output", None) is not None:
        torch.testing.assert_close(ours.pooler_output, stock.pooler_output, atol=1e-5, rtol=0)


@pytest.mark.parametrize("merge", ["mean", "none"])
@pytest.mark.parametrize("protect", ["special", "ends"])
@pytest.mark.parametrize("layers", ["all", "even", "odd", "1,2"])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_engines_agree(family: str, layers: str, protect: Any, merge: Any) -> None:
    model = make_model(family)
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    outputs, plans = [], []
    for engine in ENGINES:
        config = PruningConfig(layers, alpha=0.8, merge=merge, protect=protect, engine=engine)  # type: ignore[arg-type]
        prune(model, config)
        with trace(model) as recorded:
            outputs.append(model(**batch).last_hidden_state)
        plans.append(
            {layer: plan.keep_T.tolist() for layer, plan in recorded.calls[0].plans.items()}
        )
    assert plans[0] == plans[1] == plans[2]
    assert any(not all(keep) for keep in plans[0].values())
    for other in outputs[1:]:
        torch.testing.assert_close(outputs[0], other, atol=1e-5, rtol=0)


@pytest.mark.parametrize("merge", ["mean", "none"])
@pytest.mark.parametrize("protect", ["special", "ends"])
@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_equal_to_the_slow_encoder(engine: Any, protect: Any, merge: Any) -> None:
    """Against an encoder written out in float64: wiring, rule and merge, sample by sample."""
    model = make_model("roberta")
    model.pooler = None
    rows = make_rows([30, 17, 9, 3, 44], seed=3)
    prune(model, PruningConfig("0,2,3", alpha=0.9, merge=merge, protect=protect, engine=engine))
    with trace(model) as recorded:
        output = model(**make_batch(rows, model.config.pad_token_id)).last_hidden_state
    for b, row in enumerate(rows):
        expected = slow.encode_roberta(model, row, [0, 2, 3], 0.9, merge, protect)
        # 1e-6 of μ: a float32 score that close to a threshold may fall on either side
        assert expected.smallest_margin > 1e-6
        layers = [layer.samples[b] for layer in recorded.calls[0].layers]
        assert [sample.length_out for sample in layers] == expected.lengths[1:]
        assert [list(sample.kept) for sample in layers] == expected.kept
        torch.testing.assert_close(
            output[b, : expected.lengths[-1]].double(), expected.hidden, atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_positional_arguments_and_embeddings_as_input(family: str) -> None:
    model = make_model(family)
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    prune(model, PruningConfig("all"))
    expected = model(**batch).last_hidden_state
    if family != "gpt2":  # its second argument is a cache
        by_position = model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        assert torch.equal(by_position, expected)
    embeds = model.get_input_embeddings()(batch["input_ids"])
    given = model(inputs_embeds=embeds, attention_mask=batch["attention_mask"]).last_hidden_state
    torch.testing.assert_close(given, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["roberta", "bert"])
@torch.no_grad()
def test_given_position_and_token_type_ids_are_used(family: str) -> None:
    model = make_model(family)
    batch = make_batch(make_rows([9, 5]), model.config.pad_token_id)
    batch["position_ids"] = torch.arange(20, 29).expand(2, 9)
    batch["token_type_ids"] = torch.zeros_like(batch["input_ids"])
    if family == "bert":
        batch["token_type_ids"][:, 3:] = 1
    stock = model(**batch).last_hidden_state
    prune(model, PruningConfig("none"))
    ours = model(**batch).last_hidden_state
    torch.testing.assert_close(ours[0], stock[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(ours[1, :5], stock[1, :5], atol=1e-5, rtol=0)
