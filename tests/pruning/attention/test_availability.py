"""Kernels are tried before they are trusted: what is found wrong, and what is said of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from alpine_cli.pruning.attention import (
    Attended,
    attend_flash_attn,
    attend_nested,
    attend_padded,
    attend_per_sequence,
    attend_varlen,
    availability,
)
from alpine_cli.pruning.attention.availability import fault_of, fault_of_scores
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


def test_the_trial_runs_wherever_it_is_first_asked_for(kernel: FlashKernel) -> None:
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert fault_of(attend_varlen, CPU, torch.float32) is None
        assert fault_of(attend_nested, CPU, torch.float32) is None
    before = torch.get_rng_state()
    fault_of(attend_varlen, CPU, torch.float32)
    assert torch.equal(before, torch.get_rng_state())


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
    told: dict[str, Any] = {"capability": (8, 0), "faults": {}, "tried": []}

    def fault(
        attend: Any, device: torch.device, dtype: torch.dtype, causal: bool = False
    ) -> str | None:
        told["tried"].append((attend.__name__, dtype, *["causal"] * causal))
        return told["faults"].get((attend.__name__, dtype))

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **kwargs: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: told["capability"])
    monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: True)

    def fault_of_scores(device: torch.device, dtype: torch.dtype) -> str | None:
        told["tried"].append(("scores", dtype))
        return told["faults"].get(("scores", dtype))

    monkeypatch.setattr(availability, "fault_of", fault)
    monkeypatch.setattr(availability, "fault_of_scores", fault_of_scores)
    monkeypatch.setattr(availability, "_no_package", lambda: told.get("package"))
    monkeypatch.setattr(availability.kernels, "chosen", lambda device: told.get("kernels", True))
    monkeypatch.setattr(availability, "_FOUND", {})
    return told


def test_all_are_tried_once(a_gpu: dict[str, Any]) -> None:
    for device in ("cuda", "cuda:0"):
        found = availability.availability(torch.device(device))
        assert (dict(found.reasons), found.kernels) == ({}, True)
    assert a_gpu["tried"] == [
        ("attend_varlen", torch.bfloat16),
        ("attend_varlen", torch.bfloat16, "causal"),
        ("attend_flash_attn", torch.bfloat16),
        ("attend_flash_attn", torch.bfloat16, "causal"),
        ("attend_nested", torch.bfloat16),
        ("attend_nested", torch.bfloat16, "causal"),
        ("attend_nested", torch.float32),
        ("attend_nested", torch.float32, "causal"),
        ("scores", torch.bfloat16),
        ("scores", torch.float32),
    ]


def test_a_compiled_model_traces_none_of_it(a_gpu: dict[str, Any]) -> None:
    traced: list[bool] = []
    a_gpu["faults"] = _Asked(traced)

    def double(x: Tensor) -> Tensor:
        missing = availability._missing_on_cuda(0)
        return x * (2 + len(missing))

    compiled = torch.compile(double, backend="eager")
    for size in (2, 3):
        assert torch.equal(compiled(torch.ones(size)), torch.full((size,), 2.0))
    assert traced == [False] * len(a_gpu["tried"])
    assert len(traced) == 10


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


def test_what_cannot_be_there_is_not_tried(a_gpu: dict[str, Any]) -> None:
    a_gpu.update(capability=(7, 5), package="the package flash-attn is not installed")
    found = availability.availability(torch.device("cuda:0"))
    assert set(found.reasons) == {"varlen", "flash_attn"}
    assert "compute capability 8.0" in found.reasons["varlen"]
    assert {name for name, *_ in a_gpu["tried"]} == {"attend_nested", "scores"}


def test_without_sound_kernels_scores_come_of_probabilities(a_gpu: dict[str, Any]) -> None:
    a_gpu["faults"] = {("scores", torch.bfloat16): "its scores differ by 1"}
    with pytest.warns(RuntimeWarning, match="without 'scores': its scores differ"):
        assert not availability.availability(torch.device("cuda:0")).kernels
    a_gpu["kernels"] = False
    availability._FOUND.clear()
    found = availability.availability(torch.device("cuda:0"))
    assert not found.kernels
    assert "Triton" in found.reasons["scores"]


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
