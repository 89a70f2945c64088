"""Whatever becomes of a worker, the parent gets an answer or an error that says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpine_cli.errors import ConfigError, DataError, MeasurementError
from alpine_cli.measure.isolation import run_isolated, worker_environment

WORKER = "tests.measure.dying_worker"


def run(how: str, **options: object) -> dict[str, object]:
    return run_isolated("memory", {"how": how}, module=WORKER, **options)  # type: ignore[arg-type]


def test_a_killed_worker_names_the_signal_the_likely_cause_and_its_last_words() -> None:
    with pytest.raises(MeasurementError, match="SIGKILL") as caught:
        run("killed")
    message = str(caught.value)
    assert "ran out of memory" in message
    assert "--batch-size" in message
    assert "last words" in message


def test_an_exit_status_is_named() -> None:
    with pytest.raises(MeasurementError, match="exit status 3"):
        run("exit")


def test_silence_is_no_result() -> None:
    with pytest.raises(MeasurementError, match="without a result"):
        run("nothing")


def test_a_talkative_worker_does_not_block() -> None:
    with pytest.raises(MeasurementError, match="end of flood"):
        run("flood")


@pytest.mark.parametrize(
    ("how", "expected"),
    [("DataError", DataError), ("ConfigError", ConfigError), ("NoSuchError", MeasurementError)],
)
def test_errors_of_alpine_keep_their_class(how: str, expected: type[Exception]) -> None:
    with pytest.raises(expected, match=r"a\.jsonl:3") as caught:
        run(how)
    assert type(caught.value) is expected


def test_threads_reach_the_worker_and_the_hub_is_off() -> None:
    assert run("answer", threads=3) == {"OMP_NUM_THREADS": "3", "HF_HUB_OFFLINE": "1"}


def test_progress_is_passed_on() -> None:
    seen: list[tuple[int, int, str]] = []
    run("answer", on_progress=lambda *report: seen.append(report))
    assert seen == [(1, 2, "half way there")]


def test_the_worker_imports_this_very_package() -> None:
    first = worker_environment(None)["PYTHONPATH"].split(":")[0]
    assert (Path(first) / "alpine_cli" / "measure" / "worker.py").is_file()


def test_an_unknown_checkpoint_comes_back_as_bad_input(tmp_path: Path) -> None:
    """Through the real worker: its error crosses the process border."""
    from alpine_cli.errors import CheckpointError

    request = {
        "workload": {
            "variants": [
                {"name": "stock", "checkpoint": str(tmp_path / "none.pt"), "pruning": None}
            ],
            "data": str(tmp_path),
        },
        "pairs": [],
    }
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        run_isolated("accuracy", request, threads=1)
