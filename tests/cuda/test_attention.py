"""Back ends on a GPU against padded attention in float32; whole models, training included."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from alpine_cli.pruning import PruningConfig, kernels, prune, trace
from alpine_cli.pruning.apply import replay
from alpine_cli.pruning.attention import (
    BACKENDS,
    Attended,
    BackendName,
    Request,
    attend_padded,
    attention_backend,
)
from alpine_cli.pruning.attention import availability as trying
from alpine_cli.pruning.attention.availability import availability
from alpine_cli.pruning.attention.choice import refusal
from alpine_cli.pruning.attention.fused import by_head
from alpine_cli.pruning.bias import SizeBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.kernels.scores import log_sum_exp_plain
from alpine_cli.pruning.packed import Ragged
from tests.pruning.families import make_batch, make_model, make_rows
from tests.pruning.test_training import loss_and_gradients

LENGTHS = [130, 1, 64, 0, 257, 33]
NAMES: tuple[BackendName, ...] = ("varlen", "flash_attn", "nested", "padded")


def require(name: BackendName, request: Request) -> None:
    reason = refusal(name, request, availability(request.device))
    if reason is not None:
        pytest.skip(f"{name}: {reason}")


def qkv(ragged: Ragged, dtype: torch.dtype, head: int = 64, heads: int = 3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    device = ragged.cu_seqlens.device
    return [
        torch.randn(ragged.total, heads, head, generator=generator).to(device, dtype)
        for _ in range(3)
    ]


def by_float32(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *rest: Any, **how: Any) -> Any:
    """Padded attention of the same numbers in IEEE float32, scores from probabilities."""
    with float32_products("ieee"), kernels.forced(False):
        return attend_padded(q.float(), k.float(), v.float(), *rest, **how)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """PyTorch's own products of float32 matrices as they are ("ieee"), or as TF32."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision({"ieee": "highest", "tf32": "high"}[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def bounds(dtype: torch.dtype, precision: str) -> dict[str, float]:
    """Of values and gradients around 1: half precision's rounding, TF32's, float32's."""
    if dtype.itemsize == 2:
        return {"atol": 0.03, "rtol": 0.03}
    return {"atol": 1e-2, "rtol": 1e-2} if precision == "tf32" else {"atol": 1e-3, "rtol": 1e-3}


def score_bound(name: str, dtype: torch.dtype, precision: str) -> float:
    """Of scores: inputs are rounded for both sides alike, and what is summed is float32.

    But where there is no Triton, `padded` reads them off probabilities of rounded logits.
    """
    if name == "padded" and dtype.itemsize == 2:
        return 2e-2
    return 1e-2 if precision == "tf32" else 1e-3


@pytest.mark.parametrize("score", ["received", "cls"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize(
    ("dtype", "precision"),
    [
        (torch.bfloat16, "ieee"),
        (torch.float16, "ieee"),
        (torch.float32, "ieee"),
        (torch.float32, "tf32"),
    ],
    ids=["bf16", "fp16", "fp32", "tf32"],
)
@pytest.mark.parametrize("name", NAMES)
def test_equal_to_padded_in_float32(
    device: torch.device,
    name: BackendName,
    dtype: torch.dtype,
    precision: str,
    sized: bool,
    causal: bool,
    score: Score,
) -> None:
    ragged = Ragged.from_lengths(torch.tensor(LENGTHS, device=device))
    inputs = [x.requires_grad_() for x in qkv(ragged, dtype)]
    bias = SizeBias(1 + torch.arange(ragged.total, device=device) % 9.0) if sized else None
    how: dict[str, Any] = {"dropout": 0.0, "score": score, "bias": bias, "causal": causal}
    require(name, Request.of(*inputs, ragged, **how))
    with float32_products(precision):
        found: Attended = BACKENDS[name](*inputs, ragged, scaling=0.125, **how)
    expected = by_float32(*inputs, ragged, scaling=0.125, **how)
    assert found.out_THd.dtype == dtype
    bound = bounds(dtype, precision)
    torch.testing.assert_close(found.out_THd.float(), expected.out_THd, **bound)
    assert found.scores_T is not None
    assert found.scores_T.dtype == torch.float32
    close = score_bound(name, dtype, precision)
    torch.testing.assert_close(found.scores_T, expected.scores_T, atol=1e-6, rtol=close)
    weights = torch.linspace(-1, 1, ragged.total, device=device)[:, None, None]
    with float32_products(precision):
        ours = torch.autograd.grad((found.out_THd * weights.to(dtype)).sum(), inputs)
    theirs = torch.autograd.grad((expected.out_THd * weights).sum(), inputs)
    for mine, slow in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.float(), slow.float(), **bound)


@pytest.mark.parametrize("head", [12, 32, 80, 128])
@pytest.mark.parametrize("name", NAMES)
def test_head_sizes(device: torch.device, name: BackendName, head: int) -> None:
    ragged = Ragged.from_lengths(torch.tensor(LENGTHS, device=device))
    inputs = qkv(ragged, torch.bfloat16, head)
    bias = SizeBias(1 + torch.arange(ragged.total, device=device) % 9.0)
    how: dict[str, Any] = {"dropout": 0.0, "score": "received", "bias": bias}
    require(name, Request.of(*inputs, ragged, **how))
    found = BACKENDS[name](*inputs, ragged, scaling=0.2, **how)
    expected = by_float32(*inputs, ragged, scaling=0.2, **how)
    torch.testing.assert_close(found.out_THd.float(), expected.out_THd, atol=0.03, rtol=0.03)
    close = score_bound(name, torch.bfloat16, "ieee")
    torch.testing.assert_close(found.scores_T, expected.scores_T, atol=1e-6, rtol=close)


def test_layout_of_varlens_log_sum_exp(device: torch.device) -> None:
    """(H, T), whatever the docstring says; and of T = H, where shapes do not tell."""
    require("varlen", Request(device, torch.bfloat16))
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    for lengths, heads in ((LENGTHS, 3), ([5, 3], 8)):
        ragged = Ragged.from_lengths(torch.tensor(lengths, device=device))
        q, k, v = qkv(ragged, torch.bfloat16, heads=heads)
        cu, longest = ragged.offsets_int32, ragged.longest
        _, lse = varlen_attn(
            q, k, v, cu, cu, longest, longest, return_aux=AuxRequest(lse=True), scale=0.125
        )
        found = by_head(lse, heads, ragged.total)
        assert found is not None, lse.shape
        expected = log_sum_exp_plain(q, k, ragged, scaling=0.125)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("name", ["flash_attn", "nested", "padded"])
def test_dropout_drops_probabilities_and_not_scores(
    device: torch.device, name: BackendName, dtype: torch.dtype
) -> None:
    ragged = Ragged.from_lengths(torch.tensor([40, 0, 23], device=device))
    q, k, v = qkv(ragged, dtype)
    require(name, Request.of(q, k, v, ragged, dropout=0.2, score="received"))
    plain = by_float32(q, k, v, ragged, scaling=0.125, dropout=0.0, score="received")
    torch.manual_seed(0)
    draws = [
        BACKENDS[name](q, k, v, ragged, scaling=0.125, dropout=0.2, score="received")
        for _ in range(200)
    ]
    assert not torch.allclose(draws[0].out_THd.float(), plain.out_THd, atol=0.05)
    mean = torch.stack([draw.out_THd.float() for draw in draws]).mean(0)
    torch.testing.assert_close(mean, plain.out_THd, atol=0.2, rtol=0)
    close = score_bound(name, dtype, "ieee")
    torch.testing.assert_close(draws[0].scores_T, plain.scores_T, atol=1e-6, rtol=close)


def test_a_recent_gpu_lacks_no_back_end(device: torch.device) -> None:
    """Of compute capability 8.0 on; flash-attn is a package that need not be installed."""
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < (8, 0):
        pytest.skip("an older GPU, or ROCm")
    found = availability(device)
    assert set(found.reasons) <= {"flash_attn"}, dict(found.reasons)
    assert found.kernels


@pytest.mark.parametrize("around", ["checkpointing", "inference", "another stream"])
def test_back_ends_may_be_asked_for_anywhere(
    device: torch.device, monkeypatch: pytest.MonkeyPatch, around: str
) -> None:
    """And say the same; random numbers and what is computed around the trials stay."""
    expected, state = availability(device), torch.cuda.get_rng_state(device)
    monkeypatch.setattr(trying, "_FOUND", {})
    found = []

    def layer(x: torch.Tensor) -> torch.Tensor:
        found.append(availability(device))
        return x.sin().exp()

    x = torch.linspace(-1, 1, 6, device=device, requires_grad=True)
    if around == "checkpointing":
        (gradient,) = torch.autograd.grad(checkpoint(layer, x, use_reentrant=False).sum(), x)
        (plain,) = torch.autograd.grad(x.sin().exp().sum(), x)
        torch.testing.assert_close(gradient, plain)
    elif around == "inference":
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
            layer(x)
    else:
        with torch.cuda.stream(torch.cuda.Stream(device)):
            layer(x)
        torch.cuda.synchronize(device)
    assert found[0] == expected
    assert torch.equal(torch.cuda.get_rng_state(device), state)


# -- whole models ------------------------------------------------------------------------------

SETTINGS: dict[str, dict[str, Any]] = {
    "published": {"layers": "all", "alpha": 0.8},
    "nearest": {"layers": "all", "rule": "floor", "alpha": 0.8, "merge": "nearest"},
    "first": {"layers": "even", "rule": "top", "keep": 0.6, "score": "cls", "output": "first"},
}
ROWS = make_rows([100, 1, 37, 64])


def on(batch: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in batch.items()}


@pytest.mark.parametrize("family", ["roberta", "bert", "modernbert", "t5", "llama"])
@pytest.mark.parametrize("setting", list(SETTINGS))
def test_float32_models_compute_what_they_do_on_a_cpu(
    device: torch.device, family: str, setting: str
) -> None:
    """The same plan given, kernels and all; IEEE float32."""
    model = prune(make_model(family), PruningConfig(**SETTINGS[setting]))
    batch = make_batch(ROWS, model.config.pad_token_id or 0)
    with torch.no_grad():
        with trace(model) as recorded:
            expected = model(**batch).last_hidden_state
        model.to(device)
        with replay(model, moved(recorded.calls[0], device)):
            found = model(**on(batch, device)).last_hidden_state
        with trace(model) as own:
            model(**on(batch, device))
    torch.testing.assert_close(found.cpu(), expected, atol=2e-4, rtol=1e-3)
    slow, fast = recorded.calls[0], own.calls[0]
    first = min(slow.scores, default=None)
    if first is not None:  # later layers see the tokens that earlier ones left
        torch.testing.assert_close(
            fast.scores[first].cpu(), slow.scores[first], atol=1e-6, rtol=1e-3
        )


def moved(call: Any, device: torch.device) -> Any:
    """A traced forward pass whose plans lie on another device."""

    def move(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.to(device)
        if isinstance(value, Ragged):
            lengths = torch.tensor(value.lengths, device=device)
            return Ragged.from_lengths(lengths, value.lengths, value.multiple)
        return value

    plans = {}
    for layer, plan in call.plans.items():
        plan = copy.copy(plan)
        for name, value in vars(plan).items():
            object.__setattr__(plan, name, move(value))
        plans[layer] = plan
    call = copy.copy(call)
    object.__setattr__(call, "plans", plans)
    return call


@pytest.mark.parametrize("setting", list(SETTINGS))
def test_half_precision_engines_agree_on_a_given_plan(device: torch.device, setting: str) -> None:
    model = prune(make_model("roberta").to(device), PruningConfig(**SETTINGS[setting]))
    batch = on(make_batch(ROWS, 1), device)
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        with trace(model) as recorded:
            packed = model(**batch).last_hidden_state
        prune(model, PruningConfig(**SETTINGS[setting], engine="padded"))
        with replay(model, recorded.calls[0]):
            padded = model(**batch).last_hidden_state
    assert set(recorded.calls[0].backends.values()) == {"varlen"} or availability(device).reasons
    torch.testing.assert_close(packed.float(), padded.float(), atol=0.15, rtol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_batch_mates_do_not_matter(device: torch.device, name: BackendName) -> None:
    """Half precision, the plan given: attention itself is the same to the last bit or nearly."""
    require(name, Request(device, torch.bfloat16, head=12))
    model = prune(make_model("roberta").to(device, torch.bfloat16), PruningConfig("none"))
    with torch.no_grad(), attention_backend(name):
        together = model(**on(make_batch(ROWS, 1), device)).last_hidden_state
        alone = model(**on(make_batch(ROWS[:1], 1), device)).last_hidden_state
    torch.testing.assert_close(together[:1].float(), alone.float(), atol=0.1, rtol=0.05)


@pytest.mark.parametrize("name", ["varlen", "flash_attn", "nested", "padded", None])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_training_under_autocast(
    device: torch.device, name: BackendName | None, checkpoints: bool
) -> None:
    """With dropout where the back end has it; layers run again meet the same masks and plans."""
    model = make_model("roberta").to(device).train()
    dropout = name != "varlen"
    if not dropout:
        for layer in model.encoder.layer:
            layer.attention.self.dropout.p = 0.0
    if name is not None:
        require(name, Request(device, torch.bfloat16, 12, dropout=dropout, trains=True))
    prune(model, PruningConfig("all", alpha=0.8))
    batch = on(make_batch(ROWS, 1), device)

    def gradients() -> tuple[dict[str, torch.Tensor], set[str]]:
        torch.manual_seed(1)
        model.zero_grad()
        with (
            trace(model) as recorded,
            attention_backend(name),
            torch.autocast("cuda", dtype=torch.bfloat16),
        ):
            hidden = model(**batch).last_hidden_state
        hidden.float().pow(2).mean().backward()
        found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        return found, set(recorded.calls[0].backends.values())

    plain, backends = gradients()
    assert all(gradient.isfinite().all() for gradient in plain.values())
    if name is not None:
        assert backends == {name}
    if checkpoints:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        again, _ = gradients()
        for parameter, gradient in plain.items():
            scale = gradient.abs().max().item()
            # backward passes of flash kernels add up in no fixed order
            torch.testing.assert_close(
                again[parameter], gradient, atol=0.02 * scale + 1e-6, rtol=0.02
            )


@pytest.mark.parametrize("name", ["nested", "padded"])
def test_gradients_in_float32(device: torch.device, name: BackendName) -> None:
    require(name, Request(device, head=12, trains=True))
    model = make_model("roberta").to(device)
    prune(model, PruningConfig("all", alpha=0.8))
    batch = on(make_batch(ROWS, 1), device)
    with torch.device(device):
        with attention_backend("per_sequence"), kernels.forced(False), trace(model) as recorded:
            expected = loss_and_gradients(model, batch)
        with attention_backend(name), replay(model, recorded.calls[0]):
            found = loss_and_gradients(model, batch)
    assert found[0] == pytest.approx(expected[0], rel=1e-3, abs=1e-2)
    scale = max(gradient.abs().max().item() for gradient in expected[1].values())
    for parameter, gradient in expected[1].items():
        torch.testing.assert_close(found[1][parameter], gradient, atol=1e-3 * scale, rtol=1e-2)
