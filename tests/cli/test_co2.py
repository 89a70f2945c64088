"""`alpine co2` as a user types it: training steps, the grid, and the break-even beside a record.

Its worker runs in this process on a clock and a meter of our own (see tests/measure/test_energy).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.files import sha256_of
from alpine_cli.measure import measures
from alpine_cli.measure.energy import measure_energy
from alpine_cli.result_files import read_results
from alpine_cli.results import Result
from tests.measure.conftest import subject  # noqa: F401 (a fixture)
from tests.measure.test_break_even import training
from tests.measure.test_energy import BUSY_W, IDLE_W, SECONDS, Power, power  # noqa: F401

Run = Callable[..., Any]


@pytest.fixture
def co2(
    run_alpine: Run,
    subject: tuple[Path, Path],  # noqa: F811
    power: Power,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Result]:
    def in_process(kind: str, request: Any, **kwargs: Any) -> dict[str, Any]:
        assert kind == "energy"
        return measure_energy(request)

    monkeypatch.setattr(measures, "run_isolated", in_process)
    checkpoint = subject[0]

    def run(*options: str) -> Result:
        arguments = ["--checkpoint", checkpoint, "--output", tmp_path, "--device", "cpu"]
        arguments += [
            "--threads",
            1,
            "--batch-size",
            8,
            "--runs",
            5,
            "--min-seconds",
            0,
            "--limit",
            8,
        ]
        outcome = run_alpine("co2", *map(str, arguments), *options)
        assert outcome.exit_code == 0, outcome.stderr
        (result,), problems = read_results(tmp_path)
        assert problems == []
        return result

    return run


def value(result: Result, name: str, variant: str = "pruned") -> float | None:
    figure = result.figure(name, variant)
    return None if figure is None else figure.value


def test_training_steps_and_break_even(
    co2: Callable[..., Result],
    subject: tuple[Path, Path],  # noqa: F811
) -> None:
    record = subject[0].parent / "training.json"
    spent = training(sha256_of(subject[0]), cpu=(7200.0, "measured"))
    record.write_text(spent.model_dump_json())
    try:
        result = co2("--training-batch-size", "4", "--country", "FRA", "--pue", "1.2")
    finally:
        record.unlink()  # the subject is shared by the session
    assert result.kind == "energy"
    for variant in ("stock", "unpruned", "pruned"):
        gross = value(result, "training_energy_gross", variant)
        assert gross is not None
        assert gross > 0
    co2_figure = result.figure("training_co2", "pruned")
    assert co2_figure is not None
    assert "France" in co2_figure.method
    assert "PUE 1.2" in co2_figure.method
    saved = (IDLE_W + BUSY_W) * (SECONDS["unpruned"] - SECONDS["pruned"]) / 8
    assert value(result, "break_even_samples") == pytest.approx(7200 / saved)


def test_without_training_and_without_a_record(co2: Callable[..., Result]) -> None:
    result = co2("--no-training")
    names = {figure.name for figure in result.figures}
    assert "energy_gross" in names
    assert not any(name.startswith(("training", "break_even")) for name in names)
