"""`--tokens-per-batch` of the measuring commands, as typed; workers run in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.measure import measures
from alpine_cli.measure.flops import measure_flops
from alpine_cli.measure.memory import measure_memory
from alpine_cli.result_files import read_results
from alpine_cli.results import Result
from tests.measure.conftest import subject  # noqa: F401 (a fixture)

Run = Callable[..., Any]
BUDGET = "batches of at most 150 tokens, padding counted"


@pytest.fixture
def measured(
    run_alpine: Run,
    subject: tuple[Path, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Result]:
    workers = {"flops": measure_flops, "memory": measure_memory}

    def in_process(kind: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        return workers[kind](request)

    monkeypatch.setattr(measures, "run_isolated", in_process)

    def run(command: str, *options: str) -> Result:
        few = ("--checkpoint", subject[0], "--output", tmp_path, "--device", "cpu", "--threads", 1)
        outcome = run_alpine(command, *few, *options)
        assert outcome.exit_code == 0, outcome.stderr
        (result,), problems = read_results(tmp_path)
        assert problems == []
        return result

    return run


def test_flops_of_padded_variants_are_those_of_the_budget(measured: Callable[..., Result]) -> None:
    result = measured("measure-flops", "--tokens-per-batch", "150")
    assert result.settings["flops_tokens_per_batch"] == 150
    assert result.settings["flops_batch_size"] is None
    for variant in ("stock", "unpruned", "pruned"):
        figure = result.figure("total_macs", variant)
        assert figure is not None
        assert BUDGET in figure.method
        assert figure.n == 24
    stock, unpruned = (result.figure("total_macs", name) for name in ("stock", "unpruned"))
    assert stock is not None
    assert unpruned is not None
    assert stock.value > unpruned.value  # type: ignore[operator]  # it computes on padding


def test_memory_is_that_of_the_fullest_and_longest_batches(measured: Callable[..., Result]) -> None:
    result = measured(
        *("measure-memory", "--tokens-per-batch", "150", "--training-tokens-per-batch", "70"),
        *("--runs", "1"),
    )
    told = {figure.name: figure.method for figure in result.figures}
    assert "of the longest rows, of at most 150 tokens" in told["inference_memory_run"]
    assert "of the longest rows, of at most 70 tokens" in told["training_memory_run"]
    assert result.settings["batch_size"] is result.settings["training_batch_size"] is None


@pytest.mark.parametrize(
    "command",
    ["bench", "throughput", "co2", "measure-memory", "measure-flops", "sweep", "tune"],
)
def test_two_limits_and_impossible_ones(
    command: str,
    run_alpine: Run,
    subject: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    few = ("--checkpoint", subject[0], "--output", output)
    more = ("--max-drop", 1) if command == "tune" else ()
    both = run_alpine(command, *few, *more, "--batch-size", 4, "--tokens-per-batch", 64)
    assert both.exit_code == 2
    assert "--batch-size 4 and --tokens-per-batch 64 both say" in both.stderr
    for bad in ("0", "-3", "many"):
        outcome = run_alpine(command, *few, *more, "--tokens-per-batch", bad)
        assert outcome.exit_code == 2
        assert "--tokens-per-batch" in outcome.stderr
    assert not output.exists()


@pytest.mark.parametrize("command", ["bench", "throughput", "co2", "measure-memory"])
def test_two_limits_of_training_steps(
    command: str,
    run_alpine: Run,
    subject: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    words = ("--training-batch-size", 4, "--training-tokens-per-batch", 64)
    outcome = run_alpine(command, "--checkpoint", subject[0], "--output", tmp_path / "out", *words)
    assert outcome.exit_code == 2
    assert "--training-batch-size 4 and --training-tokens-per-batch 64 both" in outcome.stderr


def test_a_search_for_samples_takes_no_budget(
    run_alpine: Run,
    subject: tuple[Path, Path],  # noqa: F811
    tmp_path: Path,
) -> None:
    words = ("--find-batch-size", "--tokens-per-batch", 64, "--output", tmp_path / "out")
    outcome = run_alpine("measure-memory", "--checkpoint", subject[0], *words)
    assert outcome.exit_code == 2
    assert "leave out the tokens per batch" in outcome.stderr
