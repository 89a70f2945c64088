"""Back ends for GPUs against attention per sequence: values, scores, gradients, and what they ask.

Nested tensors are the real ones, on the CPU; flash kernels are stand-ins, see `libraries`.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.nn.attention import varlen
from torch.utils._python_dispatch import TorchDispatchMode

from alpine_cli.pruning.attention import (
    Attend,
    attend_flash_attn,
    attend_nested,
    attend_padded,
    attend_per_sequence,
    attend_varlen,
    fused,
    padded,
)
from alpine_cli.pruning.attention.availability import Availability
from alpine_cli.pruning.bias import LogitBias, PositionBias, SizeBias, SumOfBiases, Window
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged
from tests.pruning.attention.libraries import FlashKernel, varlen_attn
from tests.pruning.test_synchronisations import watched

FLASH = [attend_varlen, attend_flash_attn]
FUSED = [*FLASH, attend_nested]


def random_qkv(total: int, head: int, seed: int = 0, heads: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(total, heads, head, generator=generator) for _ in range(3)]


def bias_of(kind: str, total: int) -> LogitBias | None:
    sizes = SizeBias(1 + torch.arange(total).float() % 7)
    return {"none": None, "sizes": sizes, "sum": SumOfBiases((sizes, sizes))}[kind]


@settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=5).filter(any),
    attend=st.sampled_from(FUSED),
    layout=st.sampled_from(["HT", "TH", "BHL"]),
    head=st.sampled_from([5, 8, 16]),
    score=st.sampled_from([None, "received", "cls"]),
    bias=st.sampled_from(["none", "sizes", "sum"]),
    causal=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equal_to_per_sequence(
    kernel: FlashKernel,
    lengths: list[int],
    attend: Attend,
    layout: str,
    head: int,
    score: Score | None,
    bias: str,
    causal: bool,
    seed: int,
) -> None:
    causal = causal and attend is not attend_nested  # which is not causal on a CPU
    kernel.layout = layout
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    q, k, v = (x.requires_grad_() for x in random_qkv(ragged.total, head, seed))
    # as many tokens as heads: shapes do not tell this layout from the one that CUDA writes
    assume(layout != "TH" or ragged.total != q.shape[1])
    how: dict[str, Any] = {
        "scaling": 0.3,
        "dropout": 0.0,
        "score": score,
        "bias": bias_of(bias, ragged.total),
        "causal": causal,
    }
    ours, theirs = attend(q, k, v, ragged, **how), attend_per_sequence(q, k, v, ragged, **how)
    assert ours.out_THd.shape == theirs.out_THd.shape
    torch.testing.assert_close(ours.out_THd, theirs.out_THd, atol=1e-5, rtol=1e-5)
    if score is None:
        assert ours.scores_T is None
    else:
        assert ours.scores_T is not None
        assert not ours.scores_T.requires_grad
        assert ours.scores_T.dtype == torch.float32
        torch.testing.assert_close(ours.scores_T, theirs.scores_T, atol=1e-6, rtol=1e-5)
    weights = torch.randn_like(theirs.out_THd)
    gradients = [
        torch.autograd.grad((found.out_THd * weights).sum(), (q, k, v)) for found in (ours, theirs)
    ]
    for mine, slow in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("scaling", [0.125, 1.0])
def test_a_key_bias_rides_along_in_the_products(dtype: torch.dtype, scaling: float) -> None:
    """From the same inputs the logits are those with the bias added, to float32's last bits."""
    q, k, v = (x.to(dtype) for x in random_qkv(40, 64))
    bias_T = torch.linspace(0.001, 6.3, 40)  # up to the logarithm of 512 tokens
    wide_q, wide_k, wide_v = fused.widen(q, k, v, scaling, bias_T)
    assert wide_q.dtype == wide_k.dtype == wide_v.dtype == dtype
    assert wide_q.shape == wide_k.shape == wide_v.shape == (40, 3, 72)
    products = [
        torch.einsum("qhd,khd->hqk", *pair)
        for pair in ((wide_q.double(), wide_k.double()), (q.double(), k.double()))
    ]
    found = scaling * products[0] - scaling * products[1]
    torch.testing.assert_close(found, bias_T.double().expand_as(found), atol=2e-6, rtol=1e-6)
    assert not wide_v[..., 64:].any()


@pytest.mark.parametrize(
    ("head", "has_bias", "wide"),
    [(64, False, 64), (64, True, 72), (5, False, 8), (5, True, 8), (6, True, 16), (256, True, 264)],
)
def test_head_sizes_that_kernels_see(head: int, has_bias: bool, wide: int) -> None:
    q, k, v = random_qkv(4, head)
    bias_T = torch.ones(4) if has_bias else None
    assert fused.widened_head(head, has_bias) == wide
    assert {x.shape[2] for x in fused.widen(q, k, v, 0.5, bias_T)} == {wide}


def test_layouts_of_the_log_sum_exp() -> None:
    lse_HT = torch.randn(3, 7)
    assert fused.by_head(lse_HT, 3, 7) is lse_HT
    torch.testing.assert_close(fused.by_head(lse_HT.T, 3, 7), lse_HT)
    square = torch.randn(4, 4)
    assert fused.by_head(square, 4, 4) is square  # as the kernels write it
    assert fused.by_head(torch.zeros(2, 3, 7), 3, 7) is None


@pytest.mark.parametrize("attend", FLASH)
def test_kernels_are_asked_for_the_log_sum_exp_where_it_is_read(
    kernel: FlashKernel, attend: Attend
) -> None:
    ragged = Ragged.from_lengths(torch.tensor([4, 3]))
    q, k, v = random_qkv(7, 8)
    for score in (None, "cls", "received"):
        attend(q, k, v, ragged, scaling=0.3, dropout=0.0, score=score)
    assert kernel.asked_lse == [False, False, True]


@pytest.mark.parametrize("attend", [attend_flash_attn, attend_nested, attend_padded])
@pytest.mark.parametrize("score", [None, "received", "cls"])
def test_dropout_drops_probabilities_and_not_scores(
    kernel: FlashKernel, attend: Attend, score: Score | None
) -> None:
    ragged = Ragged.from_lengths(torch.tensor([9, 0, 14]))
    q, k, v = random_qkv(23, 8, seed=2)
    plain = attend_per_sequence(q, k, v, ragged, scaling=0.3, dropout=0.0, score=score)
    torch.manual_seed(0)
    draws = [attend(q, k, v, ragged, scaling=0.3, dropout=0.2, score=score) for _ in range(60)]
    assert not torch.allclose(draws[0].out_THd, plain.out_THd)
    mean = torch.stack([draw.out_THd for draw in draws]).mean(0)
    torch.testing.assert_close(mean, plain.out_THd, atol=0.35, rtol=0)
    if score:
        torch.testing.assert_close(draws[0].scores_T, plain.scores_T, atol=1e-6, rtol=1e-5)


def test_varlen_has_no_dropout(kernel: FlashKernel) -> None:
    ragged = Ragged.from_lengths(torch.tensor([3]))
    with pytest.raises(ValueError, match=r"dropout 0\.1"):
        attend_varlen(*random_qkv(3, 8), ragged, scaling=0.3, dropout=0.1, score=None)


@pytest.mark.parametrize("attend", FUSED)
def test_biases_of_pairs_are_refused(kernel: FlashKernel, attend: Attend) -> None:
    """Rather than left out: whoever calls a back end directly must not get other numbers."""
    ragged = Ragged.from_lengths(torch.tensor([3]))
    windowed = PositionBias(Window(1), torch.arange(3.0))
    both = SumOfBiases((SizeBias(torch.ones(3)), windowed))
    for bias in (windowed, both):
        assert bias.key_T() is None
        with pytest.raises(ValueError, match="biases of keys only"):
            attend(*random_qkv(3, 8), ragged, scaling=0.3, dropout=0.0, score=None, bias=bias)


@pytest.mark.parametrize("attend", FLASH)
def test_autocast_decides_the_dtype(kernel: FlashKernel, attend: Attend) -> None:
    """Queries in float32, as rotary positions leave them, are cast as SDPA would cast them."""
    ragged = Ragged.from_lengths(torch.tensor([4, 2]))
    q, k, v = random_qkv(6, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attended = attend(q, k, v.bfloat16(), ragged, scaling=0.3, dropout=0.0, score="received")
    assert kernel.seen == [(torch.bfloat16, 8)]
    assert attended.out_THd.dtype == torch.bfloat16
    half = [x.bfloat16() for x in (q, k, v)]
    exact = attend_per_sequence(
        *(x.float() for x in half), ragged, scaling=0.3, dropout=0.0, score="received"
    )
    # scores are float32 work on bfloat16 inputs: autocast does not round products on the way
    torch.testing.assert_close(attended.scores_T, exact.scores_T, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("attend", FUSED)
def test_inference_mode(kernel: FlashKernel, attend: Attend) -> None:
    """Benchmarks run in it; jagged tensors refuse tensors made in it."""
    ragged = Ragged.from_lengths(torch.tensor([4, 0, 2]))
    q, k, v = random_qkv(6, 8)
    expected = attend_per_sequence(q, k, v, ragged, scaling=0.3, dropout=0.0, score=None)
    with torch.inference_mode():
        made_here = Ragged.from_lengths(torch.tensor([4, 0, 2]))
        inputs = [x * 1 for x in (q, k, v)]
        found = attend(*inputs, made_here, scaling=0.3, dropout=0.0, score=None)
    torch.testing.assert_close(found.out_THd, expected.out_THd, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("attend", FUSED)
def test_strides_of_fused_projections(kernel: FlashKernel, attend: Attend) -> None:
    """Queries, keys and values that are slices of one tensor, or transposed in their last two."""
    ragged = Ragged.from_lengths(torch.tensor([4, 2]))
    whole = torch.randn(6, 3, 2, 8)
    for q, k, v in (whole.unbind(1), [x.transpose(1, 2) for x in torch.randn(3, 6, 8, 2)]):
        ours = attend(q, k, v, ragged, scaling=0.3, dropout=0.0, score="received")
        theirs = attend_per_sequence(q, k, v, ragged, scaling=0.3, dropout=0.0, score="received")
        torch.testing.assert_close(ours.out_THd, theirs.out_THd, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(ours.scores_T, theirs.scores_T, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("active", "has_splits", "asked"),
    [(None, True, None), ("FA2", True, None), ("FA3", True, 1), ("FA3", False, "absent")],
)
def test_only_flash_attention_3_is_told_not_to_split_keys(
    kernel: FlashKernel,
    monkeypatch: pytest.MonkeyPatch,
    active: str | None,
    has_splits: bool,
    asked: Any,
) -> None:
    """PyTorch 2.12 refuses the option with the default kernels, and 2.11 has none."""
    attend = varlen_attn(kernel, has_splits=has_splits)
    monkeypatch.setattr(varlen, "varlen_attn", attend)
    monkeypatch.setattr(
        torch.nn.attention, "current_flash_attention_impl", lambda: active, raising=False
    )
    ragged = Ragged.from_lengths(torch.tensor([3]))
    attend_varlen(*random_qkv(3, 8), ragged, scaling=0.3, dropout=0.0, score=None)
    assert getattr(attend, "splits", ["absent"]) == [asked]


def test_flash_attn_is_deterministic_where_pytorch_is(kernel: FlashKernel) -> None:
    ragged = Ragged.from_lengths(torch.tensor([3]))
    for on in (False, True):
        torch.use_deterministic_algorithms(on)
        try:
            attend_flash_attn(*random_qkv(3, 8), ragged, scaling=0.3, dropout=0.0, score=None)
        finally:
            torch.use_deterministic_algorithms(False)
    assert sys.modules["flash_attn"].deterministic == [False, True]  # type: ignore[attr-defined]


def test_offsets_are_made_once_per_layout_and_name_no_empty_sequence() -> None:
    ragged = Ragged.from_lengths(torch.tensor([0, 3, 0, 0, 2, 0]))
    assert ragged.offsets.tolist() == [0, 3, 5]
    assert ragged.offsets_int32.dtype == torch.int32
    assert ragged.offsets_int32 is ragged.offsets_int32
    assert (ragged.shortest, ragged.longest) == (2, 3)
    full = Ragged.from_lengths(torch.tensor([3, 2]))
    assert full.offsets is full.cu_seqlens
    assert not full.even
    assert Ragged.from_lengths(torch.tensor([2, 2])).even
    assert not Ragged.from_lengths(torch.tensor([2, 0])).even


@pytest.mark.parametrize("score", ["received", "cls"])
@pytest.mark.parametrize("bias", ["none", "sizes", "pair"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("lengths", [[5, 0, 9], [4, 4]])
def test_padded_takes_scores_apart_where_there_are_kernels(
    monkeypatch: pytest.MonkeyPatch, lengths: list[int], causal: bool, bias: str, score: Score
) -> None:
    """No probabilities for their sake; but with biases of pairs, which the kernels do not take."""
    monkeypatch.setattr(padded, "has_score_kernel", lambda *args: True)
    monkeypatch.setattr(padded, "availability", lambda device: Availability(kernels=True))
    held: list[int] = []
    probabilities = padded.grid_probabilities
    monkeypatch.setattr(
        padded,
        "grid_probabilities",
        lambda *args, **kwargs: held.append(1) or probabilities(*args, **kwargs),
    )
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    q, k, v = (x.requires_grad_() for x in random_qkv(ragged.total, 8))
    window = PositionBias(Window(2), ragged.position_T.float())
    how: dict[str, Any] = {
        "scaling": 0.3,
        "dropout": 0.0,
        "score": score,
        "bias": window if bias == "pair" else bias_of(bias, ragged.total),
        "causal": causal,
    }
    ours = attend_padded(q, k, v, ragged, **how)
    theirs = attend_per_sequence(q, k, v, ragged, **how)
    assert bool(held) == (bias == "pair")
    torch.testing.assert_close(ours.out_THd, theirs.out_THd, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.scores_T, theirs.scores_T, atol=1e-6, rtol=1e-5)
    assert ours.scores_T is not None
    assert not ours.scores_T.requires_grad


class _Operations(TorchDispatchMode):
    """Names of the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_scores_of_one_query_add_up_in_a_fixed_order() -> None:
    """Operations that add by index do so with atomics on CUDA, in another order each time."""
    ragged = Ragged.from_lengths(torch.tensor([5, 0, 9]), [5, 0, 9])
    q, k, _ = random_qkv(14, 8)
    assert ragged.grid_index_T.shape == (14,)
    with _Operations() as watched_by:
        fused.score_tokens(q, k, ragged, score="cls", scaling=0.3)
    assert "_softmax" in watched_by.names
    adding = [n for n in watched_by.names if any(x in n for x in ("_add", "scatter", "_put"))]
    assert adding == []


@pytest.mark.parametrize("score", [None, "received", "cls"])
@pytest.mark.parametrize("causal", [False, True])
def test_what_stands_around_a_kernel_asks_the_device_nothing(
    score: Score | None, causal: bool
) -> None:
    """Columns of a bias, offsets without empty sequences, scores: no copy to the host."""

    def kernel(
        q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, ragged: Ragged, **how: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert ragged.offsets_int32.shape == (3,)
        return v, q.new_zeros(q.shape[1], q.shape[0])

    ragged = Ragged.from_lengths(torch.tensor([5, 0, 9]), [5, 0, 9])
    q, k, v = random_qkv(14, 5)
    bias = bias_of("sizes", 14)
    with watched() as asked:
        attended = fused.attends_by(kernel, "a stand-in")(
            q,
            k,
            v,
            ragged,
            scaling=0.3,
            dropout=0.0,
            score=score,
            bias=bias,
            causal=causal,
        )
    assert asked == []
    assert attended.out_THd.shape == (14, 3, 5)
