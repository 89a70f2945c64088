"""Fine-tuning on a GPU: bf16 autocast, gradient checkpointing, data-parallel over NCCL."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alpine_cli.config import RunConfig
from alpine_cli.training import finetune
from tests.training.conftest import defect_data, make_config  # noqa: F401 - fixtures

MakeConfig = Callable[..., RunConfig]
RANK_PROCESS = Path(__file__).parents[1] / "training" / "rank_process.py"


def train_lines(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [line for line in map(json.loads, lines) if line["event"] == "train"]


@pytest.mark.parametrize("layers", ["none", "even", "all"])
@pytest.mark.parametrize("checkpoints", [False, True])
def test_under_autocast(
    make_config: MakeConfig,  # noqa: F811
    layers: str,
    checkpoints: bool,
) -> None:
    config = make_config(
        device="cuda",
        prune__layers=layers,
        train__bf16=True,
        train__gradient_checkpointing=checkpoints,
    )
    outcome = finetune(config)
    losses = [line["loss"] for line in train_lines(outcome.run_dir)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]
    record = json.loads((outcome.run_dir / "training.json").read_text(encoding="utf-8"))
    assert record["environment"]["float32_products"] in ("ieee", "tf32")


def test_data_parallel_over_nccl(
    make_config: MakeConfig,  # noqa: F811
    tmp_path: Path,
) -> None:
    """As many processes as there are GPUs, two at most; a group of one is one, too."""
    processes = min(2, torch.cuda.device_count())
    config = make_config(device="cuda", train__bf16=True, train__epochs=1)
    path = tmp_path / "run.yaml"
    path.write_text(config.to_yaml(), encoding="utf-8")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", str(processes), RANK_PROCESS, path, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    backends = [(tmp_path / f"backend{rank}").read_text() for rank in range(processes)]
    assert backends == ["nccl"] * processes
    weights = [
        torch.load(tmp_path / f"rank{rank}.pt", map_location="cpu", weights_only=True)
        for rank in range(processes)
    ]
    for name, tensor in weights[0].items():
        assert tensor.isfinite().all()
        assert torch.equal(tensor, weights[-1][name]), name
