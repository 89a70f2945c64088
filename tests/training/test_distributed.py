"""Data-parallel training under torchrun, two processes with gloo on the CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from alpine_cli.config import RunConfig
from alpine_cli.training import finetune

MakeConfig = Callable[..., RunConfig]
_TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def _torchrun(*args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_TORCHRUN, *map(str, args)], capture_output=True, text=True, timeout=300, check=False
    )


def _save(config: RunConfig, path: Path) -> Path:
    path.write_text(config.to_yaml(), encoding="utf-8")
    return path


@pytest.mark.parametrize(("layers", "tokens"), [("even", None), ("none", 150)])
def test_two_processes_train_as_one(
    make_config: MakeConfig, no_dropout_model: Path, tmp_path: Path, layers: str, tokens: int | None
) -> None:
    """Same global batches: the last one, of 2 of 26 samples, is shared by all pieces, too.

    Within a budget of tokens, steps have other numbers of samples, some fewer than pieces.
    """
    options = {
        "model": str(no_dropout_model),
        "prune__layers": layers,
        "train__grad_accum": 2,
        "train__epochs": 1,
        "train__batch_size": None if tokens else 4,
        "train__tokens_per_batch": tokens,
    }
    two = make_config(output=str(tmp_path / "two"), **options)
    done = _torchrun(
        Path(__file__).with_name("rank_process.py"), _save(two, tmp_path / "two.yaml"), tmp_path
    )
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1)]
    for name, tensor in ranks[0].items():
        assert torch.equal(tensor, ranks[1][name]), name
    assert {(tmp_path / f"backend{r}").read_text() for r in (0, 1)} == {"gloo"}

    finetune(make_config(output=str(tmp_path / "one"), **options))
    (state,) = (tmp_path / "one" / "state").iterdir()
    alone = torch.load(state / "weights.pt", weights_only=True)
    for name, tensor in alone.items():
        # AdamW divides by the root of a tiny second moment, which magnifies rounding
        torch.testing.assert_close(ranks[0][name], tensor, atol=1e-4, rtol=0)

    (state,) = (tmp_path / "two" / "state").iterdir()
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in state.iterdir()}
    written = [json.loads((tmp_path / f"written{r}.json").read_text()) for r in (0, 1)]
    assert "metrics.jsonl" in written[0]
    assert written[1] == []  # torch.save opens files unseen: the random state is all it writes

    def figures(run: str) -> list[dict[str, float]]:
        lines = (tmp_path / run / "metrics.jsonl").read_text().splitlines()
        return [line for line in map(json.loads, lines) if line["event"] == "train"]

    for a, b in zip(figures("two"), figures("one"), strict=True):
        assert a["step"] == b["step"]
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
        assert a["tokens_in"] == b["tokens_in"] or layers == "even"


def test_all_processes_stop_at_the_nan_of_one(make_config: MakeConfig, tmp_path: Path) -> None:
    """For its gradient is in the mean of all: none may change its weights by that."""
    config = _save(make_config(train__epochs=1, train__save_steps=None), tmp_path / "config.yaml")
    done = _torchrun(Path(__file__).with_name("spoilt_process.py"), config, tmp_path)
    assert done.returncode == 0, done.stderr
    (error, finite), other = (json.loads((tmp_path / f"ended{r}.json").read_text()) for r in (0, 1))
    assert "the loss became nan at step 2 " in error
    assert [error, finite] == other == [error, True]


def test_killed_and_resumed(make_config: MakeConfig, tmp_path: Path) -> None:
    """With dropout: each process goes on with its own random state."""
    states = []
    for name in ("whole", "killed"):
        config = make_config(output=str(tmp_path / name))
        file = _save(config, tmp_path / f"{name}.yaml")
        command = [*_TORCHRUN, "-m", "alpine_cli.cli", "finetune"]
        if name == "killed":
            metrics = tmp_path / name / "metrics.jsonl"
            with subprocess.Popen(
                [*command, "--config", str(file)], stderr=subprocess.PIPE, start_new_session=True
            ) as running:
                while not (metrics.exists() and '"step": 9,' in metrics.read_text()):
                    assert running.poll() is None
                    time.sleep(0.002)
                os.killpg(running.pid, signal.SIGKILL)
            assert '"end"' not in metrics.read_text(), "it was killed too late"
            done = _torchrun("-m", "alpine_cli.cli", "finetune", "--resume", tmp_path / name)
        else:
            done = _torchrun("-m", "alpine_cli.cli", "finetune", "--config", file)
        assert done.returncode == 0, done.stderr
        (state,) = (tmp_path / name / "state").iterdir()
        states.append(torch.load(state / "weights.pt", weights_only=True))
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name]), name


def test_command_line(make_config: MakeConfig, tmp_path: Path) -> None:
    """As a user types it; the second call finds the output taken and stops both processes."""
    config = make_config(train__epochs=1)
    file = _save(config, tmp_path / "config.yaml")
    done = _torchrun("-m", "alpine_cli.cli", "finetune", "--config", file, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["step"] == 7  # printed once
    again = _torchrun("-m", "alpine_cli.cli", "finetune", "--config", file)
    assert again.returncode != 0
    assert "already exists" in again.stderr
