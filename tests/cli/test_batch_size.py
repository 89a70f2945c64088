"""`alpine measure-memory --find-batch-size` as a user types it; a stand-in takes the processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.measure.subjects import write_checkpoint, write_data

Run = Callable[..., Any]
ROOM = {"stock": 40, "unpruned": 40, "pruned": 90}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    folder = tmp_path_factory.mktemp("batch-size")
    return write_checkpoint(folder / "ckpt.pt", tiny_model_dir, write_data(folder / "data"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the processes were asked, in order."""
    requests: list[dict[str, Any]] = []

    def run(measure: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        requests.append({"measure": measure, **request})
        return {"fits": request["batch_size"] <= ROOM[request["name"]], "said": None}

    monkeypatch.setattr("alpine_cli.measure.measures.run_isolated", run)
    return requests


def test_the_result_says_how_many_fit_into_what(
    checkpoint: Path, asked: list[dict[str, Any]], run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(
        *("measure-memory", "--checkpoint", checkpoint, "--output", tmp_path, "--device", "cpu"),
        *("--find-batch-size", "--memory-limit", "3GiB", "--no-training-memory", "--json"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    result = json.loads(outcome.stdout)
    assert result["kind"] == "memory"
    assert result["settings"]["memory_limit"] == 3 * 2**30
    found = {f["variant"]: f for f in result["figures"] if f["name"] == "inference_largest_batch"}
    assert found["stock"]["value"] == 40
    assert found["pruned"]["value"] in (88, 89, 90)
    assert "within 3.00 GiB of resident memory of the process, as asked" in found["stock"]["method"]
    assert {request["measure"] for request in asked} == {"batch_size"}
    assert {request["purpose"] for request in asked} == {"inference"}


def test_the_table_shows_whole_samples(
    checkpoint: Path, asked: list[dict[str, Any]], run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(
        *("measure-memory", "--checkpoint", checkpoint, "--output", tmp_path),
        *("--device", "cpu", "--find-batch-size"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    (row,) = [line for line in outcome.stdout.splitlines() if "largest batch, inference" in line]
    assert " 40 " in row
    assert "largest batch, training" in outcome.stdout
    assert {request["purpose"] for request in asked} == {"inference", "training"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("--find-batch-size", "--memory-limit", "lots"),
            "--memory-limit: must be an amount of memory such as 4GiB",
        ),
        (("--memory-limit", "4GiB"), "goes with --find-batch-size"),
    ],
    ids=["no amount", "no search"],
)
def test_bad_limits_are_bad_input(
    checkpoint: Path, arguments: tuple[str, ...], message: str, run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(
        *("measure-memory", "--checkpoint", checkpoint, "--output", tmp_path / "out"), *arguments
    )
    assert outcome.exit_code == 2
    assert message in outcome.stderr
    assert not (tmp_path / "out").exists()
