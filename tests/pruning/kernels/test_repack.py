"""Applying plans by kernel, forward and backward, against `apply_plan` in plain PyTorch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, kernels
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import PruningPlan, TokenState, apply_plan
from alpine_cli.pruning.planning import make_plan
from alpine_cli.pruning.selection import plan_keep

TOLERANCES = {
    torch.float32: 1e-6,
    torch.float64: 1e-7,  # the twin divides by a float32 number of members
    torch.bfloat16: 1e-2,
    torch.float16: 1e-3,
}


def made_plan(device: torch.device, kind: str, lengths: list[int], seed: int) -> PruningPlan:
    """A plan of some kind: mean, none, nearest, bipartite; "causal …" of each."""
    generator = torch.Generator().manual_seed(seed)
    ragged = Ragged.from_lengths(torch.tensor(lengths, device=device), lengths)
    causal, merge = kind.startswith("causal"), kind.split()[-1]
    keep_T = (torch.rand(ragged.total, generator=generator) < 0.5).to(device)
    if merge in ("mean", "none"):
        return plan_keep(keep_T, ragged, merge, causal=causal)  # type: ignore[arg-type]
    end_T = ragged.lengths_B[ragged.segment_T] - 1
    ends_T = (ragged.position_T == 0) | (ragged.position_T == end_T)
    sizes_T = torch.randint(1, 9, (ragged.total,), generator=generator).float().to(device)
    place_T = ragged.position_T if causal else None
    tokens = TokenState(ragged, ends_T, ragged.position_T, None, sizes_T, place_T=place_T)
    hidden_TD = torch.randn(ragged.total, 6, generator=generator).to(device)
    rule: Any = "bipartite" if merge == "bipartite" else "first"
    config = PruningConfig("all", rule=rule, keep=0.6, merge="nearest")
    return make_plan(Evidence(tokens, hidden_TD, None, 0, 0), config)


def applied(
    plan: PruningPlan, hidden_TD: torch.Tensor, rows: int, on: bool, weights_RD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The first T' rows, and the gradient of the input."""
    hidden_TD = hidden_TD.detach().requires_grad_()
    with kernels.forced(on):
        out = apply_plan(hidden_TD, plan, rows)
        total = plan.after.total
        assert out.shape[0] == rows
        assert out.dtype == hidden_TD.dtype
        assert out.isfinite().all()
        (gradient,) = torch.autograd.grad((out[:total] * weights_RD[:total]).sum(), hidden_TD)
    return out[:total].detach(), gradient


KINDS = ["mean", "none", "nearest", "bipartite", "causal mean", "causal none", "causal nearest"]


@given(
    kind=st.sampled_from(KINDS),
    lengths=st.lists(st.integers(0, 14), min_size=1, max_size=4),
    width=st.sampled_from([1, 5, 48, 300]),
    dtype=st.sampled_from(list(TOLERANCES)),
    extra=st.sampled_from([0, 3]),
    seed=st.integers(0, 999),
)
@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_repacking_equals_its_twin(
    device: torch.device,
    kind: str,
    lengths: list[int],
    width: int,
    dtype: torch.dtype,
    extra: int,
    seed: int,
) -> None:
    plan = made_plan(device, kind, lengths, seed)
    if not plan.removes:
        return
    generator = torch.Generator().manual_seed(seed)
    # rows of a wider tensor: what slices of a layout look like
    hidden_TD = torch.randn(plan.before.total, width + 2, generator=generator).to(device, dtype)
    rows = plan.after.total + extra
    weights_RD = torch.randn(rows, width, generator=generator).to(device, dtype)
    ours, gradient = applied(plan, hidden_TD[:, :width], rows, True, weights_RD)
    again, _ = applied(plan, hidden_TD[:, :width], rows, True, weights_RD)
    theirs, expected = applied(plan, hidden_TD[:, :width], rows, False, weights_RD)
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(gradient, expected, atol=tolerance, rtol=tolerance)
    assert torch.equal(ours, again)
    alone_T = plan.keep_T if plan.size_T is None else plan.size_after()[plan.slot_T] == plan.size_T
    alone_T = alone_T & plan.keep_T
    assert torch.equal(ours[plan.slot_T[alone_T]], hidden_TD[alone_T, :width])  # bit for bit


def test_rows_of_hundreds_of_members(device: torch.device) -> None:
    lengths = [200, 3, 0, 70]
    ragged = Ragged.from_lengths(torch.tensor(lengths, device=device), lengths)
    plan = plan_keep(ragged.position_T < 2, ragged, "mean")
    hidden_TD = torch.randn(273, 20, generator=torch.Generator().manual_seed(0)).to(device)
    weights_RD = torch.ones(plan.after.total, 20, device=device)
    ours, gradient = applied(plan, hidden_TD, plan.after.total, True, weights_RD)
    theirs, expected = applied(plan, hidden_TD, plan.after.total, False, weights_RD)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mean", "bipartite"])
def test_gradients_agree_with_finite_differences(device: torch.device, kind: str) -> None:
    plan = made_plan(device, kind, [5, 3], 1)
    assert plan.removes
    hidden_TD = torch.randn(8, 2, dtype=torch.float64, device=device, requires_grad=True)
    with kernels.forced():
        torch.autograd.gradcheck(
            # ours alone: weights of plans with sizes are float32, in the twin, too
            lambda x: apply_plan(x, plan, plan.after.total + 1),
            (hidden_TD,),
            atol=1e-6,
        )


def test_a_plan_that_drops_every_token(device: torch.device) -> None:
    ragged = Ragged.from_lengths(torch.tensor([4], device=device), [4])
    plan = plan_keep(torch.zeros(4, dtype=torch.bool, device=device), ragged, "none")
    hidden_TD = torch.ones(4, 3, device=device, requires_grad=True)
    with kernels.forced():
        assert apply_plan(hidden_TD, plan).shape == (0, 3)
        out = apply_plan(hidden_TD, plan, 1)
        assert not out.any()
        out.sum().backward()
    assert hidden_TD.grad is not None
    assert not hidden_TD.grad.any()
