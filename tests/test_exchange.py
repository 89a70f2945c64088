"""Checkpoints become transformers directories and come back the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.errors import CheckpointError, ConfigError, OutputExistsError
from alpine_cli.exchange import export_transformers, import_transformers
from alpine_cli.models import build_model
from alpine_cli.tasks import resolve_task

CODE = "int f(int a) { return a; }"


def checkpoint_of(model_dir: Path, task: str, head: str) -> Checkpoint:
    model, tokenizer, spec = build_model(str(model_dir), resolve_task(task), head, max_length=64)
    return Checkpoint.from_model(
        model,
        tokenizer,
        spec,
        pruning={"layers": "even", "alpha": 1.0},
        run_config={"seed": 1},
        metrics={"valid": {"f1": 0.5}},
        model_name="tiny",
    )


def assert_same(one: Checkpoint, other: Checkpoint) -> None:
    assert one.weights.keys() == other.weights.keys()
    for name, tensor in one.weights.items():
        assert torch.equal(other.weights[name], tensor), name
    for name in (
        "model_config",
        "tokenizer",
        "task",
        "head",
        "encoding",
        "pruning",
        "run_config",
        "metrics",
        "model_name",
    ):
        assert getattr(one, name) == getattr(other, name), name


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("defect-detection", "standard"),
        ("defect-detection", "alpine"),
        ("clone-detection", "alpine"),
    ],
)
def test_there_and_back(tiny_model_dir: Path, tmp_path: Path, task: str, head: str):
    checkpoint = checkpoint_of(tiny_model_dir, task, head)
    export_transformers(checkpoint, tmp_path / "out")
    assert_same(checkpoint, import_transformers(tmp_path / "out"))


def test_standard_head_is_loadable_by_stock_transformers(tiny_model_dir: Path, tmp_path: Path):
    checkpoint = checkpoint_of(tiny_model_dir, "defect-detection", "standard")
    export_transformers(checkpoint, tmp_path / "out")
    stock, report = AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert stock.config.id2label == {0: "sound", 1: "defective"}
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(CODE, return_tensors="pt")
    ours, _ = checkpoint.build()
    with torch.no_grad():
        expected = ours(batch["input_ids"], batch["attention_mask"]).logits
        assert torch.equal(stock.eval()(**batch).logits, expected)


def test_other_heads_are_an_encoder_and_a_documented_head(tiny_model_dir: Path, tmp_path: Path):
    """The recipe of the module docstring, in plain torch and transformers."""
    checkpoint = checkpoint_of(tiny_model_dir, "defect-detection", "alpine")
    export_transformers(checkpoint, tmp_path / "out")
    encoder = AutoModel.from_pretrained(tmp_path / "out").eval()
    head = load_file(tmp_path / "out" / "head.safetensors")
    batch = AutoTokenizer.from_pretrained(tmp_path / "out")(CODE, return_tensors="pt")
    with torch.no_grad():
        first = encoder(**batch).last_hidden_state[:, 0]
        hidden = torch.tanh(first @ head["dense.weight"].T + head["dense.bias"])
        z = (hidden @ head["out_proj.weight"].T + head["out_proj.bias"])[:, 0]
    ours, _ = checkpoint.build()
    expected = ours.predict_proba(batch["input_ids"], batch["attention_mask"])[:, 1]
    torch.testing.assert_close(z.sigmoid(), expected)


def test_a_classifier_of_ones_own(tiny_model_dir: Path, tmp_path: Path):
    checkpoint = checkpoint_of(tiny_model_dir, "defect-detection", "standard")
    export_transformers(checkpoint, tmp_path / "out")
    (tmp_path / "out" / "alpine.json").unlink()
    with pytest.raises(ConfigError, match="say with --task what it classifies"):
        import_transformers(tmp_path / "out")
    with pytest.raises(ConfigError, match="clone-detection has no head 'standard'"):
        import_transformers(tmp_path / "out", task="clone-detection")
    found = import_transformers(tmp_path / "out", task="defect_pred", max_length=100)
    assert found.weights.keys() == checkpoint.weights.keys()
    assert (found.head, found.encoding["max_length"]) == ("standard", 100)
    found.build()


def test_an_encoder_without_classifier_is_refused(tiny_model_dir: Path):
    with pytest.raises(CheckpointError, match="expected a sequence classifier of 2 labels, found"):
        import_transformers(tiny_model_dir, task="defect-detection")


def test_classifier_with_other_labels_is_refused(tiny_model_dir: Path, tmp_path: Path):
    model = AutoModelForSequenceClassification.from_pretrained(tiny_model_dir, num_labels=3)
    model.save_pretrained(tmp_path / "three")
    AutoTokenizer.from_pretrained(tiny_model_dir).save_pretrained(tmp_path / "three")
    with pytest.raises(CheckpointError, match=r"of 2 labels, found .* of 3"):
        import_transformers(tmp_path / "three", task="defect-detection")


@pytest.fixture
def exported(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """An export that a test may damage."""
    export_transformers(
        checkpoint_of(tiny_model_dir, "clone-detection", "alpine"), tmp_path / "out"
    )
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("alpine.json", "{"),
        ("alpine.json", '{"format_version": 99}'),
        ("alpine.json", '{"format_version": 1}'),
        ("alpine.json", "[]"),
        ("head.safetensors", "x"),
        ("head.safetensors", None),
        ("model.safetensors", "x"),
        ("model.safetensors", None),
        ("config.json", None),
        ("tokenizer.json", "{"),
        ("tokenizer.json", None),
    ],
)
def test_damaged_exports(exported: Path, file: str, text: str | None):
    if text is None:
        (exported / file).unlink()
    else:
        (exported / file).write_text(text)
    with pytest.raises(CheckpointError) as caught:
        import_transformers(exported)
    assert str(exported) in str(caught.value)


def test_exports_are_replaced_only_on_request_and_only_by_exports(exported: Path, tmp_path: Path):
    checkpoint = import_transformers(exported)
    with pytest.raises(OutputExistsError, match="--force"):
        export_transformers(checkpoint, exported)
    (exported / "stale").touch()
    export_transformers(checkpoint, exported, force=True)
    assert not (exported / "stale").exists()
    assert json.loads((exported / "alpine.json").read_text())["task"] == "clone-detection"

    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputExistsError, match="holds no earlier export"):
        export_transformers(checkpoint, home, force=True)
    assert (home / "thesis.tex").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["home", "out"]
