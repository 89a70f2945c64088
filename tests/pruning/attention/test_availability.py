"""Kernels are tried before they are trusted: what is found wrong, and what is said of it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from alpine_cli.pruning.attention import (
    Attended,
    attend_flash_attn,
    attend_nested,
    attend_padded,
    attend_per_sequence,
    attend_varlen,
    availability,
)
from alpine_cli.pruning.attention.availability import fault_of, fault_of_dropout, fault_of_scores
from tests.pruning.attention.libraries import FlashKernel

CPU = torch.device("cpu")


def test_sound_back_ends_pass(kernel: FlashKernel) -> None:
    for attend in (attend_varlen, attend_flash_attn, attend_nested, attend_padded):
        assert fault_of(attend, CPU, torch.float32) is None
    for layout in ("HT", "TH", "BHL"):
        kernel.layout = layout
        assert fault_of(attend_varlen, CPU, torch.bfloat16) is None


def test_a_kernel_that_hides_no_later_keys_is_found(kernel: FlashKernel) -> None:
    def sees_all(*args: Any, causal: bool, **kwargs: Any) -> Attended:
        return attend_varlen(*args, causal=False, **kwargs)

    assert fault_of(sees_all, CPU, torch.float32) is None
    assert "its values differ" in (fault_of(sees_all, CPU, torch.float32, causal=True) or "")
    assert fault_of(attend_varlen, CPU, torch.float32, causal=True) is None


class _Refuses(TorchDispatchMode):
    """As modes that fake or watch tensors would be in the way."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"{func} was seen")


def _keeps(tensor: Tensor) -> Tensor:
    raise AssertionError("a tensor of the trial was kept")


SURROUNDINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "hooks": lambda: torch.autograd.graph.saved_tensors_hooks(_keeps, _keeps),
    "a mode": _Refuses,
    "a default device": lambda: torch.device("meta"),
}


@pytest.mark.parametrize("around", list(SURROUNDINGS))
def test_the_trials_run_wherever_they_are_first_asked_for(kernel: FlashKernel, around: str) -> None:
    for fault in (fault_of, fault_of_dropout):
        with SURROUNDINGS[around]():
            found = fault(attend_flash_attn, CPU, torch.float32)
        assert found is None
    with SURROUNDINGS[around]():
        found = fault_of(attend_nested, CPU, torch.float32), fault_of_scores(CPU, torch.float32)
    assert found == (None, None)
    assert {dtype for dtype, _ in kernel.seen} == {torch.float32}


@pytest.mark.parametrize("reentrant", [False, True])
def test_the_first_step_may_be_checkpointed(kernel: FlashKernel, reentrant: bool) -> None:
    """What the trial computes is none of what the layer keeps."""
    found: list[str | None] = []

    def layer(x: Tensor) -> Tensor:
        if not found:
            found.append(fault_of(attend_padded, CPU, torch.float32))
        return x.sin().exp()

    x = torch.linspace(-1, 1, 6, requires_grad=True)
    (gradient,) = _gradient(checkpoint(layer, x, use_reentrant=reentrant), x)
    assert found == [None]
    torch.testing.assert_close(gradient, _gradient(x.sin().exp(), x)[0])


def _gradient(out: Tensor, x: Tensor) -> tuple[Tensor]:
    x.grad = None
    out.sum().backward()  # reentrant checkpointing knows no autograd.grad
    assert x.grad is not None
    return (x.grad.clone(),)


def test_random_numbers_are_left_alone(kernel: FlashKernel) -> None:
    before = torch.get_rng_state()
    assert fault_of(attend_varlen, CPU, torch.float32) is None
    assert fault_of_dropout(attend_padded, CPU, torch.float32) is None
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sound_dropout_passes(kernel: FlashKernel, dtype: torch.dtype) -> None:
    for attend in (attend_flash_attn, attend_nested, attend_padded, attend_per_sequence):
        assert fault_of_dropout(attend, CPU, dtype) is None


class _OtherMask(torch.autograd.Function):
    """Values with one mask, gradients with another."""

    @staticmethod
    def forward(ctx: Any, one: Tensor, other: Tensor) -> Tensor:
        return one.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:  # type: ignore[override]
        return None, gradient


def other_mask(*args: Any, **kwargs: Any) -> Attended:
    one, other = (attend_per_sequence(*args, **kwargs) for _ in range(2))
    return replace(one, out_THd=_OtherMask.apply(one.out_THd, other.out_THd))


def drops_nothing(*args: Any, dropout: float, **kwargs: Any) -> Attended:
    return attend_per_sequence(*args, dropout=0.0, **kwargs)


def drops_without_scaling(*args: Any, dropout: float, **kwargs: Any) -> Attended:
    attended = attend_per_sequence(*args, dropout=dropout, **kwargs)
    return replace(attended, out_THd=attended.out_THd * (1 - dropout))


def not_finite_once(*args: Any, **kwargs: Any) -> Attended:
    attended = attend_per_sequence(*args, **kwargs)
    spoilt = attended.out_THd * torch.ones_like(attended.out_THd).index_fill(
        0, torch.tensor([3]), torch.inf
    )
    return replace(attended, out_THd=spoilt)


@pytest.mark.parametrize(
    ("attend", "fault"),
    [
        (other_mask, "its dropped probabilities differ"),
        (drops_nothing, "drops nothing"),
        (drops_without_scaling, "shifts its mean by -0.1"),
        (not_finite_once, "not finite"),
        (attend_varlen, "ValueError"),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_faults_of_dropout_are_found(
    kernel: FlashKernel, attend: Any, fault: str, dtype: torch.dtype
) -> None:
    assert fault in (fault_of_dropout(attend, CPU, dtype) or "")


def wrong_values(*args: Any, **kwargs: Any) -> Attended:
    attended = attend_per_sequence(*args, **kwargs)
    return replace(attended, out_THd=attended.out_THd * 1.2)


def not_a_number(*args: Any, **kwargs: Any) -> Attended:
    attended = attend_per_sequence(*args, **kwargs)
    return replace(attended, out_THd=attended.out_THd * torch.nan)


def wrong_scores(*args: Any, **kwargs: Any) -> Attended:
    attended = attend_per_sequence(*args, **kwargs)
    assert attended.scores_T is not None
    return replace(attended, scores_T=attended.scores_T.flip(0))


class _NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.zeros_like(gradient)


def wrong_gradients(q: Tensor, *args: Any, **kwargs: Any) -> Attended:
    return attend_per_sequence(_NoGradient.apply(q), *args, **kwargs)


def no_bias(*args: Any, bias: Any, **kwargs: Any) -> Attended:
    return attend_per_sequence(*args, **kwargs)


def raises(*args: Any, **kwargs: Any) -> Attended:
    raise RuntimeError("CUDA error: no kernel image\nmore lines")


@pytest.mark.parametrize(
    ("attend", "fault"),
    [
        (wrong_values, "its values differ by 0.2"),
        (not_a_number, "its values differ by nan"),
        (wrong_scores, "its scores differ"),
        (wrong_gradients, "its gradients differ"),
        (no_bias, "its values differ"),
        (raises, "RuntimeError: CUDA error: no kernel image"),
    ],
)
def test_faults_are_found(attend: Any, fault: str) -> None:
    found = fault_of(attend, CPU, torch.float32)
    assert found is not None
    assert fault in found
    assert "more lines" not in found


@pytest.fixture
def a_gpu(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A described GPU; the trials of its back ends give what the test puts into "faults"."""
    told: dict[str, Any] = {"capability": (8, 0), "faults": {}, "tried": [], "scores": set()}

    def fault(
        attend: Any,
        device: torch.device,
        dtype: torch.dtype,
        causal: bool = False,
        score: str = "received",
    ) -> str | None:
        told["tried"].append((attend.__name__, dtype, *["causal"] * causal))
        told["scores"].add(score)
        return told["faults"].get((attend.__name__, dtype))

    def fault_of_dropout(attend: Any, device: torch.device, dtype: torch.dtype) -> str | None:
        told["tried"].append((attend.__name__, dtype, "dropout"))
        return told["faults"].get((attend.__name__, "dropout"))

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: told["capability"])
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)

    def fault_of_scores(device: torch.device, dtype: torch.dtype) -> str | None:
        told["tried"].append(("scores", dtype))
        return told["faults"].get(("scores", dtype))

    monkeypatch.setattr(availability, "fault_of", fault)
    monkeypatch.setattr(availability, "fault_of_dropout", fault_of_dropout)
    monkeypatch.setattr(availability, "fault_of_scores", fault_of_scores)
    monkeypatch.setattr(availability, "_no_package", lambda: told.get("package"))
    monkeypatch.setattr(availability.kernels, "available", lambda device: told.get("kernels", True))
    monkeypatch.setattr(availability, "_FOUND", {})
    return told


def test_all_are_tried_once(a_gpu: dict[str, Any]) -> None:
    for device in ("cuda", "cuda:0"):
        found = availability.availability(torch.device(device))
        assert (dict(found.reasons), found.kernels) == ({}, True)
    half, both = (torch.bfloat16, torch.float16), (torch.bfloat16, torch.float16, torch.float32)
    assert a_gpu["tried"] == [
        *(("scores", dtype) for dtype in both),
        *(("attend_varlen", dtype, *how) for dtype in half for how in HOW[:2]),
        *(("attend_flash_attn", dtype, *how) for dtype in half for how in HOW),
        *(("attend_nested", dtype, *how) for dtype in both for how in HOW),
    ]
    assert found.dtypes == both


HOW: list[tuple[str, ...]] = [(), ("causal",), ("dropout",)]


def test_a_compiled_model_traces_none_of_it(a_gpu: dict[str, Any]) -> None:
    traced: list[bool] = []
    a_gpu["faults"] = _Asked(traced)

    def double(x: Tensor) -> Tensor:
        missing = availability.availability(torch.device("cuda", 0)).reasons
        return x * (2 + len(missing))

    compiled = torch.compile(double, backend="eager")
    for size in (2, 3):
        assert torch.equal(compiled(torch.ones(size)), torch.full((size,), 2.0))
    assert traced == [False] * len(a_gpu["tried"])
    assert len(traced) == 22


class _Asked(dict):
    """No faults; notes whether each question is asked while torch.compile traces."""

    def __init__(self, traced: list[bool]) -> None:
        super().__init__()
        self.traced = traced

    def get(self, key: Any, default: Any = None) -> Any:
        self.traced.append(torch.compiler.is_compiling())
        return default


def test_what_fails_is_left_out_with_a_warning(a_gpu: dict[str, Any]) -> None:
    a_gpu["faults"] = {("attend_nested", torch.float32): "its gradients differ by 2"}
    with pytest.warns(RuntimeWarning, match="without 'nested': its gradients differ"):
        found = availability.availability(torch.device("cuda:0"))
    assert dict(found.reasons) == {"nested": "its gradients differ by 2"}


def test_a_back_end_whose_dropout_fails_is_left_out(a_gpu: dict[str, Any]) -> None:
    a_gpu["faults"] = {("attend_nested", "dropout"): "with dropout it drops nothing"}
    with pytest.warns(RuntimeWarning, match="without 'nested': with dropout"):
        found = availability.availability(torch.device("cuda:0"))
    assert set(found.reasons) == {"nested"}


def test_what_cannot_be_there_is_not_tried(a_gpu: dict[str, Any]) -> None:
    """Bfloat16 neither, on a GPU that emulates it: back ends are not chosen for it either."""
    a_gpu.update(capability=(7, 5), package="the package flash-attn is not installed")
    found = availability.availability(torch.device("cuda:0"))
    assert set(found.reasons) == {"varlen", "flash_attn"}
    assert "compute capability 8.0" in found.reasons["varlen"]
    assert {name for name, *_ in a_gpu["tried"]} == {"attend_nested", "scores"}
    assert {dtype for _, dtype, *_ in a_gpu["tried"]} == {torch.float16, torch.float32}
    assert found.dtypes == (torch.float16, torch.float32)


def test_each_gpu_is_asked_for_itself(a_gpu: dict[str, Any], monkeypatch: Any) -> None:
    """Whichever is the current one."""
    by_index = {0: (8, 0), 1: (7, 5)}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: by_index[device.index])
    assert torch.bfloat16 in availability.availability(torch.device("cuda", 0)).dtypes
    assert torch.bfloat16 not in availability.availability(torch.device("cuda", 1)).dtypes


def test_without_sound_kernels_scores_come_of_probabilities(a_gpu: dict[str, Any]) -> None:
    a_gpu["faults"] = {("scores", torch.bfloat16): "its scores differ by 1"}
    with pytest.warns(RuntimeWarning, match="without 'scores': its scores differ"):
        found = availability.availability(torch.device("cuda:0"))
    assert not found.kernels
    assert set(found.reasons) == {"scores"}
    assert a_gpu["scores"] == {"cls"}  # back ends are not tried by what is wrong itself
    a_gpu["kernels"] = False
    availability._FOUND.clear()
    found = availability.availability(torch.device("cuda:0"))
    assert not found.kernels
    assert "Triton" in found.reasons["scores"]
    assert a_gpu["scores"] == {"cls", "received"}


def test_while_a_graph_is_captured_nothing_is_tried_or_remembered(
    a_gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    found = availability.availability(device)
    assert set(found.reasons) == {"varlen", "flash_attn", "nested", "scores"}
    assert "run the model once" in found.reasons["varlen"]
    assert (found.kernels, a_gpu["tried"]) == (False, [])
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    found = availability.availability(device)
    assert (dict(found.reasons), found.kernels) == ({}, True)


def test_threads_that_meet_find_the_same(
    a_gpu: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two GPUs, two threads each: every trial runs once, kernels stay what they are meanwhile."""
    together = threading.Barrier(4)
    sound: list[bool] = []
    tried: list[int | None] = []

    def fault_of_scores(device: torch.device, dtype: torch.dtype) -> None:
        tried.append(device.index)
        for other in (0, 1):
            sound.append(availability.kernels.chosen(torch.device("cuda", other)))

    monkeypatch.setattr(availability, "fault_of_scores", fault_of_scores)
    found: list[tuple[bool, dict[str, str]]] = []

    def ask(index: int) -> None:
        together.wait(10)
        there = availability.availability(torch.device("cuda", index))
        found.append((there.kernels, dict(there.reasons)))

    threads = [threading.Thread(target=ask, args=(n % 2,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [(True, {})] * 4
    assert sorted(tried) == [0] * 3 + [1] * 3  # type: ignore[type-var]
    assert all(sound)
    assert availability.kernels._forced is None


def test_a_trial_changes_nothing_for_other_threads(kernel: FlashKernel) -> None:
    """Trials of two threads, one within the other in time, in any order of leaving."""
    inside, leave = threading.Event(), threading.Event()
    seen: list[bool | None] = []

    def waits(*args: Any, **kwargs: Any) -> Attended:
        inside.set()
        assert leave.wait(10)
        return attend_per_sequence(*args, **kwargs)

    def looks(*args: Any, **kwargs: Any) -> Attended:
        seen.append(availability.kernels._forced)
        leave.set()
        return attend_per_sequence(*args, **kwargs)

    first = threading.Thread(target=fault_of, args=(waits, CPU, torch.float32))
    first.start()
    assert inside.wait(10)
    assert fault_of(looks, CPU, torch.float32) is None
    first.join(10)
    assert seen == [None]
    assert availability.kernels._forced is None


def test_kernels_of_scores_are_compared_with_their_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert fault_of_scores(CPU, torch.float32) is None
    wrong = availability.scores.received
    monkeypatch.setattr(availability.scores, "received", lambda *a, **k: wrong(*a, **k) + 1)
    assert "its scores differ" in (fault_of_scores(CPU, torch.bfloat16) or "")


def test_other_devices() -> None:
    cpu = availability.availability(CPU)
    assert set(cpu.reasons) == {"varlen", "flash_attn"}
    assert not cpu.kernels
    other = availability.availability(torch.device("mps"))
    assert set(other.reasons) == {"varlen", "flash_attn", "nested"}
