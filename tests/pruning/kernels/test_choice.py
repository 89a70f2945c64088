"""Where kernels run, and that nothing needs them."""

from __future__ import annotations

import subprocess
import sys
import warnings
from contextlib import nullcontext

import pytest
import torch

from alpine_cli.pruning import kernels

CPU = torch.device("cpu")


def test_a_cpu_uses_kernels_only_where_a_test_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert not kernels.chosen(CPU)
    assert not kernels.serves_cuda(CPU)
    with kernels.forced():
        assert kernels.serves_cuda(CPU)
        assert kernels.chosen(CPU) == kernels.available(CPU)
        with kernels.forced(False):
            assert not kernels.chosen(CPU)
        assert kernels.serves_cuda(CPU)
    assert not kernels.serves_cuda(CPU)
    monkeypatch.delenv("TRITON_INTERPRET")
    with kernels.forced():
        assert not kernels.chosen(CPU)


def test_other_devices_have_none() -> None:
    with kernels.forced():
        assert not kernels.chosen(torch.device("meta"))


def test_a_gpu_that_compiles_nothing_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    from alpine_cli.pruning.kernels import probe_triton

    def fails(device: torch.device) -> bool:
        raise RuntimeError("Failed to find C compiler.\nPlease specify one.")

    monkeypatch.setattr(probe_triton, "runs", fails)
    a_described_gpu(monkeypatch)
    device = torch.device("cuda", 7)
    with pytest.warns(RuntimeWarning, match=r"cuda:7 \(Failed to find C compiler\.\)"):
        assert not kernels.chosen(device)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not kernels.chosen(device)


def a_described_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(kernels, "_INSTALLED", True)
    monkeypatch.setattr(kernels, "_runs_on", {})


def test_a_compiled_model_does_not_trace_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    a_described_gpu(monkeypatch)
    traced: list[bool] = []

    def compiles(device: torch.device) -> bool:
        traced.append(torch.compiler.is_compiling())
        return True

    monkeypatch.setattr(kernels, "_compiles", compiles)
    device = torch.device("cuda", 3)

    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2 if kernels.available(device) else x

    compiled = torch.compile(double, backend="eager")
    for size in (2, 3):
        assert torch.equal(compiled(torch.ones(size)), torch.full((size,), 2.0))
    assert traced == [False]


def test_nothing_is_probed_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor remembered as missing."""
    a_described_gpu(monkeypatch)
    monkeypatch.setattr(kernels, "_compiles", lambda device: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    device = torch.device("cuda", 3)
    for capturing in (True, False):
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda c=capturing: c)
        assert kernels.available(device) is not capturing


def test_nothing_needs_triton() -> None:
    """On a CPU nothing imports it, and what would use it on CUDA finds that it is not there."""
    script = """
import sys
sys.modules["triton"] = None  # importing it raises ImportError
import torch
from alpine_cli.pruning import engines, kernels
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import apply_plan
from alpine_cli.pruning.selection import plan_keep
ragged = Ragged.from_lengths(torch.tensor([3]))
assert not kernels.chosen(torch.device("cuda"))
plan = plan_keep(torch.tensor([True, False, True]), ragged, "mean")
assert apply_plan(torch.ones(3, 2), plan).tolist() == [[1, 1]] * 3
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)
