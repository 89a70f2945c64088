"""Putting measures together: what fails is said and costs no more than itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.errors import DataError, MeasurementError
from alpine_cli.measure import bench, measures
from alpine_cli.measure.bench import run_measures
from alpine_cli.measure.memory_trials import memory_figures
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.results import Figure, Part
from alpine_cli.tasks.batching import BatchLimit


@pytest.fixture
def options(subject: tuple[Path, Path]) -> MeasureOptions:
    return MeasureOptions(checkpoint=subject[0], device="cpu", threads=1, memory_runs=2)


def part_with(name: str, variants: list[str]) -> dict[str, Any]:
    figures = [
        Figure(
            name=name,
            variant=variant,
            unit="samples/s",
            value=1.0,
            provenance="measured",
            method="made up",
        )
        for variant in variants
    ]
    return Part(figures=figures).model_dump(mode="json")


class Workers:
    """Stands in for `run_isolated`; notes every request; some die."""

    def __init__(self, dying: Mapping[str, Exception]) -> None:
        self.dying = dying
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    def __call__(self, kind: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        self.requests.append((kind, request))
        variants = [variant["name"] for variant in request["workload"]["variants"]]
        for key in (kind, f"{request.get('purpose')} of {variants[0]}"):
            if key in self.dying:
                raise self.dying[key]
        if kind == "memory":
            return {"bytes": {"run": 10, "process": 100}, "peak_was_reset": True}
        return part_with(kind, variants)


def run(
    monkeypatch: pytest.MonkeyPatch,
    options: MeasureOptions,
    kinds: tuple[str, ...],
    dying: Mapping[str, Exception],
) -> tuple[Any, Workers]:
    workers = Workers(dying)
    monkeypatch.setattr(measures, "run_isolated", workers)
    return run_measures(options, kinds), workers


def test_a_measure_that_dies_leaves_the_others(
    monkeypatch: pytest.MonkeyPatch, options: MeasureOptions
) -> None:
    dying = {"flops": MeasurementError("killed by SIGKILL")}
    result, _ = run(monkeypatch, options, ("flops", "throughput"), dying)
    assert result.kind == "bench"
    lost = result.figure("total_macs", "pruned")
    assert (lost.value, lost.reason) == (None, "killed by SIGKILL")
    assert result.figure("throughput", "pruned").value == 1
    assert any(c.text.startswith("flops was not measured") for c in result.cautions)


def test_if_nothing_could_be_measured_there_is_no_result(
    monkeypatch: pytest.MonkeyPatch, options: MeasureOptions
) -> None:
    with pytest.raises(MeasurementError, match="SIGKILL"):
        run(monkeypatch, options, ("flops",), {"flops": MeasurementError("SIGKILL")})


def test_bad_input_found_by_a_worker_stops_all(
    monkeypatch: pytest.MonkeyPatch, options: MeasureOptions
) -> None:
    with pytest.raises(DataError):
        run(monkeypatch, options, ("flops", "throughput"), {"flops": DataError("a.jsonl:3")})


def test_memory_that_does_not_fit_is_one_lost_figure(
    monkeypatch: pytest.MonkeyPatch, options: MeasureOptions
) -> None:
    dying = {"training of stock": MeasurementError("ran out of memory")}
    result, workers = run(monkeypatch, options, ("memory",), dying)
    lost = result.figure("training_memory_run", "stock")
    assert (lost.value, lost.reason) == (None, "ran out of memory")
    kept = result.figure("training_memory_run", "pruned")
    assert (kept.value, kept.n) == (10, 2)
    assert result.figure("inference_memory_run", "stock").value == 10
    assert any("training memory of stock" in c.text for c in result.cautions)
    # 3 variants x 2 purposes x 2 processes; a variant that died once is not tried again
    assert len(workers.requests) == 11


def test_training_runs_at_its_own_batch_size(
    monkeypatch: pytest.MonkeyPatch, options: MeasureOptions
) -> None:
    _, workers = run(monkeypatch, options, ("memory",), {})
    sizes = {
        request["purpose"]: request["workload"]["batch_size"] for _, request in workers.requests
    }
    assert sizes == {"inference": 32, "training": 8}
    assert all(len(request["workload"]["variants"]) == 1 for _, request in workers.requests)


def test_memory_is_the_median_of_processes_and_says_how_it_was_taken() -> None:
    answers = [
        {"bytes": {"run": value, "process": 2 * value}, "peak_was_reset": reset}
        for value, reset in ((10, True), (30, True), (20, False))
    ]
    run_figure, process = memory_figures("inference", "pruned", answers, BatchLimit(32))
    assert (run_figure.value, run_figure.n, run_figure.samples) == (20, 3, [10, 30, 20])
    assert process.value == 40
    assert "since process start" in run_figure.method
    assert "batches of 32" in run_figure.method


def test_the_command_line_keeps_no_folder_of_this_machine() -> None:
    typed = ["/usr/bin/alpine", "bench", "--data", "/home/me/bcb", "--output=/tmp/x/out", "--json"]
    assert bench.command_line(typed) == [
        "alpine",
        "bench",
        "--data",
        "bcb",
        "--output=out",
        "--json",
    ]
