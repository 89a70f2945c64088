"""Attention back ends against attention written out with loops; scores and gradients included."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning.attention import (
    Attend,
    attend_padded,
    attend_per_sequence,
    per_sequence,
)
from alpine_cli.pruning.bias import SizeBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.scoring import token_scores

BACKENDS = [attend_per_sequence, attend_padded]


def by_hand(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    lengths: list[int],
    scaling: float,
    score: str | None = "received",
    sizes: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Softmax attention of each sequence and head, one after the other.

    With sizes, each key counts as often as its size says.
    """
    outs, received, start = [], [], 0
    for n in lengths:
        rows = slice(start, start + n)
        start += n
        heads, total = [], torch.zeros(n, dtype=q.dtype)
        for head in range(q.shape[1]):
            logits = q[rows, head] @ k[rows, head].T * scaling
            counts = torch.ones(n) if sizes is None else sizes[rows]
            weights = logits.exp() * counts
            weights = weights / weights.sum(-1, keepdim=True)
            heads.append(weights @ v[rows, head])
            queries = weights[:1] if score == "cls" else weights
            total = total + queries.sum(0) / max(1, len(queries))
        outs.append(torch.stack(heads, 1))
        received.append(total / q.shape[1])
    return torch.cat(outs), torch.cat(received)


def random_qkv(total: int, seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(total, 3, 8, generator=generator) for _ in range(3)]


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=5).filter(any),
    seed=st.integers(0, 1000),
    backend=st.sampled_from(BACKENDS),
    score=st.sampled_from([None, "received", "cls"]),
    grad=st.booleans(),
    sized=st.booleans(),
)
def test_equal_to_attention_by_hand(
    lengths: list[int], seed: int, backend: Attend, score: Score | None, grad: bool, sized: bool
) -> None:
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    q, k, v = (x.requires_grad_(grad) for x in random_qkv(ragged.total, seed))
    scaling = 1 / math.sqrt(8)
    sizes = torch.arange(1.0, ragged.total + 1) if sized else None
    bias = None if sizes is None else SizeBias(sizes)
    expected, expected_scores = by_hand(q, k, v, lengths, scaling, score, sizes)
    attended = backend(q, k, v, ragged, scaling=scaling, dropout=0.0, score=score, bias=bias)
    torch.testing.assert_close(attended.out_THd, expected, atol=1e-5, rtol=1e-5)
    if score:
        assert attended.scores_T is not None
        assert not attended.scores_T.requires_grad
        torch.testing.assert_close(
            attended.scores_T, expected_scores.detach(), atol=1e-6, rtol=1e-5
        )
    else:
        assert attended.scores_T is None
    if grad:
        weights = torch.randn_like(expected)
        ours = torch.autograd.grad((attended.out_THd * weights).sum(), (q, k, v))
        theirs = torch.autograd.grad((expected * weights).sum(), (q, k, v))
        for mine, slow in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("score", ["received", "cls"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sized", [False, True])
def test_scores_do_not_depend_on_the_chunking(
    monkeypatch: pytest.MonkeyPatch, score: Score, causal: bool, sized: bool
) -> None:
    """One query at a time, a few (the last chunk is a shorter one), two heads, all at once."""
    ragged = Ragged.from_lengths(torch.tensor([40, 7]))
    q, k, v = random_qkv(47, seed=1)
    bias = SizeBias(torch.arange(1.0, 48)) if sized else None
    how: dict[str, Any] = {"scaling": 0.3, "dropout": 0.0, "score": score, "bias": bias}
    results = []
    for budget in (1, 4 * 40 * 11, 4 * 40 * 40 * 2, 1 << 30):
        monkeypatch.setattr(per_sequence, "_CHUNK_BYTES", budget)
        results.append(attend_per_sequence(q, k, v, ragged, causal=causal, **how))
    for other in results[1:]:
        torch.testing.assert_close(results[0].scores_T, other.scores_T, atol=1e-7, rtol=2e-6)
        torch.testing.assert_close(results[0].out_THd, other.out_THd, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("score", ["received", None])
def test_dropout_drops_probabilities_and_not_scores(backend: Attend, score: Score | None) -> None:
    """On average dropout changes nothing; in one draw it does, but the scores stay."""
    ragged = Ragged.from_lengths(torch.tensor([30]))
    q, k, v = random_qkv(30, seed=2)
    plain = backend(q, k, v, ragged, scaling=0.3, dropout=0.0, score=score)
    torch.manual_seed(0)
    draws = [backend(q, k, v, ragged, scaling=0.3, dropout=0.2, score=score) for _ in range(300)]
    assert not torch.allclose(draws[0].out_THd, plain.out_THd)
    mean = torch.stack([draw.out_THd for draw in draws]).mean(0)
    torch.testing.assert_close(mean, plain.out_THd, atol=0.15, rtol=0)
    if score:
        torch.testing.assert_close(draws[0].scores_T, plain.scores_T)


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_scores_are_summed_in_float32(backend: Attend) -> None:
    """From the same bfloat16 queries and keys, scores agree with float64 far below bfloat16."""
    ragged = Ragged.from_lengths(torch.tensor([64]))
    q, k, v = (x.bfloat16() for x in random_qkv(64, seed=3))
    attended = backend(q, k, v, ragged, scaling=0.25, dropout=0.0, score="received")
    assert attended.scores_T is not None
    assert attended.scores_T.dtype == torch.float32
    assert attended.out_THd.dtype == torch.bfloat16
    _, expected = by_hand(q.double(), k.double(), v.double(), [64], 0.25)
    # what remains is the rounding of the bfloat16 logits, averaged over 3 × 64 rows
    torch.testing.assert_close(attended.scores_T.double(), expected, atol=0, rtol=2e-2)


@pytest.mark.parametrize("causal", [False, True])
def test_autocast_rounds_no_scores(causal: bool) -> None:
    """It would: sums over queries are matrix products, which it turns into half precision."""
    probs = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0)).softmax(-1)
    mask = torch.arange(9) < torch.tensor([[9], [4]])
    expected = token_scores(probs, "received", mask, causal)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_scores(probs, "received", mask, causal)
    assert torch.equal(found, expected)
