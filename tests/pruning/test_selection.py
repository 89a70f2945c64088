"""The band rule and plans, against loops over plain numbers and against what must always hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged, pack, unpack
from alpine_cli.pruning.plan import apply_plan, initial_tokens, tokens_after
from alpine_cli.pruning.planning import make_plan
from alpine_cli.pruning.scoring import received_attention
from alpine_cli.pruning.selection import band, plan_keep
from tests.reference import alpine as slow

lengths_strategy = st.lists(st.integers(0, 12), min_size=1, max_size=6)


def ragged_of(lengths: list[int]) -> Ragged:
    return Ragged.from_lengths(torch.tensor(lengths))


def segments(values: torch.Tensor, ragged: Ragged) -> list[torch.Tensor]:
    return list(values.split(list(ragged.lengths)))


@given(lengths=lengths_strategy, seed=st.integers(0, 10_000), alpha=st.floats(0.05, 3))
def test_band_equals_the_slow_rule(lengths: list[int], seed: int, alpha: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    ragged = ragged_of(lengths)
    scores = torch.rand(ragged.total, generator=generator)
    protected = torch.rand(ragged.total, generator=generator) < 0.2
    keep = band(scores, protected, ragged, alpha)
    rows = zip(
        segments(scores, ragged), segments(protected, ragged), segments(keep, ragged), strict=True
    )
    for scores_n, protected_n, keep_n in rows:
        values, shield = scores_n.double().tolist(), protected_n.tolist()
        if slow.margin(values, shield, alpha) > 1e-9:
            assert keep_n.tolist() == slow.keep(values, shield, alpha)


@given(
    lengths=lengths_strategy, seed=st.integers(0, 10_000), merge=st.sampled_from(["mean", "none"])
)
def test_plans_move_every_token_where_they_say(lengths: list[int], seed: int, merge: str) -> None:
    """Kept rows unchanged and in order, then the mean of the removed; weights sum to one a slot."""
    generator = torch.Generator().manual_seed(seed)
    ragged = ragged_of(lengths)
    keep = torch.rand(ragged.total, generator=generator) < 0.6
    hidden = torch.randn(ragged.total, 5, generator=generator)
    plan = plan_keep(keep, ragged, merge)  # type: ignore[arg-type]
    out = apply_plan(hidden, plan)
    assert out.shape == (plan.after.total, 5)
    for before, stays, after in zip(
        segments(hidden, ragged), segments(keep, ragged), segments(out, plan.after), strict=True
    ):
        kept, removed = before[stays], before[~stays]
        assert torch.equal(after[: len(kept)], kept)
        if merge == "mean" and len(removed):
            torch.testing.assert_close(after[len(kept) :], removed.mean(0, keepdim=True))
        else:
            assert len(after) == len(kept)
    assert plan.removes == (not bool(keep.all()))
    used = plan.slot_T < plan.after.total
    per_slot = torch.zeros(plan.after.total).index_add(0, plan.slot_T[used], plan.weight_T[used])
    torch.testing.assert_close(per_slot, torch.ones(plan.after.total))


@given(lengths=lengths_strategy, seed=st.integers(0, 10_000))
def test_packing_and_unpacking_are_inverse(lengths: list[int], seed: int) -> None:
    ragged = ragged_of(lengths)
    packed = torch.randn(ragged.total, 3, generator=torch.Generator().manual_seed(seed))
    padded = unpack(packed, ragged)
    assert padded.shape == (len(lengths), max(1, *lengths, 0), 3)
    assert torch.equal(pack(padded, ragged), packed)
    assert torch.equal(padded[ragged.mask_BL], packed)
    assert not padded[~ragged.mask_BL].any()


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    protect=st.sampled_from(["special", "ends"]),
    seed=st.integers(0, 10_000),
)
def test_tokens_are_followed_through_several_layers(
    lengths: list[int], protect: str, seed: int
) -> None:
    """Sources and special tokens after three pruned layers, against lists moved by hand."""
    generator = torch.Generator().manual_seed(seed)
    width = max(lengths)
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    tokens = initial_tokens(mask)
    config = PruningConfig(layers="all", alpha=0.8, protect=protect)  # type: ignore[arg-type]
    by_hand = [list(range(length)) for length in lengths]
    for layer in range(3):
        scores = torch.rand(tokens.ragged.total, generator=generator)
        plan = make_plan(Evidence(tokens, None, scores, layer, layer), config)
        for b, keep_n in enumerate(segments(plan.keep_T, tokens.ragged)):
            stays = keep_n.tolist()
            merged = [-(layer + 1)] if not all(stays) else []
            by_hand[b] = [s for s, stay in zip(by_hand[b], stays, strict=True) if stay] + merged
        tokens = tokens_after(tokens, plan, layer)
        assert [s.tolist() for s in segments(tokens.source_T, tokens.ragged)] == by_hand
        special = [s.tolist() for s in segments(tokens.special_T, tokens.ragged)]
        if protect == "special":
            expected = [
                [s in (0, length - 1) for s in sources]
                for sources, length in zip(by_hand, lengths, strict=True)
            ]
            assert special == expected


@pytest.mark.parametrize("alpha", [0.3, 1.0, 2.0])
def test_ties_stay(alpha: float) -> None:
    """Equal scores have no spread: nothing goes, also where rounding makes them differ a little."""
    ragged = ragged_of([6])
    protected = torch.tensor([True, False, False, False, False, True])
    noise = torch.tensor([0.0, 1e-8, -1e-8, 2e-8, 0.0, 0.0])
    assert band(torch.full((6,), 0.1) + noise, protected, ragged, alpha).all()


def test_two_scorable_tokens_lie_on_the_band_and_stay() -> None:
    """At α = 1 both lie exactly on μ ± σ, which belongs to the band."""
    ragged = ragged_of([4])
    protected = torch.tensor([True, False, False, True])
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        assert band(torch.rand(4, generator=generator), protected, ragged, 1.0).all()


@pytest.mark.parametrize("lengths", [[0], [0, 0], [1], [2], [0, 2, 1]])
def test_nothing_scorable_keeps_everything(lengths: list[int]) -> None:
    width = max(1, *lengths, 0)
    tokens = initial_tokens(torch.arange(width) < torch.tensor(lengths)[:, None])
    evidence = Evidence(tokens, None, torch.rand(tokens.ragged.total), 0, 0)
    plan = make_plan(evidence, PruningConfig(layers="all"))
    assert plan.keep_T.all()
    assert not plan.removes
    assert plan.after.lengths == tuple(lengths)


def test_high_scores_go_too() -> None:
    """The published band removes on both sides."""
    scores = torch.tensor([0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.9, 0.5])
    protected = torch.tensor([True, *[False] * 7, True])
    keep = band(scores, protected, ragged_of([9]), 1.0)
    assert keep.tolist() == [True] * 7 + [False, True]


@given(seed=st.integers(0, 1000), length=st.integers(1, 9), padding=st.integers(0, 5))
def test_scores_ignore_padded_queries(seed: int, length: int, padding: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = length + padding
    logits = torch.randn(1, 3, width, width, generator=generator)
    mask = (torch.arange(width) < length)[None]
    probs = logits.masked_fill(~mask[:, None, None], -torch.inf).softmax(-1)
    received = received_attention(probs, mask)
    expected = slow.scores(probs[0, :, :length, :length])
    torch.testing.assert_close(received[0, :length].double(), torch.tensor(expected).double())
    assert not received[0, length:].any()
