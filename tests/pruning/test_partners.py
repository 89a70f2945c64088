"""Partners chosen one sequence after the other and all at once are the same ones."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, kernels, partners
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import TokenState
from alpine_cli.pruning.planning import make_plan


def evidence_of(lengths: list[int], seed: int, causal: bool, knows: bool) -> Evidence:
    """Tokens along few axes: many are equal, and products of unit vectors are exact."""
    generator = torch.Generator().manual_seed(seed)
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    axes = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    hidden_TD = axes[torch.randint(0, 4, (ragged.total,), generator=generator)]
    last_T = ragged.lengths_B[ragged.segment_T] - 1
    special_T = (ragged.position_T == 0) | (ragged.position_T == last_T)
    counts = tuple(min(n, 2) for n in lengths)
    if not knows:  # as the caller's special_tokens_mask may say
        special_T |= torch.rand(ragged.total, generator=generator) < 0.2
    tokens = TokenState(
        ragged,
        special_T,
        ragged.position_T,
        size_T=torch.ones(ragged.total),
        place_T=ragged.position_T if causal else None,
        special_counts=counts if knows else None,
    )
    scores_T = torch.rand(ragged.total, generator=generator)
    return Evidence(tokens, hidden_TD, scores_T, 0, 0)


@pytest.mark.parametrize("cuda", [False, True], ids=["one by one", "at once"])
@pytest.mark.parametrize(
    "fields", [{"rule": "top"}, {"rule": "bipartite"}], ids=["nearest", "pairs"]
)
def test_autocast_does_not_choose(fields: dict[str, Any], cuda: bool) -> None:
    """Hidden states are alike; rounded to bfloat16, a token's best partners tie."""
    evidence = evidence_of([96, 31], seed=0, causal=False, knows=True)
    generator = torch.Generator().manual_seed(1)
    hidden_TD = torch.randn(1, 64, generator=generator)
    hidden_TD = hidden_TD + 0.3 * torch.randn(127, 64, generator=generator)
    evidence = replace(evidence, hidden_TD=hidden_TD)
    config = PruningConfig("all", keep=0.6, merge="nearest", **fields)
    with kernels.forced(cuda):
        exact = make_plan(evidence, config)
        with torch.autocast("cpu", torch.bfloat16):
            rounded = make_plan(evidence, config)
    assert rounded.slot_T.equal(exact.slot_T)
    assert rounded.keep_T.equal(exact.keep_T)


@pytest.mark.parametrize("chunk", [1, 40, 1 << 24], ids=["rows", "sequences", "all"])
@pytest.mark.parametrize(
    "fields",
    [
        {"rule": "band", "alpha": 0.5},
        {"rule": "top", "keep": 0.5, "protect": "ends"},
        {"rule": "bipartite", "keep": 0.6},
        {"rule": "bipartite", "keep": 0.8, "protect": "ends"},
    ],
    ids=["band", "top", "bipartite", "bipartite ends"],
)
@given(
    lengths=st.lists(st.integers(0, 15), min_size=1, max_size=4),
    seed=st.integers(0, 9999),
    causal=st.booleans(),
    knows=st.booleans(),
)
@settings(deadline=None, max_examples=25)
def test_ties_included(
    fields: dict[str, Any], chunk: int, lengths: list[int], seed: int, causal: bool, knows: bool
) -> None:
    evidence = evidence_of(lengths, seed, causal, knows)
    config = PruningConfig("all", merge="nearest", **fields)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partners, "_CHUNK", chunk)
        # no kernels on a CPU without the interpreter: this part is plain PyTorch either way
        patch.setattr(kernels, "available", lambda device: False)
        with kernels.forced(False):
            slow = make_plan(evidence, config)
        with kernels.forced():
            fast = make_plan(evidence, config)
    assert fast.after.lengths == slow.after.lengths
    assert torch.equal(fast.keep_T, slow.keep_T)
    assert torch.equal(fast.slot_T, slow.slot_T)
    assert fast.removes == slow.removes
