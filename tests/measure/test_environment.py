"""What is recorded of the machine, and what is not."""

from __future__ import annotations

import getpass
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpine_cli.measure import environment
from alpine_cli.measure.environment import describe_environment, describe_gpus


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


def test_the_commit_is_that_of_the_checkout() -> None:
    folder = Path(environment.__file__).parent
    asked = subprocess.run(
        ["git", "-C", str(folder), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    expected = asked.stdout.strip() if asked.returncode == 0 else None
    assert describe_environment().git_commit == expected


class FakeCard:
    """NVML of one card that does not know its power limit."""

    NVML_CLOCK_SM = 1
    NVML_CLOCK_MEM = 2
    NVML_TEMPERATURE_GPU = 0
    nvmlClocksThrottleReasonSwPowerCap = 4

    class NVMLError(Exception):
        pass

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlSystemGetDriverVersion": b"575.1",
            "nvmlDeviceGetCount": 1,
            "nvmlDeviceGetHandleByIndex": "card",
            "nvmlDeviceGetName": "H200",
            "nvmlDeviceGetUUID": "GPU-1",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(total=10),
            "nvmlDeviceGetClockInfo": 1980,
            "nvmlDeviceGetTemperature": 41,
            "nvmlDeviceGetCurrentClocksThrottleReasons": 4,
        }
        if name == "nvmlDeviceGetPowerManagementLimit":

            def refuse(*_: Any) -> None:
                raise self.NVMLError

            return refuse
        if name not in answers:
            raise AttributeError(name)
        return lambda *_: answers[name]


def test_a_question_the_card_refuses_costs_only_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def fake() -> Any:
        yield FakeCard()

    monkeypatch.setattr(environment, "nvml", fake)
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
