"""Whole models through every back end: the same plans, scores, hidden states and gradients."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nested._internal import sdpa as jagged_sdpa
from torch.nn.attention import SDPBackend

from alpine_cli.pruning import PruningConfig, PruningError, kernels, prune, trace
from alpine_cli.pruning.attention import BackendName, attention_backend, choice
from alpine_cli.pruning.attention.choice import BACKENDS
from tests.pruning.attention.libraries import HALF, FlashKernel
from tests.pruning.families import LAYERS, make_batch, make_model, make_rows
from tests.pruning.test_training import (
    assert_gradients_close,
    loss_and_gradients,
    without_dropout,
)

LENGTHS = [23, 1, 14]
OTHERS: tuple[BackendName, ...] = ("varlen", "flash_attn", "nested", "padded")
MODELS = {family: make_model(family) for family in ("roberta", "bert", "llama")}
SETTINGS: dict[str, dict[str, Any]] = {
    "published": {"layers": "all", "alpha": 0.8},
    "odd": {"layers": "odd", "alpha": 0.9, "merge": "none"},
    "nearest": {"layers": "all", "rule": "floor", "alpha": 0.8, "merge": "nearest"},
    "bipartite": {"layers": "all", "rule": "bipartite", "merge": "nearest", "keep": 0.8},
    "first": {"layers": "even", "rule": "top", "keep": 0.6, "score": "cls", "output": "first"},
}


def run(model: Any, rows: list[list[int]], backend: BackendName | None) -> tuple[Any, Any]:
    with torch.no_grad(), trace(model) as recorded, attention_backend(backend):
        hidden = model(**make_batch(rows, model.config.pad_token_id)).last_hidden_state
    return hidden, recorded.calls[0]


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    backend=st.sampled_from(OTHERS),
    family=st.sampled_from(list(MODELS)),
    setting=st.sampled_from(list(SETTINGS)),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=4),
    seed=st.integers(0, 100),
)
def test_inference(
    all_there: FlashKernel,
    backend: BackendName,
    family: str,
    setting: str,
    lengths: list[int],
    seed: int,
) -> None:
    if family == "llama" and backend == "nested":
        backend = "varlen"  # nested is not causal on a CPU
    model = prune(MODELS[family], PruningConfig(**SETTINGS[setting]))
    rows = make_rows(lengths, seed)
    hidden, call = run(model, rows, backend)
    expected, slow = run(model, rows, None)
    assert set(call.backends.values()) == {backend}
    assert set(slow.backends.values()) == {"per_sequence"}
    assert list(call.backends) == list(range(LAYERS))
    assert call.plans.keys() == slow.plans.keys()
    for layer, plan in slow.plans.items():
        assert torch.equal(call.plans[layer].keep_T, plan.keep_T)
        assert torch.equal(call.plans[layer].slot_T, plan.slot_T)
    assert call.scores.keys() == slow.scores.keys()
    for layer, scores_T in slow.scores.items():
        torch.testing.assert_close(call.scores[layer], scores_T, atol=2e-6, rtol=2e-5)
    torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("setting", ["published", "nearest"])
@pytest.mark.parametrize("backend", OTHERS)
def test_gradients(all_there: FlashKernel, backend: BackendName, setting: str) -> None:
    model = without_dropout(make_model("roberta"))
    prune(model, PruningConfig(**SETTINGS[setting]))
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    expected = loss_and_gradients(model, batch)
    with attention_backend(backend):
        found = loss_and_gradients(model, batch)
    assert found[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-3)
    assert_gradients_close(found[1], expected[1])


def efficient_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: None,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_q: int,
    max_k: int,
    dropout_p: float,
    custom_mask_type: int,
    compute_log_sumexp: bool = False,
    *,
    scale: float | None = None,
) -> tuple[torch.Tensor | None, ...]:
    """CUDA's memory-efficient kernel, to which SDPA gives jagged tensors as packed rows."""
    out, _ = FlashKernel(dtypes=(torch.float32,)).run(
        query[0],
        key[0],
        value[0],
        cu_seqlens_q,
        cu_seqlens_k,
        max_q,
        max_k,
        scale=query.shape[-1] ** -0.5 if scale is None else scale,
        dropout=dropout_p,
        causal=bool(custom_mask_type),
        wants_lse=False,
    )
    return out[None], None, None, None, None, None


@pytest.fixture
def as_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jagged tensors go through SDPA as they do on CUDA, to a stand-in for its kernel."""
    chosen = SDPBackend.EFFICIENT_ATTENTION
    monkeypatch.setattr(jagged_sdpa, "_select_sdp_backend", lambda *args: chosen)
    monkeypatch.setattr(
        torch.ops.aten, "_efficient_attention_forward", efficient_attention, raising=False
    )


@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_nested_as_on_cuda(all_there: FlashKernel, as_on_cuda: None, family: str) -> None:
    """Causal attention included, and gradients."""
    model = without_dropout(make_model(family))
    prune(model, PruningConfig(**SETTINGS["published"]))
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    expected = loss_and_gradients(model, batch)
    with patch.object(choice, "refusal", lambda *args: None), attention_backend("nested"):
        found = loss_and_gradients(model, batch)
    assert found[0] == pytest.approx(expected[0], rel=1e-4, abs=1e-3)
    assert_gradients_close(found[1], expected[1])


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("backend", ["flash_attn", "nested", "padded"])
def test_checkpointed_layers_stay_with_their_back_end(
    all_there: FlashKernel, backend: BackendName
) -> None:
    """Layers run again outside of `attention_backend`, as in CUDA's backward threads."""
    model = prune(make_model("roberta").train(), PruningConfig("all", alpha=0.8))
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    results = []
    for checkpoints in (False, True):
        if checkpoints:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        torch.manual_seed(3)
        model.zero_grad()
        with attention_backend(backend), trace(model) as recorded:
            loss = model(**batch).last_hidden_state.pow(2).sum()
        loss.backward()
        assert set(recorded.calls[0].backends.values()) == {backend}
        results.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    assert_gradients_close(results[1], results[0])


@pytest.mark.parametrize("family", ["roberta", "llama"])
def test_autocast_gives_kernels_half_precision(all_there: FlashKernel, family: str) -> None:
    """Linear layers make queries of autocast's dtype; Llama's rotation widens them again."""
    all_there.dtypes = HALF  # as the real one
    model = prune(make_model(family), PruningConfig("all", alpha=0.8))
    with (
        torch.no_grad(),
        torch.autocast("cpu", dtype=torch.bfloat16),
        trace(model) as recorded,
        attention_backend("varlen"),
    ):
        hidden = model(**make_batch(make_rows(LENGTHS), 0)).last_hidden_state
    assert hidden.isfinite().all()
    assert {dtype for dtype, _ in all_there.seen} == {torch.bfloat16}
    assert set(recorded.calls[0].backends.values()) == {"varlen"}


def test_position_biases_are_refused_by_name(all_there: FlashKernel) -> None:
    """ModernBERT's local layers have windows; its global layers do not."""
    model = prune(make_model("modernbert"), PruningConfig("all", alpha=0.8))
    batch = make_batch(make_rows(LENGTHS), 0)
    with torch.no_grad():
        with attention_backend("varlen"), pytest.raises(PruningError, match="position biases"):
            model(**batch)
        with attention_backend("padded"), trace(model) as recorded:
            model(**batch)
    assert set(recorded.calls[0].backends.values()) == {"padded"}


def test_other_engines_say_how_they_attend() -> None:
    batch = make_batch(make_rows([5, 3]), 1)
    for engine, way in (("padded", "grid"), ("reference", "eager")):
        model = prune(make_model("roberta"), PruningConfig("even", engine=engine))  # type: ignore[arg-type]
        with torch.no_grad(), trace(model) as recorded:
            model(**batch)
        assert recorded.calls[0].backends == dict.fromkeys(range(LAYERS), way)


def test_a_batch_without_tokens_attends_by_none() -> None:
    model = prune(make_model("roberta"), PruningConfig("all"))
    batch = make_batch(make_rows([5, 3]), 1)
    batch["attention_mask"] = torch.zeros_like(batch["attention_mask"])
    with torch.no_grad(), trace(model) as recorded:
        assert model(**batch).last_hidden_state.isfinite().all()
    assert set(recorded.calls[0].backends.values()) == {"none"}
    assert "none" not in BACKENDS


@pytest.mark.parametrize(
    ("backend", "setting"),
    [("varlen", "nearest"), ("nested", "published"), ("padded", "published")],
)
def test_with_alpines_own_kernels(
    all_there: FlashKernel, backend: BackendName, setting: str
) -> None:
    """As on CUDA throughout, by Triton's interpreter: back end, scores, plans and repacking."""
    pytest.importorskip("triton")
    if not kernels.available(torch.device("cpu")):
        pytest.skip("Triton's interpreter is off (TRITON_INTERPRET)")
    model = prune(MODELS["roberta"], PruningConfig(**SETTINGS[setting] | {"layers": "0,2"}))
    rows = make_rows([9, 1, 6])
    expected, slow = run(model, rows, None)
    scored = scores_triton()
    with kernels.forced(), patch.object(scored, "received", wraps=scored.received) as received:
        hidden, call = run(model, rows, backend)
    assert received.call_count == 2  # layers that prune
    assert set(call.backends.values()) == {backend}
    for layer, plan in slow.plans.items():
        assert torch.equal(call.plans[layer].keep_T, plan.keep_T)
    torch.testing.assert_close(hidden, expected, atol=2e-5, rtol=1e-4)


def scores_triton() -> Any:
    from alpine_cli.pruning.kernels import scores_triton

    return scores_triton
