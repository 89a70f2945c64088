"""Killed with SIGKILL at any instant and resumed, a run ends as if nothing had happened.

The weights (and everything else but times) are compared bit for bit with an uninterrupted run.
One test kills a real `alpine finetune`; the others fork, so that they can die at a chosen line.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import RunConfig
from alpine_cli.errors import ConfigError, DataError
from alpine_cli.training import finetune, finetuning, rundir

MakeConfig = Callable[..., RunConfig]
_TIMES = ("wall_s", "eval_s", "train_s")


def _final(run: Path) -> dict[str, Any]:
    """Everything a run ends with, without times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        for key in _TIMES:
            line.pop(key, None)
    (state,) = (run / "state").iterdir()
    return {
        "last": torch.load(state / "weights.pt", weights_only=True),
        "best": load_checkpoint(run / "ckpt.pt").weights,
        "metrics": lines,
        "predictions": [(run / f"predictions-{s}.jsonl").read_text() for s in ("valid", "test")],
        "files": sorted(str(path.relative_to(run)) for path in run.rglob("*")),
    }


def _assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for which in ("last", "best"):
        assert one[which].keys() == other[which].keys()
        for name, tensor in one[which].items():
            assert torch.equal(tensor, other[which][name]), f"{which}: {name}"
    for which in ("metrics", "predictions", "files"):
        assert one[which] == other[which]


@pytest.fixture
def uninterrupted(make_config: MakeConfig, tmp_path: Path) -> dict[str, Any]:
    return _final(finetune(make_config(output=str(tmp_path / "whole"))).run_dir)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _run_and_die(config: RunConfig | None, resume: Path | None, where: str, nth: int) -> None:
    """In a child: kill the process at the nth time that `where` is about to happen, or has."""
    when, _, what = where.partition(" ")
    owner, name = {
        "rename": (rundir.os, "rename"),
        "flush": (rundir, "_flush_tree"),
        "log": (rundir.RunDirectory, "log"),
        "save_best": (finetuning._Finetuning, "_save_best"),
        "step": (torch.optim.AdamW, "step"),
        "tidy": (rundir.RunDirectory, "tidy"),
        "config": (rundir.RunDirectory, "start"),
        "predictions": (rundir.RunDirectory, "predictions"),
    }[what]
    original, calls = getattr(owner, name), 0

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and when == "before":
            _die()
        result = original(*args, **kwargs)
        if calls == nth and when == "after":
            _die()
        return result

    setattr(owner, name, counted)
    finetune(config, resume=resume)


def _killed(config: RunConfig | None, resume: Path | None, where: str, nth: int) -> None:
    child = multiprocessing.get_context("fork").Process(
        target=_run_and_die, args=(config, resume, where, nth)
    )
    child.start()
    child.join(120)
    assert child.exitcode == -signal.SIGKILL, f"{where} never happened {nth} times"


@pytest.mark.parametrize(
    ("where", "nth"),
    [
        ("after config", 1),  # nothing but config.yaml
        ("before step", 2),  # before the first state
        ("before step", 6),  # between two states, in mid-epoch
        ("before flush", 2),  # a state is half written
        ("before rename", 2),  # a state is written but not yet named
        ("after rename", 2),  # named, the older one still there
        ("before tidy", 9),  # the last state, and the one before it not deleted
        ("after save_best", 1),  # ckpt.pt of an epoch whose state is not saved yet
        ("before log", 1),  # config.yaml, but no opening line yet
        ("before log", 7),  # the validation is not logged yet
        ("before step", 9),  # in the second epoch
        ("before predictions", 1),  # trained, not yet evaluated
    ],
)
def test_killed_at(
    make_config: MakeConfig, uninterrupted: dict[str, Any], tmp_path: Path, where: str, nth: int
) -> None:
    run = tmp_path / "killed"
    _killed(make_config(output=str(run)), None, where, nth)
    assert not (run / "predictions-test.jsonl").exists()
    _assert_same(_final(finetune(resume=run).run_dir), uninterrupted)


def test_killed_again_and_again(
    make_config: MakeConfig, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """Every resumed process makes three steps and dies: with a state every two it still arrives."""
    run = tmp_path / "killed"
    _killed(make_config(output=str(run)), None, "after step", 3)
    for _ in range(4):
        _killed(None, run, "after step", 3)
    _assert_same(_final(finetune(resume=run).run_dir), uninterrupted)


def test_a_line_cut_short_is_dropped(
    make_config: MakeConfig, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "killed"
    _killed(make_config(output=str(run)), None, "before step", 6)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"event": "train", "step": 5, "los')
    _assert_same(_final(finetune(resume=run).run_dir), uninterrupted)


def test_accumulation_resumes_in_mid_epoch(make_config: MakeConfig, tmp_path: Path) -> None:
    whole = finetune(make_config(output=str(tmp_path / "whole"), train__grad_accum=2)).run_dir
    run = tmp_path / "killed"
    _killed(make_config(output=str(run), train__grad_accum=2), None, "before step", 4)
    _assert_same(_final(finetune(resume=run).run_dir), _final(whole))


def test_a_real_process_killed_in_mid_epoch(
    make_config: MakeConfig, uninterrupted: dict[str, Any], tmp_path: Path
) -> None:
    """As it happens in life: `alpine finetune`, `kill -9`, `alpine finetune --resume`."""
    run = tmp_path / "killed"
    config = make_config(output=str(run)).to_dict()
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [sys.executable, "-m", "alpine_cli.cli", "finetune"]
    process = subprocess.Popen(
        [*command, "--config", str(file)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 120
    # Once step 9 is logged the second epoch has begun, and a state of step 9 or earlier exists.
    while not _has_logged(run / "metrics.jsonl", step=9):
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert '"end"' not in (run / "metrics.jsonl").read_text(), "it was killed too late"

    done = subprocess.run(
        [*command, "--resume", str(run), "--json"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 14
    _assert_same(_final(run), uninterrupted)


def _has_logged(metrics: Path, step: int) -> bool:
    return metrics.exists() and f'"step": {step},' in metrics.read_text()


def test_a_finished_run_is_returned_as_it_is(make_config: MakeConfig) -> None:
    outcome = finetune(make_config(train__epochs=1))
    before = {path: path.stat().st_mtime_ns for path in outcome.run_dir.rglob("*")}
    assert finetune(resume=outcome.run_dir) == outcome
    assert {path: path.stat().st_mtime_ns for path in outcome.run_dir.rglob("*")} == before


def test_resume_keeps_the_number_of_threads(make_config: MakeConfig, tmp_path: Path) -> None:
    run = tmp_path / "killed"
    _killed(make_config(output=str(run)), None, "before step", 6)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(threads + 1)
        finetune(resume=run)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(threads)


def test_changed_data_are_noticed(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(output=str(tmp_path / "run"))
    assert config.data is not None
    data = tmp_path / "data"
    shutil.copytree(config.data, data)
    config = config.model_copy(update={"data": str(data)})
    _killed(config, None, "before step", 6)
    train = data / "train.jsonl"
    train.write_text(train.read_text().replace('"target": 1', '"target": 0', 1))
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    with pytest.raises(DataError, match="not the training data"):
        finetune(resume=tmp_path / "run")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before


def test_what_cannot_be_resumed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        finetune(resume=tmp_path / "absent")
    with pytest.raises(ConfigError, match="not a run directory"):
        finetune(resume=tmp_path)
