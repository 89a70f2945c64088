"""Small data sets of both tasks and run configs for them, learnable within a few steps."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.config import RunConfig, load_config
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.meters import Meters
from alpine_cli.training import consumption, finetuning
from tests.steady_meter import SteadyMeter

_WORDS = ["int", "return", "sum", "buffer", "weight", "length", "value", "s->size", "n", "0"]


def _function(stream: random.Random, label: int) -> str:
    body = [stream.choice(_WORDS) for _ in range(stream.randint(3, 40))]
    # Label 1 is visible in many places, so that a tiny model picks it up.
    body = [f"{word} !" if label else word for word in body]
    return "void f() { " + " ".join(body) + " }"


@pytest.fixture(scope="session")
def defect_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """26 + 12 + 10 functions as jsonl; 26 is no multiple of the batch size 4."""
    folder = tmp_path_factory.mktemp("defect")
    stream = random.Random(0)
    for split, count in (("train", 26), ("valid", 12), ("test", 10)):
        rows = [{"func": _function(stream, i % 2), "target": i % 2, "idx": i} for i in range(count)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def clone_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of functions in BigCloneBench's layout: clones are of the same kind."""
    folder = tmp_path_factory.mktemp("clone")
    stream = random.Random(1)
    rows = [{"func": _function(stream, i % 2), "idx": str(i)} for i in range(20)]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data.jsonl").write_text(text, encoding="utf-8")
    for split, count in (("train", 16), ("valid", 8), ("test", 8)):
        pairs = [(stream.randrange(20), stream.randrange(20)) for _ in range(count)]
        text = "".join(f"{a}\t{b}\t{int(a % 2 == b % 2)}\n" for a, b in pairs)
        (folder / f"{split}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def make_config(
    tiny_model_dir: Path, defect_data: Path, tmp_path: Path
) -> Callable[..., RunConfig]:
    """A run of two epochs of 7 steps on the CPU; options by dotted field name override it."""

    def make(**options: Any) -> RunConfig:
        defaults: dict[str, Any] = {
            "model": str(tiny_model_dir),
            "task": "defect-detection",
            "data": str(defect_data),
            "output": str(tmp_path / "run"),
            "device": "cpu",
            "prune.layers": "even",
            "train.epochs": 2,
            "train.batch_size": 4,
            "train.lr": 1e-3,
            "train.max_length": 48,
            "train.seed": 7,
            "train.log_steps": 3,
            "train.save_steps": 2,
        }
        given = {name.replace("__", "."): value for name, value in options.items()}
        return load_config(None, (), defaults | given)

    return make


@pytest.fixture(scope="session")
def no_dropout_model(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout: what it computes depends on its input alone."""
    folder = tmp_path_factory.mktemp("models") / "no-dropout"
    folder.mkdir()
    for file in tiny_model_dir.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def _environment() -> Any:
    return describe_environment(threads=1)


@pytest.fixture(autouse=True)
def _cheap_meters(monkeypatch: pytest.MonkeyPatch, _environment: Any) -> None:
    """Runs in this process (and its forks) are metered by `SteadyMeter`: opening costs nothing."""
    absent = {"gpu": "the run used no GPU", "ram": "no counter"}
    monkeypatch.setattr(
        consumption, "open_meters", lambda uuids: Meters([SteadyMeter()], dict(absent))
    )
    monkeypatch.setattr(finetuning, "describe_environment", lambda threads: _environment)
