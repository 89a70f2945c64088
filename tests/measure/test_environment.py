"""What is recorded of the machine, and what is not."""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from alpine_cli.measure import environment
from alpine_cli.measure.environment import (
    describe_environment,
    describe_gpus,
    float32_products,
)
from tests.measure.fake_nvml import FakeNvml


def test_the_machine_is_described_and_its_owner_is_not() -> None:
    described = describe_environment(threads=2, seed=7)
    assert described.cpu_model
    assert described.ram_bytes > 2**28
    assert 1 <= described.usable_cores <= described.logical_cores
    assert (described.threads, described.seed) == (2, 7)
    assert described.python == ".".join(map(str, sys.version_info[:3]))
    assert "torch" in described.versions
    text = described.model_dump_json()
    assert socket.gethostname() not in text or socket.gethostname() in described.os
    assert f'"{getpass.getuser()}"' not in text


def test_how_float32_is_multiplied_on_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Null without CUDA; else what PyTorch is set to, its environment variable included."""
    if not torch.cuda.is_available():
        assert describe_environment().float32_products is None
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    before = torch.get_float32_matmul_precision()
    try:
        for setting, told in (("highest", "ieee"), ("high", "tf32")):
            torch.set_float32_matmul_precision(setting)
            assert float32_products() == told
    finally:
        torch.set_float32_matmul_precision(before)
    asked = subprocess.run(
        [sys.executable, "-c", _ASKED],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1"},
    )
    assert asked.stdout.split() == ["tf32"]


_ASKED = """
import torch
torch.cuda.is_available = lambda: True
from alpine_cli.measure.environment import float32_products
print(float32_products())
"""


def test_the_commit_is_that_of_the_checkout() -> None:
    folder = Path(environment.__file__).parent
    asked = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    expected = asked.stdout.strip() if asked.returncode == 0 else None
    assert describe_environment().git_commit == expected


def test_a_question_the_card_refuses_costs_only_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    card = FakeNvml(
        nvmlDeviceGetPowerManagementLimit=None, nvmlDeviceGetCurrentClocksThrottleReasons=4
    )
    monkeypatch.setattr(environment, "nvml", card.opened)
    (gpu,), note = describe_gpus()
    assert note is None
    assert (gpu.name, gpu.driver, gpu.sm_clock_mhz, gpu.temperature_c) == (
        "H200",
        "575.1",
        1980,
        41,
    )
    assert gpu.power_limit_w is None
    assert gpu.throttle_reasons == ["software power cap"]
    assert environment.gpu_throttling() == ["software power cap"]


def test_what_runs_on_the_gpu_as_far_as_the_driver_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    card = FakeNvml(nvmlDeviceGetUtilizationRates=SimpleNamespace(gpu=30))
    card.processes(11, 12)
    monkeypatch.setattr(environment, "nvml", card.opened)
    (use,) = environment.gpu_use()
    assert (use.name, use.processes, use.busy_share) == ("H200", (11, 12), 0.3)
    card.answers["nvmlDeviceGetComputeRunningProcesses"] = None
    card.answers["nvmlDeviceGetUtilizationRates"] = None
    (use,) = environment.gpu_use()
    assert (use.processes, use.busy_share) == ((), None)
