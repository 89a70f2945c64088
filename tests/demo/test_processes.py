"""Fine-tunings side by side: a failure of one stops all and says why."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from alpine_cli.demo.processes import finetune_side_by_side
from alpine_cli.errors import TrainingError


def test_a_failure_says_what_the_process_said(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("model: nowhere\ntask: sing\n")
    said: list[str] = []
    with pytest.raises(TrainingError, match=r"(?s)fine-tuning bad ended with exit code 2.*sing"):
        finetune_side_by_side({"bad": bad}, threads=1, say=said.append)
    assert any(line.startswith("  bad | ") for line in said)


def test_the_others_are_stopped(tmp_path: Path, tiny_model_dir: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    rows = "".join(f'{{"func": "def f{i}(): return {i}", "target": {i % 2}}}\n' for i in range(400))
    for name in ("train", "valid"):
        (data / f"{name}.jsonl").write_text(rows)
    long, bad = tmp_path / "long.yaml", tmp_path / "bad.yaml"
    long.write_text(
        f"model: {tiny_model_dir}\ntask: defect-detection\ndata: {data}\n"
        f"output: {tmp_path / 'run'}\ntrain: {{epochs: 10000, max_length: 128}}\n"
    )
    bad.write_text("model: nowhere\n")
    start = time.monotonic()
    with pytest.raises(TrainingError, match="fine-tuning bad"):
        finetune_side_by_side({"long": long, "bad": bad}, threads=1, say=lambda line: None)
    assert time.monotonic() - start < 60
