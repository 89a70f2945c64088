"""Decoders that read a prompt: order, causality, what is read, and against a slow decoder."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, DynamicCache

from alpine_cli.models import with_head
from alpine_cli.pruning.apply import prune, replay, trace, unprune
from alpine_cli.pruning.attention import attend_padded, attend_per_sequence
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError, UnsupportedModelError
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import TokenState, apply_plan, initial_tokens, tokens_after
from alpine_cli.pruning.reference import score_sample
from alpine_cli.pruning.selection import plan_keep
from alpine_cli.tasks.registry import TASKS
from tests.pruning.families import CONFIGS, DECODERS, ENGINES, make_batch, make_model, make_rows
from tests.reference import decoders as slow

LENGTHS = [24, 9, 1, 15]
MODELS = {family: make_model(family) for family in DECODERS}


def make_classifier(family: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = type(CONFIGS[family]).from_dict({**CONFIGS[family].to_dict(), **changes})
    return AutoModelForSequenceClassification.from_config(config).eval()


@pytest.mark.parametrize("merge", ["mean", "none"])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_equal_to_the_slow_decoder(family: str, engine: Any, merge: Any) -> None:
    """Scores, plans, order and hidden states; each token left stands in its own column."""
    model, rows = MODELS[family], make_rows([26, 17, 5], seed=3)
    prune(model, PruningConfig("0,1,3", alpha=0.9, merge=merge, engine=engine))
    with trace(model) as recorded:
        hidden = model(**make_batch(rows, 0)).last_hidden_state
    for b, row in enumerate(rows):
        expected = slow.encode(model, row, [0, 1, 3], 0.9, merge)
        assert expected.smallest_margin > 1e-6
        layers = [layer.samples[b] for layer in recorded.calls[0].layers]
        assert [sample.length_out for sample in layers] == expected.lengths[1:]
        for index, values in expected.scores.items():
            assert layers[index].scores == pytest.approx(values, rel=1e-4)
        assert hidden[b].any(-1).nonzero()[:, 0].tolist() == expected.columns
        torch.testing.assert_close(
            hidden[b, expected.columns].double(), expected.hidden, atol=1e-5, rtol=1e-5
        )
        assert expected.lengths[-1] < len(row) or len(row) == 5


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_heads_find_the_last_token(family: str, engine: Any, left: bool) -> None:
    """transformers' own head: stock's logits unpruned, the slow decoder's last token pruned."""
    model, rows = make_classifier(family), make_rows(LENGTHS)
    batch = make_batch(rows, 0, extra=3, left=left)
    stock = model(**batch).logits
    prune(model, PruningConfig("none", engine=engine))
    torch.testing.assert_close(model(**batch).logits, stock, atol=1e-5, rtol=0)
    prune(model, PruningConfig("all", alpha=0.8, engine=engine))
    pruned = model(**batch).logits
    width = max(LENGTHS) + 3
    for b, row in enumerate(rows):
        columns = list(range(width - len(row), width)) if left else list(range(len(row)))
        expected = slow.encode(model.base_model, row, [0, 1, 2, 3], 0.8, columns=columns)
        logits = expected.hidden[-1] @ model.score.weight.double().T
        torch.testing.assert_close(pruned[b].double(), logits, atol=1e-5, rtol=1e-5)
    unprune(model)
    assert torch.equal(model(**batch).logits, stock)


@torch.no_grad()
def test_left_padding_with_positions_is_no_padding() -> None:
    """GPT-2 numbers columns; with given position_ids padding on the left changes nothing."""
    model, rows = MODELS["gpt2"], make_rows([19, 6])
    prune(model, PruningConfig("all", alpha=0.8))
    batch = make_batch(rows, 0, left=True, extra=2)
    batch["position_ids"] = (batch["attention_mask"].cumsum(1) - 1).clamp(min=0)
    padded = model(**batch).last_hidden_state
    for b, row in enumerate(rows):
        alone = model(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(padded[b, -len(row) :], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_the_token_that_is_read_may_not_be_the_last(family: str) -> None:
    """Prompts that end in the padding id (as where it is the end token): heads read before it."""
    model = make_classifier(family)
    row = [*make_rows([20])[0], 0, 0]
    batch = {"input_ids": torch.tensor([row]), "attention_mask": torch.ones(1, 22)}
    stock = model(**batch).logits
    prune(model, PruningConfig("none"))
    torch.testing.assert_close(model(**batch).logits, stock, atol=1e-5, rtol=0)
    for output in ("tokens", "first"):
        prune(model, PruningConfig("all", alpha=0.1, output=output))  # type: ignore[arg-type]
        with trace(model) as recorded:
            pruned = model(**batch)
        assert 19 in recorded.calls[0].layers[-1].samples[0].kept
        if output == "tokens":
            whole = pruned.logits
            assert whole.any()
    torch.testing.assert_close(pruned.logits, whole, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=40)
@given(
    family=st.sampled_from(DECODERS),
    engine=st.sampled_from(ENGINES),
    merge=st.sampled_from(["mean", "none", "nearest"]),
    rule=st.sampled_from(["band", "top", "random"]),
    length=st.integers(2, 30),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_nothing_flows_back(
    family: str, engine: Any, merge: Any, rule: Any, length: int, seed: int, data: st.DataObject
) -> None:
    """With the plan given, no hidden state depends on a later column, merged ones included."""
    model = MODELS[family]
    keep = 1.0 if rule == "band" else 0.6
    prune(model, PruningConfig("all", 0.7, merge, engine=engine, rule=rule, keep=keep))
    (row, other) = make_rows([length, length], seed)
    cut = data.draw(st.integers(1, length))
    with torch.no_grad(), trace(model) as recorded:
        before = model(torch.tensor([row])).last_hidden_state
    with torch.no_grad(), replay(model, recorded.calls[0]):
        after = model(torch.tensor([[*row[:cut], *other[cut:]]])).last_hidden_state
    assert torch.equal(before.any(-1), after.any(-1))
    torch.testing.assert_close(after[:, :cut], before[:, :cut], atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=80)
@given(data=st.data(), lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4))
def test_merged_tokens_take_the_place_of_their_last_member(
    data: st.DataObject, lengths: list[int]
) -> None:
    """One plan after another on packed rows, against lists of (columns, value)."""
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 10_000)))
    merge = data.draw(st.sampled_from(["mean", "none"]))
    tokens = initial_tokens(torch.arange(max(1, *lengths)) < torch.tensor(lengths)[:, None])
    tokens = TokenState(tokens.ragged, tokens.special_T, tokens.source_T, place_T=tokens.source_T)
    hidden = torch.rand(tokens.ragged.total, 3, generator=draw, dtype=torch.float64)
    rows: list[list[Any]] = [
        [({column}, hidden[start + column]) for column in range(n)]
        for start, n in zip([0, *torch.tensor(lengths).cumsum(0).tolist()], lengths, strict=False)
    ]
    for layer in range(3):
        keep_T = torch.rand(tokens.ragged.total, generator=draw) < 0.6
        plan = plan_keep(keep_T, tokens.ragged, merge, causal=True)  # type: ignore[arg-type]
        hidden = apply_plan(hidden, plan)
        start = 0
        for b, n in enumerate(tokens.ragged.lengths):
            stays = keep_T[start : start + n].tolist()
            gone = [one for one, stay in zip(rows[b], stays, strict=True) if not stay]
            rows[b] = [one for one, stay in zip(rows[b], stays, strict=True) if stay]
            if gone and merge == "mean":
                values = torch.stack([value for _, value in gone])
                rows[b].append((set().union(*(columns for columns, _ in gone)), values.mean(0)))
                rows[b].sort(key=lambda one: max(one[0]))
            start += n
        tokens = tokens_after(tokens, plan, layer)
        assert tokens.ragged.lengths == tuple(len(row) for row in rows)
        assert tokens.place_T is not None
        places = [max(columns) for row in rows for columns, _ in row]
        assert tokens.place_T.tolist() == places
        if places:
            expected = torch.stack([value for row in rows for _, value in row])
            torch.testing.assert_close(hidden, expected)


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 11), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    trains=st.booleans(),
)
def test_scores_by_definition(lengths: list[int], seed: int, trains: bool) -> None:
    """Both back ends, and the reference, against loops over the queries that see a token."""
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    if ragged.total == 0:
        return
    draw = torch.Generator().manual_seed(seed)
    q, k, v = (torch.randn(ragged.total, 2, 4, generator=draw) for _ in range(3))
    for backend in (attend_per_sequence, attend_padded):
        for score in ("received", "cls"):
            found = backend(
                q.clone().requires_grad_(trains),
                k,
                v,
                ragged,
                scaling=0.7,
                dropout=0.0,
                score=score,  # type: ignore[arg-type]
                causal=True,
            )
            unscored = backend(q, k, v, ragged, scaling=0.7, dropout=0.0, score=None, causal=True)
            torch.testing.assert_close(unscored.out_THd, found.out_THd.detach())
            for start, stop in ragged.spans():
                n = stop - start
                members = [[column] for column in range(n)]
                heads = [
                    slow.attend(
                        *(x[start:stop, head].double() for x in (q, k, v)), members, scaling=0.7
                    )
                    for head in range(2)
                ]
                given_ = [gives for _, gives in heads]
                out = torch.stack([values for values, _ in heads], dim=1)
                torch.testing.assert_close(
                    found.out_THd[start:stop].detach().double(), out, atol=1e-5, rtol=1e-5
                )
                assert found.scores_T is not None
                values = found.scores_T[start:stop].tolist()
                if score == "received":
                    assert values == pytest.approx(slow.scores(given_, members), rel=1e-4)
                    of_sample = score_sample(torch.tensor(given_), causal=True)
                    assert values == pytest.approx(of_sample.tolist(), rel=1e-4)
                else:  # what the last token gives
                    last = torch.tensor(given_)[:, -1].mean(0)
                    assert values == pytest.approx(last.tolist(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_uniform_attention_removes_nothing(engine: Any) -> None:
    """Every token scores 1, early or late; a column sum would remove early and late ones."""
    model = make_model("llama")
    for layer in model.layers:
        layer.self_attn.q_proj.weight.zero_()
    prune(model, PruningConfig("all", alpha=0.01, engine=engine))
    with trace(model) as recorded:
        model(**make_batch(make_rows([25, 11]), 0))
    assert recorded.calls[0].lengths[-1] == (25, 11)
    (first, *_) = recorded.calls[0].layers
    assert first.samples[0].scores == pytest.approx([1.0] * 25, rel=1e-5)


@pytest.mark.parametrize("rule", ["top", "bipartite"])
@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_tokens_merge_into_later_ones_only(family: str, rule: Any) -> None:
    model = MODELS[family]
    batch = make_batch(make_rows([27, 8, 3]), 0)
    found = []
    for engine in ENGINES:
        prune(model, PruningConfig("all", rule=rule, keep=0.7, merge="nearest", engine=engine))  # type: ignore[arg-type]
        with trace(model) as recorded:
            found.append(model(**batch).last_hidden_state)
        call = recorded.calls[0]
        for layer, plan in call.plans.items():
            before, after = call.tokens[layer], call.tokens[layer + 1]
            gone = (~plan.keep_T).nonzero()[:, 0]
            assert (after.place_T[plan.slot_T[gone]] > before.place_T[gone]).all()
            assert not after.special_T[plan.slot_T[gone]].any()
            assert torch.equal(after.size_T, plan.size_after())
        sizes, ragged = call.tokens[-1].size_T, call.tokens[-1].ragged
        assert ragged.sum_by_sequence(sizes).tolist() == [27, 8, 3]
        assert call.lengths[-1] < call.lengths[0]
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ["packed", "padded"])
@torch.no_grad()
def test_attention_needs_no_mask(engine: Any) -> None:
    """Tokens stay in order, so torch's own causal attention serves in layers without scores."""
    model = MODELS["gpt2"]
    prune(model, PruningConfig("0", alpha=0.5, engine=engine))
    with mock.patch.object(
        F, "scaled_dot_product_attention", wraps=F.scaled_dot_product_attention
    ) as attention:
        model(**make_batch(make_rows([20, 7]), 0))
    assert attention.call_count == (6 if engine == "packed" else 3)
    for call in attention.call_args_list:
        assert call.kwargs["is_causal"]
        assert call.kwargs["attn_mask"] is None


@pytest.mark.parametrize("family", DECODERS)
def test_gradient_checkpointing_changes_no_gradient(family: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = make_model(family).train()
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
        prune(model, PruningConfig("even", alpha=0.8))
        batch = make_batch(make_rows(LENGTHS), 0)
        model(**batch).last_hidden_state.pow(2).sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("family", DECODERS)
def test_what_a_pruned_decoder_does_not_take(family: str) -> None:
    model = make_model(family)
    prune(model, PruningConfig("all"))
    ids = torch.tensor(make_rows([6]))
    with pytest.raises(PruningError, match="decoder does not take use_cache: it reads a prompt"):
        model(input_ids=ids, use_cache=True)
    with pytest.raises(PruningError, match=r"does not take past_key_values.*unprune\(\)"):
        model(input_ids=ids, past_key_values=DynamicCache(config=model.config))
    with pytest.raises(PruningError, match=r"\(batch, length\) only"):
        model(input_ids=ids, attention_mask=torch.ones(1, 1, 6, 6, dtype=torch.bool))
    assert model(ids).past_key_values is None
    with pytest.raises(UnsupportedModelError, match="prune its decoder"):
        prune(AutoModelForCausalLM.from_config(CONFIGS[family]), PruningConfig("all"))


@pytest.mark.parametrize("task", ["defect-detection", "clone-detection"])
@pytest.mark.parametrize("family", DECODERS)
@torch.no_grad()
def test_task_heads_read_the_last_token(family: str, task: str) -> None:
    """ALPINE's heads, of one function and of pairs, on the slow decoder's last tokens."""
    torch.manual_seed(0)
    model = with_head(make_model(family), TASKS[task], "alpine").eval()
    rows = make_rows([18, 7, 11, 4])
    batch = make_batch(rows, 0, extra=2)
    stock = model(**batch).logits
    prune(model, PruningConfig("none"))
    torch.testing.assert_close(model(**batch).logits, stock, atol=1e-5, rtol=0)
    prune(model, PruningConfig("all", alpha=0.8))
    last = [slow.encode(model.encoder, row, [0, 1, 2, 3], 0.8).hidden[-1] for row in rows]
    expected = model.head(torch.stack(last).float())
    torch.testing.assert_close(model(**batch).logits, expected, atol=1e-4, rtol=1e-4)
