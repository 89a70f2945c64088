"""Rules and layouts by kernel, against the plain ones."""

from __future__ import annotations

import random

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, kernels
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.kernels.selection import keep_by_spread
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import PruningPlan, TokenState, tokens_after
from alpine_cli.pruning.planning import make_plan
from alpine_cli.pruning.rules import floor
from alpine_cli.pruning.selection import TOLERANCE, band, plan_keep
from tests.reference import alpine as slow

lengths_of = st.lists(st.integers(0, 12), min_size=1, max_size=5)
by_interpreter = settings(
    deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def ragged_on(device: torch.device, lengths: list[int]) -> Ragged:
    return Ragged.from_lengths(torch.tensor(lengths, device=device), lengths)


def drawn(ragged: Ragged, seed: int, share: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores and a mask that holds for about `share` of the tokens."""
    generator = torch.Generator().manual_seed(seed)
    scores_T = torch.rand(ragged.total, generator=generator)
    mask_T = torch.rand(ragged.total, generator=generator) < share
    return scores_T.to(ragged.segment_T.device), mask_T.to(ragged.segment_T.device)


@given(lengths=lengths_of, alpha=st.floats(0.05, 3), seed=st.integers(0, 999))
@by_interpreter
def test_rules_equal_their_twins(
    device: torch.device, lengths: list[int], alpha: float, seed: int
) -> None:
    ragged = ragged_on(device, lengths)
    scores_T, protected_T = drawn(ragged, seed, 0.2)
    for rule, two_sided in ((band, True), (floor, False)):
        keep_T, kept_B = keep_by_spread(
            scores_T, protected_T, ragged, alpha, TOLERANCE, two_sided=two_sided
        )
        assert torch.equal(keep_T, rule(scores_T, protected_T, ragged, alpha))
        assert torch.equal(kept_B, ragged.sum_by_sequence(keep_T.to(torch.int64)))


def test_band_equals_the_slow_rule_over_several_blocks(device: torch.device) -> None:
    """More tokens than a block holds; half precision scores; ties and equal scores stay."""
    ragged = ragged_on(device, [2100, 4, 6])
    scores_T, protected_T = drawn(ragged, 0, 0.01)
    scores_T[-6:], protected_T[-10:] = 0.1, False
    scores_T[2100:2102], protected_T[2100:2102] = 0.0, True  # two left: both on the band
    for scores in (scores_T, scores_T.to(torch.bfloat16)):
        keep_T, kept_B = keep_by_spread(scores, protected_T, ragged, 1.0, TOLERANCE, two_sided=True)
        values, shield = scores[:2100].double().tolist(), protected_T[:2100].tolist()
        assert slow.margin(values, shield, 1.0) > 1e-9
        assert keep_T[:2100].tolist() == slow.keep(values, shield, 1.0)
        assert keep_T[2100:].all()
        assert kept_B.tolist() == [int(keep_T[:2100].sum()), 4, 6]


def test_thresholds_are_float64(device: torch.device) -> None:
    """α that float32 does not hold: a score between both thresholds falls as in the twin."""
    ragged = ragged_on(device, [3])
    scores_T = torch.tensor([0.0, 1.0, 1e8], dtype=torch.float64, device=device)
    free_T = torch.zeros(3, dtype=torch.bool, device=device)
    mean, sigma = scores_T.mean().item(), scores_T.std(correction=0).item()
    alpha = (1e8 - mean) / sigma  # the last score lies on the band but for rounding
    for nudged in (alpha * (1 - 1e-9), alpha * (1 + 1e-9)):
        keep_T, _ = keep_by_spread(scores_T, free_T, ragged, nudged, 0.0, two_sided=True)
        expected = (scores_T - mean).abs() <= nudged * sigma
        assert torch.equal(keep_T, expected)


@given(
    lengths=lengths_of,
    share=st.sampled_from([0.0, 0.5, 0.8, 1.0]),
    merge=st.sampled_from(["mean", "none"]),
    causal=st.booleans(),
    host_knows=st.booleans(),
    seed=st.integers(0, 999),
)
@by_interpreter
def test_plans_equal_plain_ones(
    device: torch.device,
    lengths: list[int],
    share: float,
    merge: str,
    causal: bool,
    host_knows: bool,
    seed: int,
) -> None:
    ragged = ragged_on(device, lengths)
    _, keep_T = drawn(ragged, seed, share)
    host_kept = ragged.sum_by_sequence(keep_T.to(torch.int64)).tolist() if host_knows else None
    plans = []
    for on in (True, False):
        with kernels.forced(on):
            plans.append(plan_keep(keep_T, ragged, merge, host_kept, causal=causal))  # type: ignore[arg-type]
    assert_equal_plans(*plans)


def test_plans_of_many_and_of_long_sequences(device: torch.device) -> None:
    """More sequences, and longer ones, than one block of the kernel holds."""
    generator = random.Random(1)
    many = [generator.randint(0, 3) for _ in range(130)]
    for lengths, causal in ((many, False), ([1500, 3], False), ([1500, 3], True)):
        ragged = ragged_on(device, lengths)
        _, keep_T = drawn(ragged, 7, 0.6)
        with kernels.forced():
            ours = plan_keep(keep_T, ragged, "mean", causal=causal)
        with kernels.forced(False):
            theirs = plan_keep(keep_T, ragged, "mean", causal=causal)
        assert_equal_plans(ours, theirs)


def assert_equal_plans(ours: PruningPlan, theirs: PruningPlan) -> None:
    assert ours.after.lengths == theirs.after.lengths
    assert ours.removes == theirs.removes
    assert ours.causal == theirs.causal
    for name in ("keep_T", "slot_T", "merged_row_B", "removed_B", "weight_T"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name
    for name in ("cu_seqlens", "segment_T", "position_T"):
        assert torch.equal(getattr(ours.after, name), getattr(theirs.after, name)), name
    slots = theirs.slot_T.tolist()
    expected: list[list[int]] = [[] for _ in range(theirs.after.total + 1)]
    for token, slot in enumerate(slots):
        expected[slot].append(token)
    assert (ours.found_members is not None) == (ours.before.total > 0)
    for plan in (ours, theirs):
        order, first, count = (
            x.tolist() for x in (plan.members.order_T, plan.members.first_R, plan.members.count_R)
        )
        assert [
            order[first[row] : first[row] + count[row]] for row in range(plan.after.total)
        ] == expected[:-1]


@given(
    lengths=lengths_of,
    merge=st.sampled_from(["mean", "none", "nearest"]),
    causal=st.booleans(),
    seed=st.integers(0, 999),
)
@by_interpreter
def test_tokens_are_carried_as_by_the_twin(
    device: torch.device, lengths: list[int], merge: str, causal: bool, seed: int
) -> None:
    """Over two layers, so that merged tokens are among those that go."""
    ragged = ragged_on(device, lengths)
    last_T = ragged.position_T == ragged.lengths_B[ragged.segment_T] - 1
    after = []
    for on in (True, False):
        sizes_T = torch.ones(ragged.total, device=device) if merge == "nearest" else None
        tokens = TokenState(
            ragged,
            (ragged.position_T == 0) | last_T,
            ragged.position_T,
            size_T=sizes_T,
            place_T=ragged.position_T if causal else None,
            read_T=last_T if causal else None,
        )
        config = PruningConfig("all", rule="top", keep=0.6, merge=merge)  # type: ignore[arg-type]
        for layer in range(2):
            total = tokens.ragged.total
            scores_T, _ = drawn(tokens.ragged, seed + layer, 0)
            hidden_TD = scores_T[:, None] * torch.ones(total, 2, device=device)
            with kernels.forced(on):
                plan = make_plan(Evidence(tokens, hidden_TD, scores_T, layer, layer), config)
                tokens = tokens_after(tokens, plan, layer)
        after.append(tokens)
    ours, theirs = after
    assert ours.ragged.lengths == theirs.ragged.lengths
    for name in ("source_T", "special_T", "size_T", "place_T", "read_T"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert (mine is None and other is None) or torch.equal(mine, other), name
