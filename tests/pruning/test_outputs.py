"""What a pruned model returns, what a trace tells, and what is refused with which words."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertModel,
    GPTNeoConfig,
    GPTNeoModel,
)

from alpine_cli.pruning import (
    PruningConfig,
    PruningError,
    UnsupportedModelError,
    is_pruned,
    prune,
    trace,
    unprune,
)
from tests.pruning.families import (
    CONFIGS,
    DECODERS,
    ENGINES,
    FAMILIES,
    make_batch,
    make_model,
    make_rows,
)

LENGTHS = [26, 9, 17]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_hidden_states_and_attentions(family: str, engine: Any) -> None:
    """Per layer, padded to that layer's longest; probabilities sum to one over valid keys."""
    model = make_model(family, attention="eager")
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    stock = model(**batch, output_hidden_states=True, output_attentions=True)

    prune(model, PruningConfig("none", engine=engine))
    unpruned = model(**batch, output_hidden_states=True, output_attentions=True)
    mask = batch["attention_mask"].bool()
    # what decoders add up before their last norm grows to some ten times its size
    rtol = 1e-4 if family in DECODERS else 0
    for ours, theirs in zip(unpruned.hidden_states, stock.hidden_states, strict=True):
        torch.testing.assert_close(ours[mask], theirs[mask], atol=1e-5, rtol=rtol)
    for ours, theirs in zip(unpruned.attentions, stock.attentions, strict=True):
        for b, n in enumerate(LENGTHS):
            torch.testing.assert_close(ours[b, :, :n, :n], theirs[b, :, :n, :n], atol=1e-5, rtol=0)

    prune(model, PruningConfig("even", engine=engine))
    with trace(model) as recorded:
        pruned = model(**batch, output_hidden_states=True, output_attentions=True)
    lengths = recorded.calls[0].lengths
    if family in DECODERS:  # in the columns of the input
        assert all(h.shape[1] == max(LENGTHS) for h in pruned.hidden_states)
        counts = [tuple(h.any(-1).sum(1).tolist()) for h in pruned.hidden_states]
        assert counts == lengths
    else:
        assert [h.shape[1] for h in pruned.hidden_states] == [max(n) for n in lengths]
    assert pruned.hidden_states[-1] is pruned.last_hidden_state
    for probs, at_layer in zip(pruned.attentions, lengths, strict=False):
        assert probs.shape == (3, 4, max(at_layer), max(at_layer))
        for b, n in enumerate(at_layer):
            rows = probs[b, :, :n]
            torch.testing.assert_close(rows[..., :n].sum(-1), torch.ones(4, n))
            assert not rows[..., n:].any()


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_a_trace_tells_what_became_of_every_token(engine: Any) -> None:
    model = make_model("roberta")
    prune(model, PruningConfig("0,2", alpha=0.8, engine=engine))
    with trace(model) as recorded:
        model(**make_batch(make_rows(LENGTHS), 1))
        model(**make_batch(make_rows([5]), 1))
    assert [len(call.lengths[0]) for call in recorded.calls] == [3, 1]
    call = recorded.calls[0]
    assert call.lengths[0] == tuple(LENGTHS)
    assert call.ffn_lengths == call.lengths[1:]
    assert [layer.prunes for layer in call.layers] == [True, False, True, False]
    for b, length in enumerate(LENGTHS):
        alive = set(range(length))
        merged_tokens = 0
        for layer in call.layers:
            sample = layer.samples[b]
            assert sample.length_in == len(alive) + merged_tokens
            assert set(sample.merged) <= alive
            alive -= set(sample.merged)
            assert sample.kept == tuple(sorted(alive))
            assert {0, length - 1} <= alive
            merged_tokens -= len(sample.merged_tokens_removed)
            merged_tokens += bool(sample.merged or sample.merged_tokens_removed)
            assert sample.length_out == len(alive) + merged_tokens
            assert (sample.scores is not None) == layer.prunes
            if sample.scores is not None:
                assert sum(sample.scores) == pytest.approx(1.0, abs=1e-4)


def test_nothing_is_recorded_once_a_trace_is_closed() -> None:
    model = make_model("bert")
    prune(model, PruningConfig("all"))
    batch = make_batch(make_rows([6]), 0)
    with trace(model) as outer, trace(model) as inner:
        model(**batch)
    model(**batch)
    assert len(outer.calls) == len(inner.calls) == 1


# transformers has no head over T5's encoder that reads one token
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "t5"])
def test_heads_that_read_the_first_token_work(family: str) -> None:
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(CONFIGS[family]).eval()
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    stock = model(**batch, labels=torch.tensor([0, 1, 0]))
    prune(model, PruningConfig("none"))
    ours = model(**batch, labels=torch.tensor([0, 1, 0]))
    torch.testing.assert_close(ours.logits, stock.logits, atol=1e-5, rtol=0)
    prune(model, PruningConfig("all"))
    pruned = model(**batch, labels=torch.tensor([0, 1, 0]), return_dict=False)
    assert pruned[1].shape == stock.logits.shape
    pruned[0].backward()


def test_a_model_inside_another_module() -> None:
    class Wrapper(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = make_model("electra")

    wrapper = Wrapper()
    assert not is_pruned(wrapper)
    assert prune(wrapper, PruningConfig("odd")) is wrapper
    assert is_pruned(wrapper)
    assert is_pruned(wrapper.encoder)
    assert unprune(wrapper) is wrapper
    assert not is_pruned(wrapper)
    unprune(wrapper)  # once more changes nothing


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: torch.nn.Linear(2, 2), "holds no transformers model to prune; supported"),
        (
            lambda: GPTNeoModel(
                GPTNeoConfig(
                    num_layers=1, num_heads=1, hidden_size=8, attention_types=[[["global"], 1]]
                )
            ),
            "'gpt_neo'.*supported",
        ),
        (
            lambda: torch.nn.ModuleList([make_model("bert"), make_model("roberta")]),
            r"several transformers models \(BertModel, RobertaModel\)",
        ),
        (
            lambda: AutoModelForMaskedLM.from_config(CONFIGS["roberta"]),
            "RobertaForMaskedLM reads the hidden state of every input token",
        ),
        (
            lambda: AutoModelForTokenClassification.from_config(CONFIGS["bert"]),
            "BertForTokenClassification reads the hidden state of every input token",
        ),
    ],
    ids=["no model", "unknown family", "two models", "masked LM", "token classification"],
)
def test_models_that_cannot_be_pruned(build: Any, message: str) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        prune(build(), PruningConfig("all"))


def test_decoders_and_chunked_feed_forward_are_refused() -> None:
    for field, value, message in (
        ("is_decoder", True, "configured as a decoder"),
        ("chunk_size_feed_forward", 4, "chunk_size_feed_forward"),
    ):
        config = copy.deepcopy(CONFIGS["bert"])
        setattr(config, field, value)
        model = BertModel(config)
        with pytest.raises(UnsupportedModelError, match=message):
            prune(model, PruningConfig("all"))


def test_a_refused_prune_leaves_the_model_as_it_was() -> None:
    model = make_model("roberta")
    with pytest.raises(PruningError, match="index 4 is out of range"):
        prune(model, PruningConfig("0,4"))
    assert not is_pruned(model)
    assert model.config._attn_implementation == "sdpa"
    prune(model, PruningConfig("all"))
    with pytest.raises(PruningError, match="index 9"):
        prune(model, PruningConfig("9"))
    with trace(model) as recorded:
        model(**make_batch(make_rows([20]), 1))
    assert all(layer.prunes for layer in recorded.calls[0].layers)


def test_inputs_that_cannot_be_pruned() -> None:
    model = make_model("roberta")
    prune(model, PruningConfig("all"))
    batch = make_batch(make_rows([6, 4]), 1)
    ids = batch["input_ids"]
    with pytest.raises(PruningError, match=r"attention_mask must be \(batch, length\) = \(2, 6\)"):
        model(ids, attention_mask=torch.ones(2, 3, 6, 6))
    with pytest.raises(PruningError, match="exactly one of input_ids and inputs_embeds"):
        model(attention_mask=batch["attention_mask"])
    with pytest.raises(PruningError, match="does not take use_cache"):
        model(ids, use_cache=True)
    with pytest.raises(PruningError, match="needs return_dict=True"):
        model(ids, output_hidden_states=True, return_dict=False)
    with pytest.raises(PruningError, match="ran outside a pruned model's forward"):
        model.encoder.layer[0].attention.self(torch.zeros(1, 3, 48))


def test_tracing_needs_a_pruned_model() -> None:
    with pytest.raises(PruningError, match=r'RobertaModel is not pruned.*layers="none"'):
        trace(make_model("roberta")).__enter__()
