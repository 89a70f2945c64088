"""Attention masks that follow the tokens: against a slow encoder, across engines, over families."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning.apply import prune, replay, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.selection import plan_keep
from alpine_cli.pruning.visibility import Visibility, allowed_pairs
from tests.pruning.families import ENCODERS, ENGINES, make_batch, make_model, make_rows
from tests.reference import alpine as slow

LENGTHS = [21, 9, 14, 1]


def random_mask(lengths: list[int], share: float = 0.3, seed: int = 0) -> torch.Tensor:
    """(B, L, L) bool: the first token sees all of its sequence, others some and themselves.

    Rows of padding see the first token, as `tasks.loading.Collator` leaves them.
    """
    draw = torch.Generator().manual_seed(seed)
    width = max(lengths)
    sees = torch.rand(len(lengths), width, width, generator=draw) < share
    sees |= torch.eye(width, dtype=torch.bool)
    sees[:, 0] = True
    for b, n in enumerate(lengths):
        sees[b, n:] = False
        sees[b, :, n:] = False
        sees[b, n:, 0] = True
    return sees


def graph_of(sees: torch.Tensor, pad_id: int) -> slow.SlowGraph:
    n = sees.shape[0]
    positions = list(range(pad_id + 1, pad_id + 1 + n))
    return slow.SlowGraph(sees.tolist(), positions, {}, n - 1)


def inputs(lengths: list[int], sees: torch.Tensor) -> dict[str, Any]:
    ids = make_batch(make_rows(lengths, seed=3), 1)["input_ids"]
    return {"input_ids": ids, "attention_mask": sees[:, None]}


@pytest.mark.parametrize("merge", ["mean", "none"])
@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_equal_to_the_slow_encoder(engine: Any, merge: Any) -> None:
    """Rows and columns of removed tokens go, merged tokens see and are seen as their members."""
    model = make_model("roberta")
    model.pooler = None
    rows, sees = make_rows(LENGTHS, seed=3), random_mask(LENGTHS)
    pad = model.config.pad_token_id
    batch = inputs(LENGTHS, sees)
    batch["position_ids"] = torch.arange(pad + 1, pad + 1 + max(LENGTHS)).expand(len(LENGTHS), -1)
    prune(model, PruningConfig("0,2,3", alpha=0.8, merge=merge, engine=engine))
    with trace(model) as recorded:
        output = model(**batch).last_hidden_state
    removed = 0
    for b, (row, n) in enumerate(zip(rows, LENGTHS, strict=True)):
        graph = graph_of(sees[b, :n, :n], pad)
        expected = slow.encode_roberta(model, row, [0, 2, 3], 0.8, merge, graph=graph)
        assert expected.smallest_margin > 1e-6
        layers = [layer.samples[b] for layer in recorded.calls[0].layers]
        assert [sample.length_out for sample in layers] == expected.lengths[1:]
        assert [list(sample.kept) for sample in layers] == expected.kept
        for layer, scores in expected.scores.items():
            assert layers[layer].scores == pytest.approx(scores, abs=1e-6)
        torch.testing.assert_close(
            output[b, : expected.lengths[-1]].double(), expected.hidden, atol=1e-5, rtol=0
        )
        removed += expected.lengths[0] - expected.lengths[-1]
    assert removed > 10


# Stock ModernBERT does not lay its window over a 4-D mask; the engines do.
@pytest.mark.parametrize("family", [name for name in ENCODERS if name != "modernbert"])
@torch.no_grad()
def test_unpruned_equal_to_stock(family: str) -> None:
    model, sees = make_model(family), random_mask(LENGTHS)
    batch = inputs(LENGTHS, sees)
    # positions by column: RoBERTa's would count what make_batch pads with
    stock = {**batch, "attention_mask": torch.zeros(sees.shape).masked_fill(~sees, -1e9)[:, None]}
    expected = model(**stock).last_hidden_state
    for engine in ENGINES:
        prune(model, PruningConfig("none", engine=engine))
        for either in (batch, stock):  # bool, and added to the logits
            found = model(**either).last_hidden_state
            for b, n in enumerate(LENGTHS):
                torch.testing.assert_close(found[b, :n], expected[b, :n], atol=2e-5, rtol=0)


@pytest.mark.parametrize("merge", ["mean", "none", "nearest"])
@pytest.mark.parametrize("family", ENCODERS)
def test_engines_agree_with_gradients(family: str, merge: Any) -> None:
    model, sees = make_model(family), random_mask(LENGTHS)
    batch = inputs(LENGTHS, sees)
    prune(model, PruningConfig("all", alpha=0.9, merge=merge, engine="reference"))
    with trace(model) as recorded:
        expected = model(**batch).last_hidden_state
    traced = recorded.calls[0]
    assert sum(traced.lengths[-1]) < sum(LENGTHS)
    weights = torch.linspace(-1, 1, expected.shape[-1])
    gradients = torch.autograd.grad((expected * weights).sum(), model.get_input_embeddings().weight)
    for engine in ("packed", "padded"):
        prune(model, PruningConfig("all", alpha=0.9, merge=merge, engine=engine))
        with trace(model) as again, replay(model, traced):
            found = model(**batch).last_hidden_state
        assert again.calls[0].lengths == traced.lengths
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)
        other = torch.autograd.grad((found * weights).sum(), model.get_input_embeddings().weight)
        scale = gradients[0].abs().max()
        torch.testing.assert_close(other[0] / scale, gradients[0] / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(engine: Any) -> None:
    model, sees = make_model("roberta"), random_mask(LENGTHS)
    prune(model, PruningConfig("all", alpha=0.8, engine=engine))
    together = model(**inputs(LENGTHS, sees)).last_hidden_state
    rows = make_rows(LENGTHS, seed=3)
    for b, n in enumerate(LENGTHS):
        one = {
            "input_ids": torch.tensor([rows[b]]),
            "attention_mask": sees[b : b + 1, None, :n, :n],
        }
        alone = model(**one).last_hidden_state[0]
        torch.testing.assert_close(together[b, : len(alone)], alone, atol=1e-5, rtol=0)
        assert not together[b, len(alone) :].any()


@torch.no_grad()
def test_a_mask_that_hides_nothing_changes_nothing() -> None:
    model = make_model("roberta")
    batch = make_batch(make_rows(LENGTHS), 1)
    prune(model, PruningConfig("all", alpha=0.8))
    expected = model(**batch).last_hidden_state
    valid = batch["attention_mask"].bool()
    pairs = (valid[:, :, None] & valid[:, None, :])[:, None]
    found = model(batch["input_ids"], attention_mask=pairs).last_hidden_state
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_batch_without_any_token_comes_back_as_zeros() -> None:
    model = make_model("roberta")
    ids = torch.full((2, 3), 7)
    for engine in ENGINES:
        prune(model, PruningConfig("all", engine=engine))
        mask = torch.zeros(2, 1, 3, 3, dtype=torch.bool)
        assert not model(ids, attention_mask=mask).last_hidden_state.any()


@torch.no_grad()
def test_special_tokens_can_be_named() -> None:
    model = make_model("roberta")
    ids = make_batch(make_rows([20]), 1)["input_ids"]
    named = torch.zeros(1, 20, dtype=torch.bool)
    named[0, [0, 5, 6, 7, 8, 9, 10]] = True
    prune(model, PruningConfig("all", alpha=0.1))
    with trace(model) as recorded:
        model(ids, special_tokens_mask=named)
    kept = recorded.calls[0].layers[-1].samples[0].kept
    assert {0, 5, 6, 7, 8, 9, 10} <= set(kept)
    assert 19 not in recorded.calls[0].layers[-1].samples[0].kept
    with pytest.raises(PruningError, match=r"special_tokens_mask must be \(batch, length\)"):
        model(ids, special_tokens_mask=named[:, :3])


@torch.no_grad()
def test_checkpointing_and_copies_keep_the_mask() -> None:
    model, sees = make_model("roberta"), random_mask(LENGTHS)
    prune(model, PruningConfig("all", alpha=0.8))
    copied = copy.deepcopy(model)
    batch = inputs(LENGTHS, sees)
    assert torch.equal(model(**batch).last_hidden_state, copied(**batch).last_hidden_state)
    with torch.enable_grad():
        model.train().gradient_checkpointing_enable()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if hasattr(module, "dropout_prob"):
                module.dropout_prob = 0.0
        prune(model, PruningConfig("all", alpha=0.8, engine="padded"))
        model(**batch).last_hidden_state.sum().backward()
    assert all(
        torch.isfinite(parameter.grad).all()
        for parameter in model.parameters()
        if parameter.grad is not None
    )


@settings(deadline=None, max_examples=80)
@given(data=st.data(), lengths=st.lists(st.integers(0, 7), min_size=1, max_size=4))
def test_shared_rights_by_definition(data: st.DataObject, lengths: list[int]) -> None:
    """One plan after another on masks alone, against sets of input tokens."""
    seed = data.draw(st.integers(0, 10_000))
    draw = torch.Generator().manual_seed(seed)
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    width = ragged.longest
    allowed = torch.rand(len(lengths), width, width, generator=draw) < 0.4
    allowed |= torch.eye(width, dtype=torch.bool)
    visible = Visibility.of_input(allowed, ragged.position_T, ragged)
    members = [[{column} for column in range(n)] for n in lengths]
    merges = data.draw(st.sampled_from(["mean", "none"]))
    for _ in range(3):
        keep_T = torch.rand(ragged.total, generator=draw) < 0.6
        plan = plan_keep(keep_T, ragged, merges)
        visible = visible.after(plan.slot_T, plan.after)
        start = 0
        for b, n in enumerate(ragged.lengths):
            stays = keep_T[start : start + n].tolist()
            gone = [one for one, stay in zip(members[b], stays, strict=True) if not stay]
            members[b] = [one for one, stay in zip(members[b], stays, strict=True) if stay]
            if gone and merges == "mean":
                members[b].append(set().union(*gone))
            start += n
        ragged = plan.after
        for b, tokens in enumerate(members):
            assert len(tokens) == ragged.lengths[b]
            for q, query in enumerate(tokens):
                expected = [any(allowed[b, i, j] for i in query for j in key) for key in tokens]
                expected[q] |= not any(expected)
                assert visible.sees_BLL[b, q, : len(tokens)].tolist() == expected


def test_reading_masks() -> None:
    sees = random_mask([4, 2])
    assert torch.equal(allowed_pairs(sees[:, None], 2), sees)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        lowest = torch.finfo(dtype).min
        added = torch.zeros(sees.shape, dtype=dtype).masked_fill(~sees, lowest)
        assert torch.equal(allowed_pairs(added[:, None], 2), sees)
    assert torch.equal(allowed_pairs(sees[:, None].long(), 2), sees)
    assert allowed_pairs(sees[:1, None], 5).shape == (5, 4, 4)
