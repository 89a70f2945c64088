"""Whole models through all kernels, forward and backward, against the plain path."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from alpine_cli.pruning import PruningConfig, engines, kernels, prune, trace
from alpine_cli.pruning.apply import replay
from alpine_cli.pruning.attention import Attended, attend_per_sequence
from alpine_cli.pruning.bias import SizeBias
from alpine_cli.pruning.kernels.scores import log_sum_exp, received
from alpine_cli.pruning.packed import Ragged
from tests.pruning.families import make_batch, make_model, make_rows
from tests.pruning.test_training import (
    assert_gradients_close,
    loss_and_gradients,
    without_dropout,
)

LENGTHS = [14, 1, 8]
SETTINGS: dict[str, dict[str, Any]] = {
    "band": {"alpha": 0.9},
    "floor without merge": {"rule": "floor", "alpha": 0.5, "merge": "none"},
    "top nearest": {"rule": "top", "keep": 0.6, "merge": "nearest"},
    "bipartite": {"rule": "bipartite", "keep": 0.75, "merge": "nearest"},
}
KERNELS = {
    "scores_triton": ("received", "log_sum_exp"),
    "selection_triton": ("keep_by_spread",),
    "layout_triton": ("lay_out",),
    "repack_triton": ("gather", "spread"),
    "carry_triton": ("carry",),
}


def attend(q_THd: Tensor, k_THd: Tensor, v_THd: Tensor, ragged: Ragged, **asked: Any) -> Attended:
    """Attention as a fused kernel does it: without a matrix, so scores come from `received`."""
    bias = asked["bias"]
    if asked["score"] != "received" or not (bias is None or isinstance(bias, SizeBias)):
        return attend_per_sequence(q_THd, k_THd, v_THd, ragged, **asked)
    out = attend_per_sequence(q_THd, k_THd, v_THd, ragged, **{**asked, "score": None}).out_THd
    options = {
        "scaling": asked["scaling"],
        "key_bias_T": None if bias is None else bias.size_T.log(),
        "causal": asked["causal"],
    }
    lse_HT = log_sum_exp(q_THd, k_THd, ragged, **options)
    return Attended(out, received(q_THd, k_THd, lse_HT, ragged, **options))


def by_kernels(run: Any) -> tuple[Any, set[str]]:
    """What `run` returns with kernels on, and the names of those that ran."""
    import importlib

    with kernels.forced(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(engines, "choose_backend", lambda *_: attend)
        spies = {}
        for module, names in KERNELS.items():
            room = importlib.import_module(f"alpine_cli.pruning.kernels.{module}")
            for name in names:
                spies[name] = mock.Mock(wraps=getattr(room, name))
                patch.setattr(room, name, spies[name])
        return run(), {name for name, spy in spies.items() if spy.called}


def plainly(run: Any) -> Any:
    with kernels.forced(False):
        return run()


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("roberta", "band"),
        ("bert", "floor without merge"),
        ("bert", "top nearest"),
        ("roberta", "bipartite"),
    ],
)
@torch.no_grad()
def test_plans_and_outputs_equal_the_plain_ones(
    device: torch.device, family: str, name: str
) -> None:
    model = make_model(family).to(device)
    batch = make_batch(make_rows(LENGTHS, seed=1), model.config.pad_token_id)
    batch = {key: value.to(device) for key, value in batch.items()}
    prune(model, PruningConfig("0,2", **SETTINGS[name]))

    def run() -> tuple[Tensor, Any]:
        with trace(model) as recorded:
            return model(**batch).last_hidden_state, recorded.calls[0]

    (ours, our_call), used = by_kernels(run)
    theirs, their_call = plainly(run)
    assert our_call.lengths == their_call.lengths
    assert sum(our_call.lengths[-1]) < sum(LENGTHS)
    for layer, plan in our_call.plans.items():
        assert torch.equal(plan.keep_T, their_call.plans[layer].keep_T)
        assert torch.equal(plan.slot_T, their_call.plans[layer].slot_T)
    for mine, other in zip(our_call.tokens, their_call.tokens, strict=True):
        assert torch.equal(mine.source_T, other.source_T)
        assert torch.equal(mine.special_T, other.special_T)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    expected = {"gather", "carry"}
    if name != "bipartite":
        expected |= {"received", "log_sum_exp"}
    if SETTINGS[name].get("merge") != "nearest":
        expected |= {"keep_by_spread", "lay_out"}
    assert used == expected


@pytest.mark.parametrize(
    ("family", "name", "checkpointing"),
    [
        ("roberta", "band", True),
        ("bert", "top nearest", False),
        ("gpt2", "band", False),
    ],
)
def test_gradients_equal_the_plain_ones(
    device: torch.device, family: str, name: str, checkpointing: bool
) -> None:
    model = without_dropout(make_model(family)).to(device)
    if checkpointing:
        model.gradient_checkpointing_enable()
    batch = make_batch(make_rows(LENGTHS), model.config.pad_token_id)
    batch = {key: value.to(device) for key, value in batch.items()}
    prune(model, PruningConfig("1,2", **SETTINGS[name]))
    (our_loss, ours), used = by_kernels(lambda: loss_and_gradients(model, batch))
    their_loss, theirs = plainly(lambda: loss_and_gradients(model, batch))
    assert {"gather", "spread", "received", "carry"} <= used
    assert our_loss == pytest.approx(their_loss, rel=1e-4, abs=1e-3)
    assert_gradients_close(ours, theirs)


def test_under_bf16_autocast(device: torch.device) -> None:
    """On a given plan: half precision moves scores by more than thresholds allow for."""
    model = without_dropout(make_model("roberta")).to(device)
    batch = make_batch(make_rows(LENGTHS), 1)
    batch = {key: value.to(device) for key, value in batch.items()}
    prune(model, PruningConfig("1,2", alpha=0.9))
    with trace(model) as recorded, torch.no_grad():
        model(**batch)

    def run() -> tuple[Tensor, Tensor]:
        with torch.autocast(device.type, torch.bfloat16), replay(model, recorded.calls[0]):
            hidden = model(**batch).last_hidden_state
            weight = model.encoder.layer[0].output.dense.weight
            (gradient,) = torch.autograd.grad(hidden.float().pow(2).sum(), weight)
        return hidden.detach(), gradient

    (ours, our_gradient), used = by_kernels(run)
    theirs, their_gradient = plainly(run)
    assert used == {"gather", "spread", "carry"}
    torch.testing.assert_close(ours, theirs, atol=2e-2, rtol=2e-2)
    scale = their_gradient.abs().max()
    torch.testing.assert_close(our_gradient / scale, their_gradient / scale, atol=2e-2, rtol=0)
