"""`alpine import` and `alpine export`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from alpine_cli.checkpoint import load_checkpoint, save_checkpoint
from tests.test_exchange import checkpoint_of
from tests.test_published import compressor_state, polp_state, task_model


@pytest.fixture
def checkpoint_file(tiny_model_dir: Path, tmp_path: Path) -> Path:
    path = tmp_path / "ckpt.pt"
    save_checkpoint(checkpoint_of(tiny_model_dir, "defect-detection", "standard"), path)
    return path


@pytest.fixture
def tokenizer_file(tiny_tokenizer, tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(tiny_tokenizer.backend_tokenizer.to_str())
    return path


def test_export_and_import(run_alpine, checkpoint_file: Path, tmp_path: Path):
    result = run_alpine("export", "--checkpoint", checkpoint_file, "--output", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert "load it with transformers.AutoModelForSequenceClassification" in result.stdout
    result = run_alpine("import", tmp_path / "out", "--output", tmp_path / "back.pt", "--json")
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["task"] == "defect-detection"
    assert summary["pruning"] == "even"
    one, other = load_checkpoint(checkpoint_file), load_checkpoint(tmp_path / "back.pt")
    assert all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_export_as_json(run_alpine, checkpoint_file: Path, tmp_path: Path):
    result = run_alpine("export", "--checkpoint", checkpoint_file, "-o", tmp_path / "out", "--json")
    assert "model.safetensors" in json.loads(result.stdout)["files"]


def test_import_of_compressors_layout(run_alpine, tokenizer_file: Path, tmp_path: Path):
    torch.save(compressor_state()[0], tmp_path / "model.bin")
    arguments = ["import", tmp_path / "model.bin", "-o", tmp_path / "c.pt", "--heads", "2"]
    result = run_alpine(*arguments, "--tokenizer", tokenizer_file)
    assert result.exit_code == 0, result.stderr
    assert "task: clone-detection" in result.stdout
    assert load_checkpoint(tmp_path / "c.pt").model_name == "compressor:model.bin"


def test_import_of_alpines_layout(run_alpine, tokenizer_file: Path, tmp_path: Path):
    payload = {
        "alpha": 1.0,
        "layers": [1],
        "model_state_dict": polp_state(task_model("code_clone")),
    }
    torch.save(payload, tmp_path / "model.bin")
    result = run_alpine(
        "import", tmp_path / "model.bin", "-o", tmp_path / "c.pt", "--tokenizer", tokenizer_file
    )
    assert result.exit_code == 0, result.stderr
    assert "pruning: 1" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.bin"], "nowhere.bin: no such file or directory"),
        (["model.bin"], "--tokenizer: a model.bin does not hold its tokenizer"),
        (["model.bin", "--kind", "other"], "unknown kind 'other'"),
        (["model.bin", "--tokenizer", "none.json"], "none.json: not a tokenizer.json"),
        (["text.bin", "--tokenizer", "tokenizer.json"], "text.bin: "),
        (["."], "no config.json"),
    ],
    ids=["missing", "no-tokenizer", "kind", "tokenizer-missing", "not-torch", "no-model-dir"],
)
def test_bad_input_exits_2_with_one_message_and_writes_nothing(
    run_alpine,
    monkeypatch: pytest.MonkeyPatch,
    tokenizer_file: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    torch.save(compressor_state()[0], "model.bin")
    Path("text.bin").write_text("this is no checkpoint\n" * 9)
    task = ["--task", "defect-detection"] if arguments == ["."] else []
    result = run_alpine("import", *arguments, *task, "--output", "out.pt")
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    assert not Path("out.pt").exists()


def test_existing_outputs_are_kept_without_force(run_alpine, checkpoint_file: Path, tmp_path: Path):
    before = checkpoint_file.read_bytes()
    result = run_alpine("import", tmp_path, "--output", checkpoint_file)
    assert (result.exit_code, "--force" in result.stderr) == (2, True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    for force in ([], ["--force"]):
        result = run_alpine(
            "export", "--checkpoint", checkpoint_file, "-o", tmp_path / "full", *force
        )
        assert result.exit_code == 2
    assert checkpoint_file.read_bytes() == before
    assert (tmp_path / "full" / "file").exists()


def test_truncated_checkpoint(run_alpine, checkpoint_file: Path, tmp_path: Path):
    checkpoint_file.write_bytes(checkpoint_file.read_bytes()[:999])
    result = run_alpine("export", "--checkpoint", checkpoint_file, "--output", tmp_path / "out")
    assert result.exit_code == 2
    assert "truncated" in result.stderr
    assert not (tmp_path / "out").exists()
