"""`alpine doctor` as a user types it."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import pytest

from alpine_cli.measure import doctor
from alpine_cli.measure.doctor import Finding

Run = Callable[..., Any]


def test_it_tells_about_this_machine_without_a_network(
    run_alpine: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"network asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    result = run_alpine("doctor", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["broken"] == 0
    found = {finding["name"]: finding for finding in answer["findings"]}
    assert {"energy of the CPU", "processor", "memory", "torch", "figures to cite"} <= set(found)
    assert found["energy of the CPU"]["text"].startswith(("measured: ", "modelled: "))


FINDINGS = [
    Finding("energy", "energy of the CPU", "modelled", "modelled: by a model", "Ask root"),
    Finding("machine", "processor", "good", "a CPU [4 cores]"),
    Finding("machine", "GPU", "absent", "none"),
    Finding("software", "torch", "mind", "too new"),
]


def test_signs_and_words_not_colour_alone(run_alpine: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda: FINDINGS)
    result = run_alpine("doctor")
    assert result.exit_code == 0
    for text in (
        "~ modelled  energy of the CPU  modelled: by a model",
        "→ Ask root",
        "✓ good    processor  a CPU [4 cores]",
        "– absent  GPU",
        "! mind  torch  too new",
    ):
        assert text in result.stdout
    assert "\x1b[" not in result.stdout


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_only_what_is_broken_is_a_failure(
    run_alpine: Run, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    broken = Finding("software", "torch", "broken", "not installed", "pip install torch")
    monkeypatch.setattr(doctor, "examine", lambda: [*FINDINGS, broken])
    result = run_alpine("doctor", *flags)
    assert result.exit_code == 1
    assert "not installed" in result.stdout
    assert result.stderr == ""
