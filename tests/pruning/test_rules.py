"""Rules and merges beyond the published ones, against slow ones written from their descriptions."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, PruningError, prune, trace
from alpine_cli.pruning.config import SHARE_RULES
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import apply_plan, initial_tokens, tokens_after
from alpine_cli.pruning.planning import make_plan
from alpine_cli.pruning.rules import floor, keep_share, kept_count
from tests.pruning.families import ENGINES, make_batch, make_model, make_rows
from tests.reference import alpine as slow

LENGTHS = [34, 11, 1, 20, 2]
SETTINGS = {
    "floor": {"rule": "floor", "alpha": 0.5},
    "top": {"rule": "top", "keep": 0.7},
    "top by cls": {"rule": "top", "keep": 0.7, "score": "cls"},
    "random": {"rule": "random", "keep": 0.7},
    "first": {"rule": "first", "keep": 0.7},
    "schedule": {"rule": "top", "keep": "0.9,0.6,1,0.5"},
    "top nearest": {"rule": "top", "keep": 0.6, "merge": "nearest"},
    "top none": {"rule": "top", "keep": 0.6, "merge": "none"},
    "band nearest": {"rule": "band", "alpha": 0.7, "merge": "nearest"},
    "bipartite": {"rule": "bipartite", "keep": 0.75, "merge": "nearest"},
}


def config_of(name: str, **more: Any) -> PruningConfig:
    return PruningConfig("all", **{**SETTINGS[name], **more})  # type: ignore[arg-type]


lengths_of = st.lists(st.integers(0, 25), min_size=1, max_size=5)


@given(lengths=lengths_of, share=st.floats(0.01, 1), seed=st.integers(0, 999))
@settings(deadline=None)
def test_a_share_keeps_the_highest_ranks(lengths: list[int], share: float, seed: int) -> None:
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    generator = torch.Generator().manual_seed(seed)
    rank = torch.randint(0, 8, (ragged.total,), generator=generator)  # with ties
    ends = (ragged.position_T == 0) | (ragged.position_T == ragged.lengths_B[ragged.segment_T] - 1)
    keep = keep_share(rank, ends, ragged, [kept_count(n, share) for n in lengths])
    start = 0
    for n in lengths:
        by_rank = sorted(range(n), key=lambda i: (i not in (0, n - 1), -rank[start + i], i))
        count = max(math.ceil(round(share * n, 9)), min(n, 2))
        assert kept_count(n, share) == kept_count(n, share, protected=min(n, 2)) == count
        expected = [i in by_rank[:count] for i in range(n)]
        assert keep[start : start + n].tolist() == expected
        start += n


@given(lengths=lengths_of, alpha=st.floats(0.05, 2), seed=st.integers(0, 999))
@settings(deadline=None)
def test_floor_is_the_lower_half_of_the_band(lengths: list[int], alpha: float, seed: int) -> None:
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    generator = torch.Generator().manual_seed(seed)
    scores = torch.rand(ragged.total, generator=generator)
    protected = torch.rand(ragged.total, generator=generator) < 0.2
    keep = floor(scores, protected, ragged, alpha)
    start = 0
    for n in lengths:
        rows = slice(start, start + n)
        start += n
        free = scores[rows][~protected[rows]].tolist()
        mean = sum(free) / len(free) if free else 0.0
        sigma = math.sqrt(sum((v - mean) ** 2 for v in free) / len(free)) if free else 0.0
        for value, is_protected, stays in zip(
            scores[rows].tolist(), protected[rows].tolist(), keep[rows].tolist(), strict=True
        ):
            if abs(value - (mean - alpha * sigma)) > 1e-4:
                assert stays == (is_protected or value >= mean - alpha * sigma)


@pytest.mark.parametrize("family", ["roberta", "gpt2"])
@given(
    name=st.sampled_from([*SETTINGS, "band"]),
    seed=st.integers(0, 999),
    named=st.floats(0, 1),
    share=st.floats(0.05, 0.6),
)
@settings(deadline=None, max_examples=15)
@torch.no_grad()
def test_tokens_that_a_caller_names_always_stay(
    family: str, name: str, seed: int, named: float, share: float
) -> None:
    """However many they are: rules by share kept no more than their share of them."""
    model = make_model(family, seed=seed % 3)
    rows = make_rows([13, 1, 7, 20], seed)
    batch = make_batch(rows, model.config.pad_token_id)
    special = torch.rand(batch["input_ids"].shape) < named
    config = config_of(name) if name in SETTINGS else PruningConfig("all", alpha=0.3)
    if config.rule in SHARE_RULES:
        config = replace(config, keep=share)
    prune(model, config)
    with trace(model) as recorded:
        model(**batch, special_tokens_mask=special.long())
    call = recorded.calls[0]
    for b, row in enumerate(rows):
        asked = set(special[b, : len(row)].nonzero()[:, 0].tolist())
        for layer in call.layers:
            sample = layer.samples[b]
            assert asked <= set(sample.kept)
            assert len(sample.entered) == sample.length_in
        for layer, tokens in enumerate(call.tokens[1:]):  # what the host believed is what there is
            ragged = tokens.ragged
            assert ragged.cu_seqlens[-1] == ragged.total == len(tokens.source_T), layer


@pytest.mark.parametrize("name", list(SETTINGS))
@pytest.mark.parametrize("family", ["roberta", "modernbert", "t5"])
@torch.no_grad()
def test_engines_agree_and_rows_stand_alone(family: str, name: str) -> None:
    model = make_model(family)
    rows = make_rows(LENGTHS, seed=1)
    batch = make_batch(rows, model.config.pad_token_id)
    results = []
    for engine in ENGINES:
        prune(model, config_of(name, engine=engine))
        with trace(model) as recorded:
            results.append((model(**batch).last_hidden_state, recorded.calls[0].lengths))
    assert sum(results[0][1][-1]) < sum(LENGTHS)
    for hidden, lengths in results[1:]:
        assert lengths == results[0][1]
        torch.testing.assert_close(hidden, results[0][0], atol=1e-4, rtol=1e-4)
    prune(model, config_of(name))
    for b, row in enumerate(rows):
        alone = model(**make_batch([row], model.config.pad_token_id)).last_hidden_state[0]
        torch.testing.assert_close(results[0][0][b, : len(alone)], alone, atol=1e-4, rtol=1e-4)


def choose_by_share(share: float, score: str) -> slow.Choose:
    def choose(values: list[float], protected: list[bool], probs: torch.Tensor) -> list[bool]:
        n = len(values)
        ranks = values if score == "received" else probs[:, 0].mean(0).tolist()
        order = sorted(range(n), key=lambda i: (not protected[i], -ranks[i], i))
        count = max(math.ceil(round(share * n, 9)), min(n, 2))
        return [i in order[:count] for i in range(n)]

    return choose


@pytest.mark.parametrize("merge", ["mean", "none", "nearest"])
@pytest.mark.parametrize("score", ["received", "cls"])
@torch.no_grad()
def test_top_equals_the_slow_encoder(merge: Any, score: Any) -> None:
    """Proportional attention, sizes and the most similar token: all in float64, by loops."""
    model = make_model("roberta", seed=5)
    rows = make_rows([26, 17], seed=2)
    prune(model, PruningConfig("0,1,3", rule="top", keep=0.6, score=score, merge=merge))
    hidden = model(**make_batch(rows, 1)).last_hidden_state
    for b, row in enumerate(rows):
        expected = slow.encode_roberta(
            model, row, [0, 1, 3], merge=merge, choose=choose_by_share(0.6, score)
        )
        n = expected.lengths[-1]
        torch.testing.assert_close(hidden[b, :n].double(), expected.hidden, atol=1e-5, rtol=1e-5)
        assert not hidden[b, n:].any()


@torch.no_grad()
def test_band_with_nearest_equals_the_slow_encoder() -> None:
    model = make_model("roberta", seed=6)
    row = make_rows([31], seed=4)[0]
    prune(model, PruningConfig("all", alpha=0.8, merge="nearest"))
    hidden = model(**make_batch([row], 1)).last_hidden_state[0]
    expected = slow.encode_roberta(model, row, [0, 1, 2, 3], alpha=0.8, merge="nearest")
    assert expected.lengths[-1] < 25
    torch.testing.assert_close(hidden.double(), expected.hidden, atol=1e-5, rtol=1e-5)


def slow_bipartite(
    hidden: torch.Tensor, sizes: list[float], protected: list[bool], share: float
) -> tuple[torch.Tensor, list[float]]:
    """ToMe §3: alternate, match, merge the r best pairs by weighted average."""
    n = len(hidden)
    free = [i for i in range(n) if not protected[i]]
    first, second = free[0::2], free[1::2]
    r = min(n - max(math.ceil(round(share * n, 9)), min(n, 2)), len(first))
    pairs = []
    for a in first:
        likeness = [float(torch.cosine_similarity(hidden[a], hidden[b], dim=0)) for b in second]
        if likeness:
            best = max(likeness)
            pairs.append((best, a, second[likeness.index(best)]))
    pairs.sort(key=lambda pair: -pair[0])
    total = {i: hidden[i] * sizes[i] for i in range(n)}
    weight = dict(enumerate(sizes))
    for _, a, b in pairs[: max(0, r)]:
        total[b], weight[b] = total[b] + total.pop(a), weight[b] + weight.pop(a)
    kept = sorted(total)
    return torch.stack([total[i] / weight[i] for i in kept]), [weight[i] for i in kept]


@given(
    lengths=st.lists(st.integers(0, 18), min_size=1, max_size=4).filter(any),
    share=st.floats(0.3, 1),
    seed=st.integers(0, 999),
)
@settings(deadline=None)
def test_bipartite_merges_the_most_similar_pairs(
    lengths: list[int], share: float, seed: int
) -> None:
    """Three layers in a row, so that sizes other than 1 take part."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    tokens = initial_tokens(mask)
    tokens = type(tokens)(
        tokens.ragged, tokens.special_T, tokens.source_T, None, torch.ones(tokens.ragged.total)
    )
    hidden = torch.randn(tokens.ragged.total, 6, generator=generator, dtype=torch.float64)
    config = PruningConfig("all", rule="bipartite", keep=share, merge="nearest")
    by_hand = list(hidden.split(lengths))
    sizes = [[1.0] * n for n in lengths]
    for layer in range(3):
        special = [part.tolist() for part in tokens.special_T.split(list(tokens.ragged.lengths))]
        plan = make_plan(Evidence(tokens, hidden, None, layer, layer), config)
        hidden = apply_plan(hidden, plan)
        tokens = tokens_after(tokens, plan, layer)
        for b, protected in enumerate(special):
            if len(by_hand[b]):
                by_hand[b], sizes[b] = slow_bipartite(by_hand[b], sizes[b], protected, share)
        torch.testing.assert_close(hidden, torch.cat(by_hand), atol=1e-6, rtol=1e-6)
        assert tokens.size_T is not None
        assert tokens.size_T.tolist() == pytest.approx([s for part in sizes for s in part])
        # no token is lost, only merged
        assert tokens.ragged.sum_by_sequence(tokens.size_T).tolist() == pytest.approx(lengths)


@pytest.mark.parametrize("name", ["top nearest", "bipartite", "band nearest"])
def test_merging_by_size_trains(name: str) -> None:
    """Gradients flow through the average, and agree between packed and padded."""
    model = make_model("roberta")
    batch = make_batch(make_rows(LENGTHS), 1)
    gradients = []
    for engine in ("packed", "padded"):
        prune(model, config_of(name, engine=engine))
        model.zero_grad()
        model(**batch).last_hidden_state.pow(2).sum().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    for name_, gradient in gradients[0].items():
        scale = gradient.abs().max().clamp(min=1)
        torch.testing.assert_close(gradients[1][name_] / scale, gradient / scale, atol=1e-4, rtol=0)


def test_random_is_a_function_of_place_and_layer() -> None:
    """Roughly the share asked for, spread over the sequence, other tokens in other layers."""
    tokens = initial_tokens(torch.ones(1, 400, dtype=torch.bool))
    masks = [
        make_plan(
            Evidence(tokens, None, None, layer, layer),
            PruningConfig("all", rule="random", keep=0.5),
        ).keep_T
        for layer in (0, 1)
    ]
    for keep in masks:
        assert int(keep.sum()) == 200
        halves = keep.view(4, 100).sum(1)
        assert ((halves > 30) & (halves < 70)).all()
    assert 60 < int((masks[0] & masks[1]).sum()) < 140


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rule": "top", "keep": 0}, r"keep: must be a share in \(0, 1\]"),
        ({"rule": "top", "keep": "0.5,x"}, "keep: must be a share"),
        ({"rule": "top", "keep": True}, "keep: must be a share"),
        ({"rule": "top", "keep": math.nan}, "keep: must be a share"),
        ({"keep": 0.5}, "chooses by alpha and takes no share"),
        ({"rule": "bipartite", "keep": 0.5}, "set merge to 'nearest'"),
        ({"rule": "best"}, "rule: must be one of band"),
        ({"score": "mine"}, "score: must be one of received, cls"),
    ],
)
def test_bad_settings(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        PruningConfig("all", **fields)


def test_a_schedule_needs_a_share_per_pruned_layer() -> None:
    config = PruningConfig("0,2", rule="top", keep=" 0.9, 0.5 ")
    assert config.keep == "0.9,0.5"
    assert [config.share_at(step) for step in (0, 1)] == [0.9, 0.5]
    assert PruningConfig.from_dict(config.to_dict()) == config
    assert config.resolve(4) == (0, 2)
    with pytest.raises(PruningError, match="3 shares for 2 pruned layers"):
        PruningConfig("0,2", rule="top", keep="0.9,0.5,0.5").resolve(4)


def test_files_from_before_the_rules_stay_readable() -> None:
    old = {"layers": "even", "alpha": 0.9, "merge": "mean", "protect": "ends", "engine": "packed"}
    assert PruningConfig.from_dict(old) == PruningConfig("even", 0.9, "mean", "ends")
