"""The files of a run: states that are whole or absent, metrics that can be rewound."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpine_cli.errors import OutputExistsError
from alpine_cli.training.rundir import RunDirectory


def _save(run: RunDirectory, step: int) -> None:
    with run.new_state(step) as folder:
        (folder / "weights.pt").write_text(str(step), encoding="ascii")


def _fail_half_way(run: RunDirectory, step: int) -> None:
    with run.new_state(step) as folder:
        (folder / "weights.pt").write_text("half", encoding="ascii")
        raise OSError("disk full")


def test_only_the_newest_state_is_kept(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert run.latest_state() is None
    for step in (2, 10, 100):
        _save(run, step)
        latest = run.latest_state()
        assert latest is not None
        assert latest[0] == step
        assert (latest[1] / "weights.pt").read_text(encoding="ascii") == str(step)
    assert [path.name for path in run.states.iterdir()] == ["step-00000100"]


def test_a_half_written_state_is_never_picked_up(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    _save(run, 2)
    with pytest.raises(OSError, match="disk full"):
        _fail_half_way(run, 4)
    assert run.latest_state() == (2, run.states / "step-00000002")
    # … and what is left of it is in nobody's way
    _save(run, 4)
    assert [path.name for path in run.states.iterdir()] == ["step-00000004"]
    assert (run.states / "step-00000004" / "weights.pt").read_text(encoding="ascii") == "4"


def test_saving_a_step_again_keeps_the_first(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    _save(run, 2)
    _save(run, 2)
    assert [path.name for path in run.states.iterdir()] == ["step-00000002"]


def test_tidy_removes_what_a_kill_left_and_nothing_else(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.tidy()  # nothing there yet
    _save(run, 4)
    for name in ("step-00000002", ".writing-00000006"):
        (run.states / name).mkdir()
    for name in (".0123456789ab.ckpt.pt", ".0123456789ab.predictions-test.jsonl"):
        (tmp_path / name).touch()
    kept = ("ckpt.pt", ".notes", ".0123456789ab.mine")
    for name in kept:
        (tmp_path / name).touch()
    run.tidy()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "state"])
    assert [path.name for path in run.states.iterdir()] == ["step-00000004"]


def test_metrics_are_rewound(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for step in (0, 2, 4, 6):
        run.log({"event": "train", "step": step, "wall_s": 1.0})
    with run.metrics.open("a", encoding="utf-8") as file:
        file.write('{"event": "train", "step": 7')
    assert [entry["step"] for entry in run.entries()] == [0, 2, 4, 6]
    assert [entry["step"] for entry in run.rewind_metrics(4)] == [0, 2, 4]
    assert [entry["step"] for entry in run.entries()] == [0, 2, 4]
    run.log({"event": "train", "step": 5})
    assert [entry["step"] for entry in run.entries()] == [0, 2, 4, 5]


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("mine", encoding="utf-8")
    for force in (False, True):
        with pytest.raises(OutputExistsError):
            RunDirectory(tmp_path / "run").check_free(force)
