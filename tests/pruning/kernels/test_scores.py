"""Column sums of the attention matrix, against the matrix."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import kernels
from alpine_cli.pruning.kernels.scores import (
    log_sum_exp,
    log_sum_exp_plain,
    received,
    received_plain,
)
from alpine_cli.pruning.packed import Ragged, pack, unpack
from alpine_cli.pruning.scoring import received_attention, received_by_later

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def made(
    lengths: list[int], heads: int, dim: int, dtype: torch.dtype, seed: int, fused: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, Ragged]:
    """Queries, keys (T, H, d), as slices of one projection or with heads outermost; key biases."""
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    generator = torch.Generator().manual_seed(seed)
    if fused:
        all_T3Hd = torch.randn(ragged.total, 3, heads, dim, generator=generator).to(dtype)
        q_THd, k_THd = all_T3Hd[:, 0], all_T3Hd[:, 1]
    else:
        both_2HTd = torch.randn(2, heads, ragged.total, dim, generator=generator).to(dtype)
        q_THd, k_THd = both_2HTd.transpose(1, 2)
    return q_THd, k_THd, torch.randn(ragged.total, generator=generator), ragged


def slow(
    q_THd: torch.Tensor,
    k_THd: torch.Tensor,
    ragged: Ragged,
    scaling: float,
    bias_T: torch.Tensor | None,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(H, T) log-sum-exp and (T,) scores of a padded attention matrix in float64."""
    q, k = (unpack(x.double(), ragged).transpose(1, 2) for x in (q_THd, k_THd))
    logits = q @ k.transpose(2, 3) * scaling
    if bias_T is not None:
        logits = logits + unpack(bias_T.double(), ragged)[:, None, None]
    mask_BL = ragged.mask_BL | (ragged.lengths_B[:, None] == 0)
    logits = logits.masked_fill(~mask_BL[:, None, None], -torch.inf)
    if causal:
        later = torch.ones(logits.shape[-2:], dtype=torch.bool).triu(1)
        logits = logits.masked_fill(later, -torch.inf)
    score = received_by_later if causal else received_attention
    scores_BL = score(logits.softmax(-1), ragged.mask_BL)
    return pack(logits.logsumexp(-1).transpose(1, 2), ragged).T, pack(scores_BL, ragged)


setups = {
    "lengths": st.lists(st.integers(0, 40), min_size=1, max_size=3).filter(any),
    "heads": st.integers(1, 2),
    "dim": st.sampled_from([8, 16, 24]),
    "biased": st.booleans(),
    "causal": st.booleans(),
    "fused": st.booleans(),
    "seed": st.integers(0, 999),
}


@given(**setups)
@settings(deadline=None, max_examples=30)
def test_twins_equal_the_matrix(
    lengths: list[int],
    heads: int,
    dim: int,
    biased: bool,
    causal: bool,
    fused: bool,
    seed: int,
) -> None:
    q, k, bias, ragged = made(lengths, heads, dim, torch.float32, seed, fused)
    bias_T = bias if biased else None
    expected_lse, expected = slow(q, k, ragged, 0.4, bias_T, causal)
    lse = log_sum_exp_plain(q, k, ragged, scaling=0.4, key_bias_T=bias_T, causal=causal)
    scores = received_plain(q, k, lse, ragged, scaling=0.4, key_bias_T=bias_T, causal=causal)
    torch.testing.assert_close(lse, expected_lse.float(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(scores, expected, atol=1e-6, rtol=1e-5)


@given(**setups, dtype=st.sampled_from(list(DTYPES)))
@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_kernels_equal_their_twins(
    device: torch.device,
    lengths: list[int],
    heads: int,
    dim: int,
    biased: bool,
    causal: bool,
    fused: bool,
    seed: int,
    dtype: str,
) -> None:
    compare(device, made(lengths, heads, dim, DTYPES[dtype], seed, fused), biased, causal)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("dim", "dtype"), [(72, "float32"), (96, "bfloat16"), (128, "float16")])
def test_wide_heads_and_several_blocks(
    device: torch.device, dim: int, dtype: str, causal: bool
) -> None:
    """Dimensions that are padded, sequences of one token, of whole blocks and of more."""
    compare(device, made([1, 130, 0, 64], 1, dim, DTYPES[dtype], 0, True), True, causal)


def compare(
    device: torch.device,
    inputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor, Ragged],
    biased: bool,
    causal: bool,
) -> None:
    q, k, bias, ragged = inputs
    q, k, bias = q.to(device), k.to(device), bias.to(device)
    ragged = Ragged.from_lengths(ragged.lengths_B.to(device), ragged.lengths)
    scaling = q.shape[2] ** -0.5
    bias_T = bias if biased else None
    with kernels.forced():
        assert kernels.chosen(device)
        lse = log_sum_exp(q, k, ragged, scaling=scaling, key_bias_T=bias_T, causal=causal)
        # heads innermost: as some attention kernels return it
        other = lse.T.contiguous().T
        scores = received(q, k, other, ragged, scaling=scaling, key_bias_T=bias_T, causal=causal)
        again = received(q, k, other, ragged, scaling=scaling, key_bias_T=bias_T, causal=causal)
    with kernels.forced(False):
        expected_lse = log_sum_exp(q, k, ragged, scaling=scaling, key_bias_T=bias_T, causal=causal)
        expected = received(
            q, k, expected_lse, ragged, scaling=scaling, key_bias_T=bias_T, causal=causal
        )
    assert torch.equal(scores, again)
    torch.testing.assert_close(lse, expected_lse, atol=5e-6, rtol=1e-6)
    torch.testing.assert_close(scores, expected, atol=1e-7, rtol=1e-5)


def test_keys_that_a_bias_hides(device: torch.device) -> None:
    """A whole block of −∞ before the first key that is seen."""
    q, k, bias, ragged = made([80], 1, 16, torch.float32, 3, True)
    bias[:64] = -torch.inf
    q, k, bias = q.to(device), k.to(device), bias.to(device)
    ragged = Ragged.from_lengths(torch.tensor([80], device=device), [80])
    with kernels.forced():
        lse = log_sum_exp(q, k, ragged, scaling=0.3, key_bias_T=bias)
        scores = received(q, k, lse, ragged, scaling=0.3, key_bias_T=bias)
    expected = log_sum_exp_plain(q, k, ragged, scaling=0.3, key_bias_T=bias)
    torch.testing.assert_close(lse, expected, atol=5e-6, rtol=1e-6)
    assert not scores[:64].any()
    assert scores.sum().item() == pytest.approx(1.0, abs=1e-5)


def test_what_the_kernels_do_not_take_goes_to_the_twins(device: torch.device) -> None:
    """float64, heads wider than tiles, and no tokens at all."""
    q, k, _, ragged = made([5, 3], 2, 8, torch.float64, 0, True)
    wide_q, wide_k, _, _ = made([5, 3], 1, 160, torch.float32, 0, True)
    nothing = Ragged.from_lengths(torch.tensor([0, 0]))
    with kernels.forced():
        for one, other in ((q, k), (wide_q, wide_k)):
            lse = log_sum_exp(one, other, ragged, scaling=0.1)
            scores = received(one, other, lse, ragged, scaling=0.1)
            torch.testing.assert_close(scores.split([5, 3])[0].sum(), torch.tensor(1.0))
        lse = log_sum_exp(q[:0], k[:0], nothing, scaling=0.1)
        assert lse.shape == (2, 0)
        assert received(q[:0], k[:0], lse, nothing, scaling=0.1).shape == (0,)
