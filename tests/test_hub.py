"""Names lead to models, or to a message that says what to do. The network is never used here."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from alpine_cli import hub
from alpine_cli.errors import ModelError
from alpine_cli.hub import load_encoder_and_tokenizer, resolve_name


@pytest.fixture
def model_dir(tiny_model_dir: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(tiny_model_dir, tmp_path / "model"))


def complaint(name: str | Path, **keywords) -> str:
    with pytest.raises(ModelError) as caught:
        load_encoder_and_tokenizer(str(name), **keywords)
    assert caught.value.exit_code == 2
    return str(caught.value)


@pytest.mark.parametrize("alias", ["codebert", "graphcodebert", "unixcoder"])
def test_aliases(alias: str):
    assert resolve_name(alias) == f"microsoft/{alias}-base"


@pytest.mark.parametrize(
    ("typo", "nearest"),
    [("codebertt", "codebert"), ("UniXCoder", "unixcoder"), ("graph-codebert", "graphcodebert")],
)
def test_a_near_alias_is_answered_without_the_hub(typo: str, nearest: str):
    with pytest.raises(ModelError, match=f"did you mean '{nearest}'"):
        resolve_name(typo)


@pytest.mark.parametrize("path", ["./nowhere", "/no/such/dir", "a/b/c", "~/models", " "])
def test_a_path_that_does_not_exist(path: str):
    with pytest.raises(ModelError, match="no such directory"):
        resolve_name(path)


def test_a_file_is_no_model(tmp_path: Path):
    (tmp_path / "ckpt.pt").touch()
    with pytest.raises(ModelError, match="is a file; --model takes a directory"):
        resolve_name(str(tmp_path / "ckpt.pt"))


def test_hub_id_that_is_not_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    message = complaint("some-org/some-model-nobody-has", offline=True)
    assert "is not in the local cache" in message
    assert "pass a directory instead: --model DIR" in message
    assert "codebert, graphcodebert, unixcoder" in message


def test_unreachable_hub_answers_at_once_and_names_offline_directories(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(hub, "is_offline_mode", lambda: False)
    monkeypatch.setattr(hub.hub_constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub, "getproxies", dict)
    message = complaint("some-org/some-model-nobody-has")
    assert "the hub (http://127.0.0.1:9) cannot be reached" in message
    assert "pass a directory instead: --model DIR" in message


def test_directory_without_config(tmp_path: Path):
    assert "no config.json" in complaint(tmp_path)


def test_truncated_weights(model_dir: Path):
    weights = model_dir / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    assert f"{model_dir}: cannot be loaded" in complaint(model_dir)


def test_malformed_config(model_dir: Path):
    (model_dir / "config.json").write_text("{")
    assert f"{model_dir}: cannot be loaded" in complaint(model_dir)


def test_weights_of_another_model(model_dir: Path):
    """A weight that stays random without a word would spoil every figure."""
    path = model_dir / "model.safetensors"
    weights = load_file(path)
    weights = {name: tensor for name, tensor in weights.items() if "layer.2." not in name}
    save_file(weights, path, metadata={"format": "pt"})
    message = complaint(model_dir)
    assert "16 weights are missing, e.g. encoder.layer.2." in message
    assert "does not belong to this config.json" in message


def test_missing_classifier_is_only_an_error_where_it_must_be_there(model_dir: Path):
    loaded = load_encoder_and_tokenizer(str(model_dir), for_classification=True)
    assert not loaded.from_scratch
    message = complaint(model_dir, for_classification=True, strict_head=True)
    assert "4 weights are missing, e.g. classifier.dense.bias" in message


def test_tokenizer_with_more_ids_than_the_model(model_dir: Path):
    config = json.loads((model_dir / "config.json").read_text())
    config["vocab_size"] = 10
    (model_dir / "config.json").write_text(json.dumps(config))
    (model_dir / "model.safetensors").unlink()
    assert f"{model_dir}: tokenizer and model do not fit: the tokenizer has ids up to" in (
        complaint(model_dir)
    )


def test_missing_tokenizer_is_not_replaced_by_an_empty_one(model_dir: Path):
    (model_dir / "tokenizer.json").unlink()
    assert str(model_dir) in complaint(model_dir)


def test_remote_code_is_not_run(model_dir: Path):
    """A directory that brings its own model code is refused, and the code stays unread."""
    config = json.loads((model_dir / "config.json").read_text())
    config["model_type"] = "evil"
    config["auto_map"] = {"AutoConfig": "evil.EvilConfig", "AutoModel": "evil.EvilModel"}
    (model_dir / "config.json").write_text(json.dumps(config))
    proof = model_dir / "ran"
    (model_dir / "evil.py").write_text(f"open({str(proof)!r}, 'w').close()")
    assert str(model_dir) in complaint(model_dir)
    assert not proof.exists()


def test_a_model_without_an_encoder_class(model_dir: Path):
    config = {"model_type": "timm_backbone"}
    (model_dir / "config.json").write_text(json.dumps(config))
    assert str(model_dir) in complaint(model_dir) or "transformers offers" in complaint(model_dir)


def test_loading_leaves_no_trace_in_the_environment(model_dir: Path):
    before = dict(os.environ)
    load_encoder_and_tokenizer(str(model_dir))
    assert dict(os.environ) == before


class _MakesFolder:
    """Unpickled carelessly, it runs `os.mkdir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_weights_that_run_code(model_dir: Path, tmp_path: Path):
    """torch's own message advised to switch the protection off."""
    (model_dir / "model.safetensors").unlink()
    torch.save({"a": _MakesFolder(tmp_path / "ran")}, model_dir / "pytorch_model.bin")
    message = complaint(model_dir)
    assert "refused" in message
    assert "weights_only" not in message
    assert not (tmp_path / "ran").exists()
