"""The measuring commands as a user types them. Times are never asserted, what must agree is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alpine_cli.result_files import read_result, read_results
from alpine_cli.results import Result
from tests.measure.subjects import write_checkpoint, write_data

Run = Callable[..., Any]
QUICK = ("--threads", 1, "--batch-size", 8, "--device", "cpu")
TIMES = ("--runs", 5, "--min-seconds", 0, "--timed-samples", 16)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bench")
    data = write_data(folder / "data")
    return write_checkpoint(folder / "ckpt.pt", tiny_model_dir, data), data


@pytest.fixture(scope="module")
def benched(
    subject: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path]:
    """One whole `alpine bench`, shared by the tests below: (outcome, directory of results)."""
    from typer.testing import CliRunner

    from alpine_cli.cli import app

    results = tmp_path_factory.mktemp("results")
    arguments = ["bench", "--checkpoint", subject[0], "--output", results, *QUICK, *TIMES]
    arguments += ["--memory-runs", 1, "--country", "FRA"]
    # Each of them takes as long as all of inference; tests/measure looks at them closely.
    arguments += ["--no-training-memory", "--no-training-energy"]
    return CliRunner().invoke(app, [str(argument) for argument in arguments]), results


@pytest.fixture(scope="module")
def result(benched: tuple[Any, Path]) -> Result:
    (found,), problems = read_results(benched[1])
    assert problems == []
    return found


def test_bench_prints_one_table_and_adds_one_file(benched: tuple[Any, Path]) -> None:
    outcome, results = benched
    assert outcome.exit_code == 0, outcome.stderr
    for text in ("accuracy, %", "multiply-adds", "throughput", "memory", "CO2", "undecided"):
        assert text in outcome.stdout
    assert "tokens entering each layer" in outcome.stdout
    (written,) = results.iterdir()
    assert str(written) in outcome.stderr.replace("\n", "")


def test_every_measure_left_figures_for_every_variant(result: Result) -> None:
    assert list(result.variants) == ["stock", "unpruned", "pruned"]
    for variant in result.variants:
        for name in (
            "accuracy",
            "f1",
            "total_macs",
            "throughput",
            "latency",
            "training_throughput",
            "inference_memory_run",
            "energy_gross",
            "co2",
        ):
            figure = result.figure(name, variant)
            assert figure is not None, name
            assert figure.value is not None, figure.reason


def test_the_speed_up_is_taken_apart_and_told_by_length(result: Result) -> None:
    names = {series.name for series in result.series}
    assert {"speedup_anatomy", "throughput_by_length"} <= names
    (anatomy,) = [series for series in result.series if series.name == "speedup_anatomy"]
    assert anatomy.variant == "pruned"
    assert anatomy.baseline == "unpruned"


def test_a_percentile_that_samples_do_not_reach_is_absent_with_the_reason(result: Result) -> None:
    figure = result.figure("latency_p95", "pruned")
    assert figure is not None
    assert figure.value is None
    assert "samples" in (figure.reason or "")


def test_what_was_not_asked_for_is_not_there(result: Result) -> None:
    assert result.figure("training_memory_run", "pruned") is None
    assert result.figure("training_energy_gross", "pruned") is None


def test_predictions_are_kept_for_later_tests(result: Result) -> None:
    assert result.predictions is not None
    assert set(result.predictions.predicted) == set(result.variants)
    right = sum(
        a == b
        for a, b in zip(
            result.predictions.labels, result.predictions.predicted["pruned"], strict=True
        )
    )
    figure = result.figure("accuracy", "pruned")
    assert figure is not None
    assert figure.value == pytest.approx(right / len(result.predictions.labels))


def test_unpruned_is_stock_and_pruned_is_not(result: Result) -> None:
    for name in ("accuracy", "f1", "mcc"):
        stock, unpruned = result.figure(name, "stock"), result.figure(name, "unpruned")
        assert stock is not None
        assert unpruned is not None
        assert stock.value == unpruned.value
    agreement = result.figure("agreement", "unpruned")
    assert agreement is not None
    assert agreement.value == 1.0
    comparison = result.comparison("total_macs")
    assert comparison is not None
    assert comparison.ratio is not None
    assert comparison.ratio < 0.9
    assert comparison.verdict == "better"


def test_lengths_fall_in_the_layers_that_prune(result: Result) -> None:
    curves = {s.variant: s.y for s in result.series if s.name == "mean_length"}
    assert len(set(curves["stock"])) == len(set(curves["unpruned"])) == 1
    lengths = curves["pruned"]
    assert lengths[0] > lengths[1] == lengths[2] > lengths[3] == lengths[4]  # type: ignore[operator]


def test_raw_samples_are_kept_and_values_follow_from_them(result: Result) -> None:
    for variant in result.variants:
        figure = result.figure("throughput", variant)
        assert figure is not None
        assert figure.samples is not None
        assert len(figure.samples) >= 5
        harmonic = len(figure.samples) / sum(1 / rate for rate in figure.samples)
        assert figure.value == pytest.approx(harmonic)
    pruned, unpruned = (
        result.figure("throughput", "pruned"),
        result.figure("throughput", "unpruned"),
    )
    found = result.comparison("throughput")
    assert found is not None
    assert found.ratio == pytest.approx(pruned.value / unpruned.value)  # type: ignore[union-attr,operator]
    assert found.interval is not None
    assert found.interval.low <= found.ratio <= found.interval.high  # type: ignore[operator]


def test_one_process_per_memory_figure_gives_a_ratio_but_no_verdict(result: Result) -> None:
    found = result.comparison("inference_memory_process")
    assert found is not None
    assert found.ratio is not None
    assert found.verdict == "not judged"


def test_energy_says_what_it_is(result: Result) -> None:
    gpu = result.figure("energy_gpu", "pruned")
    co2 = result.figure("co2", "pruned")
    assert gpu is not None
    assert co2 is not None
    assert gpu.value is None
    assert "no GPU" in (gpu.reason or "")
    assert "France" in co2.method


def test_the_result_tells_where_it_comes_from(result: Result) -> None:
    assert result.environment.cpu_model
    assert result.environment.threads == 1
    assert result.environment.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert len(result.variants["pruned"].checkpoint_sha256) == 64
    assert result.settings["runs"] == 5
    text = result.model_dump_json()
    assert str(Path.home()) not in text or str(Path.home()) == "/"
    assert "/tmp/" not in text


def test_report_rebuilds_from_the_result_alone(
    benched: tuple[Any, Path], run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine("report", benched[1], "--output", tmp_path / "report")
    assert outcome.exit_code == 0, outcome.stderr
    for name in ("report.md", "report.xlsx", "figures.csv"):
        assert (tmp_path / "report" / name).is_file()
    again = run_alpine("report", benched[1], "--output", tmp_path / "report")
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_measure_flops_as_json(subject: tuple[Path, Path], run_alpine: Run, tmp_path: Path) -> None:
    outcome = run_alpine(
        *("measure-flops", "--checkpoint", subject[0], "--output", tmp_path, "--json"),
        *("--layers", "all", "--limit", 6, "--threads", 1, "--device", "cpu"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    printed = json.loads(outcome.stdout)
    assert printed["kind"] == "flops"
    assert printed["subject"]["samples"] == 6
    (path,) = tmp_path.iterdir()
    assert read_result(path).model_dump(mode="json") == printed
    ratios = [f["value"] for f in printed["figures"] if f["name"].endswith("_over_analytic")]
    assert len(ratios) == 6
    assert ratios == pytest.approx([1.0] * 6, abs=0.01)


COMMANDS = ("bench", "measure-flops", "measure-memory", "throughput", "co2")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_checkpoint_is_bad_input_and_nothing_is_written(
    command: str, run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(command, "--checkpoint", tmp_path / "no.pt", "--output", tmp_path / "out")
    assert outcome.exit_code == 2
    assert "no.pt" in outcome.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_no_cuda_where_asked(subject: tuple[Path, Path], run_alpine: Run, tmp_path: Path) -> None:
    outcome = run_alpine(
        *("throughput", "--checkpoint", subject[0], "--device", "cuda"),
        *("--output", tmp_path / "out"),
    )
    assert outcome.exit_code == 2
    assert "CUDA" in outcome.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused_before_any_work(
    subject: tuple[Path, Path], run_alpine: Run, tmp_path: Path
) -> None:
    (tmp_path / "results").write_text("mine", encoding="utf-8")
    outcome = run_alpine(
        "bench", "--checkpoint", subject[0], "--output", tmp_path / "results", *QUICK
    )
    assert outcome.exit_code == 2
    assert (tmp_path / "results").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layers", "0,77"), "77"),
        (("--alpha", "-1"), "alpha"),
        (("--merge", "sum"), "merge"),
        (("--country", "ZZZ"), "ZZZ"),
        (("--data", "nowhere"), "nowhere"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_bad_options_are_bad_input(
    subject: tuple[Path, Path],
    run_alpine: Run,
    tmp_path: Path,
    arguments: tuple[str, str],
    message: str,
) -> None:
    outcome = run_alpine(
        *("bench", "--checkpoint", subject[0], "--output", tmp_path / "out", *QUICK), *arguments
    )
    assert outcome.exit_code == 2, outcome.output
    assert message in outcome.stderr


def test_a_report_of_nothing_says_what_to_do(run_alpine: Run, tmp_path: Path) -> None:
    outcome = run_alpine("report", tmp_path / "none", "--output", tmp_path / "report")
    assert outcome.exit_code == 2
    assert "alpine bench" in outcome.stderr
    assert not (tmp_path / "report").exists()
