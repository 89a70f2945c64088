"""training.json: what a finished run tells of itself, and that a report can read it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from alpine_cli.config import RunConfig
from alpine_cli.files import sha256_of
from alpine_cli.measure.carbon import grid_intensity, recompute
from alpine_cli.measure.environment import describe_environment
from alpine_cli.result_files import read_result, read_results
from alpine_cli.results import Result
from alpine_cli.training import finetune, finetuning
from alpine_cli.training.consumption import ComponentUse, Consumption
from alpine_cli.training.inputs import TrainingInput
from alpine_cli.training.record import training_result
from alpine_cli.training.rundir import RunDirectory
from tests.training.test_resume import _killed

MakeConfig = Callable[..., RunConfig]


def record_of(run: Path) -> Result:
    return read_result(run / "training.json")


def value(result: Result, name: str) -> float:
    figure = result.figure(name, next(iter(result.variants)))
    assert figure is not None
    assert figure.value is not None, figure.reason
    return figure.value


def test_a_finished_run_is_a_result(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config()
    run = finetune(config).run_dir
    result = record_of(run)
    assert (result.kind, list(result.variants)) == ("training", ["pruned"])
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    seconds = value(result, "finetuning_seconds")
    end = lines[-1]
    assert 0.9 * end["train_s"] < seconds <= end["train_s"] + 0.1
    joules = value(result, "finetuning_energy")
    assert joules == pytest.approx(10 * seconds, rel=0.05)  # of `SteadyMeter`
    assert joules == value(result, "finetuning_energy_cpu")
    gpu = result.figure("finetuning_energy_gpu", "pruned")
    assert gpu is not None
    assert gpu.reason == "the run used no GPU"
    grid = grid_intensity()
    co2 = result.figure("finetuning_co2", "pruned")
    assert co2 is not None
    assert co2.value == pytest.approx(joules / 3.6e6 * grid.g_per_kwh)
    assert "world mean" in co2.method
    assert str(grid.year) in co2.method

    valid = [line for line in lines if line["event"] == "valid"]
    best = max(line["accuracy"] for line in valid)
    assert value(result, "validation_accuracy") == best
    curves = {series.name: series for series in result.series}
    assert curves["learning_curve"].y == [line["accuracy"] for line in valid]
    assert curves["learning_curve"].x == [1.0, 2.0]
    train = [line for line in lines if line["event"] == "train"]
    assert curves["training_loss"].x == [line["step"] for line in train]
    assert curves["training_loss"].y == [line["loss"] for line in train]

    variant = result.variants["pruned"]
    assert variant.checkpoint_sha256 == sha256_of(run / "ckpt.pt")
    assert variant.training_seed == 7
    assert variant.pruning == config.prune.to_dict()
    assert (result.subject.split, result.subject.samples) == ("train", 26)
    assert result.settings["batch_size"] == 4
    assert result.settings["device"] == "cpu"
    text = (run / "training.json").read_text()
    assert str(tmp_path) not in text
    assert str(Path(config.model).parent) not in text


def made(config: RunConfig, folder: Path, used: Consumption) -> Result:
    """The record of a run of one epoch that had used that much; nothing is trained."""
    checkpoint = folder / "run" / "ckpt.pt"
    checkpoint.parent.mkdir()
    checkpoint.write_bytes(b"weights")
    valid = {"event": "valid", "epoch": 1.0, "metric": "f1", "f1": 0.5, "loss": 0.7, "best": True}
    return training_result(
        config,
        TrainingInput.of(config),
        checkpoint=checkpoint,
        entries=[valid],
        used=used,
        environment=describe_environment(),
        device="cuda:0",
        processes=2,
    )


def test_an_unpruned_run_that_lost_its_meters(make_config: MakeConfig, tmp_path: Path) -> None:
    """Energy of a part of the run is not the energy of the run."""
    use = ComponentUse(joules=9000.0, seconds=90.0, sources=[("measured", "NVML")])
    used = Consumption(
        seconds=120.0, components={"gpu": use}, absent={"gpu": "reset", "cpu": "broken"}
    )
    result = made(make_config(prune__layers="none"), tmp_path, used)
    assert list(result.variants) == ["unpruned"]
    assert value(result, "finetuning_seconds") == 120
    reasons = {figure.name: figure.reason for figure in result.figures if figure.value is None}
    assert reasons["finetuning_energy_gpu"] == "metered in 90 of 120 s only: reset"
    assert reasons["finetuning_energy_cpu"] == "broken"
    assert "throughout the run" in (reasons["finetuning_energy"] or "")
    assert reasons["finetuning_co2"] == reasons["finetuning_energy"]


def test_provenances_of_all_sessions_are_told(make_config: MakeConfig, tmp_path: Path) -> None:
    """Measured, then resumed where it could only be modelled: the whole is modelled."""
    gpu = ComponentUse(joules=5000.0, seconds=100.0, sources=[("measured", "NVML")])
    cpu = ComponentUse(
        joules=1000.0, seconds=99.5, sources=[("measured", "RAPL"), ("modelled", "codecarbon")]
    )
    used = Consumption(
        seconds=100.0,
        components={"cpu": cpu, "gpu": gpu},
        interruptions=3,
        lost_seconds=41.7,
        elsewhere=2,
    )
    result = made(make_config(), tmp_path, used)
    total = result.figure("finetuning_energy", "pruned")
    assert total is not None
    assert (total.value, total.provenance) == (6000.0, "modelled")
    assert "sum of gpu measured, cpu modelled; without ram" in total.method
    part = result.figure("finetuning_energy_cpu", "pruned")
    assert part is not None
    assert "RAPL; then, resumed, codecarbon" in part.method
    told = {found.code: str(found) for found in result.cautions}
    assert "interrupted 3 times" in told["run-interrupted"]
    assert "at least 42 s" in told["run-interrupted"]
    assert "energy of cpu is modelled" in told["energy-modelled"]
    assert "2 process(es) ran on other machines" in told["other-machines"]
    elsewhere = recompute(result, grid_intensity(None, 100.0), 2.0)
    assert value(elsewhere, "finetuning_co2") == pytest.approx(6000 / 3.6e6 * 200)


def test_an_interruption_is_told(make_config: MakeConfig, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    _killed(make_config(output=str(run)), None, "before step", 6)
    finetune(resume=run)
    (result,), problems = read_results(run)
    assert problems == []
    (caution,) = [found for found in result.cautions if found.code == "run-interrupted"]
    assert "interrupted once" in caution.text
    assert len(result.series[0].x) == 2  # both epochs
    assert value(result, "finetuning_energy") > 0


def test_a_record_that_cannot_be_made_does_not_fail_the_run(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> Result:
        raise OSError("disk full")

    monkeypatch.setattr(finetuning, "training_result", fail)
    outcome = finetune(make_config(train__epochs=1))
    assert outcome.metrics["event"] == "end"
    assert not (outcome.run_dir / "training.json").exists()


def test_beginning_anew_clears_an_earlier_record(make_config: MakeConfig, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.start(make_config())
    run.record.write_text("{}")
    run.start(make_config())
    assert not run.record.exists()
