"""ckpt.pt: self-contained, rebuilt exactly, and unable to run code."""

from __future__ import annotations

import copy
import io
import os
import pickle
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from alpine_cli.checkpoint import Checkpoint, load_checkpoint, load_tensors, save_checkpoint
from alpine_cli.encoders import new_encoder
from alpine_cli.errors import CheckpointError, OutputExistsError
from alpine_cli.files import sha256_of
from alpine_cli.models import build_model
from alpine_cli.tasks import Collator, Sample, encode, resolve_task

CASES = [
    ("defect-detection", "alpine"),
    ("defect-detection", "standard"),
    ("clone-detection", "alpine"),
]


def checkpoint_of(model_dir: Path, task: str, head: str) -> tuple[Checkpoint, torch.nn.Module]:
    model, tokenizer, spec = build_model(str(model_dir), resolve_task(task), head, max_length=64)
    checkpoint = Checkpoint.from_model(
        model,
        tokenizer,
        spec,
        pruning={"layers": "even", "alpha": 1.0},
        run_config={"train": {"lr": 2e-5, "bf16": False, "seed": None}, "tags": ["a", "b"]},
        metrics={"valid": {"accuracy": 0.5}},
        model_name="tiny",
    )
    return checkpoint, model.eval()


@pytest.fixture(scope="module")
def saved(tiny_model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A valid checkpoint file; tests that damage it work on copies of its bytes."""
    path = tmp_path_factory.mktemp("checkpoint") / "ckpt.pt"
    save_checkpoint(checkpoint_of(tiny_model_dir, *CASES[0])[0], path)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("task", "head"), CASES)
def test_round_trip_is_exact(tiny_model_dir: Path, tmp_path: Path, task: str, head: str):
    """Rebuilt without the model's directory: same ids, same logits, same fields."""
    checkpoint, model = checkpoint_of(tiny_model_dir, task, head)
    save_checkpoint(checkpoint, tmp_path / "ckpt.pt")
    loaded = load_checkpoint(tmp_path / "ckpt.pt")
    for name in ("task", "head", "encoding", "pruning", "run_config", "metrics", "model_name"):
        assert getattr(loaded, name) == getattr(checkpoint, name)
    rebuilt, tokenizer = loaded.build()
    assert not rebuilt.training
    functions = resolve_task(task).functions_per_sample
    samples = [Sample((f"int f{i}() {{ return {i}; }}",) * functions, 1, "") for i in range(4)]
    encoded = encode(samples, tokenizer, loaded.encoding_spec)
    batch = Collator(tokenizer.pad_token_id)([encoded[i] for i in range(4)])
    assert torch.equal(rebuilt(**batch).logits, model(**batch).logits)


def test_building_leaves_the_random_state_alone(saved: Path):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_checkpoint(saved).build()
    assert torch.equal(torch.rand(4), expected)


def test_threads_build_one_after_the_other(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two at once left every later model of the process uninitialised: random memory as weights."""
    inside, most = 0, 0

    def slow(*args: Any, **kwargs: Any) -> Any:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        built = new_encoder(*args, **kwargs)
        inside -= 1
        return built

    monkeypatch.setattr("alpine_cli.checkpoint.new_encoder", slow)
    checkpoint, initialise = load_checkpoint(saved), PreTrainedModel.init_weights
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(lambda _: checkpoint.build()[0].state_dict(), range(3)))
    assert most == 1
    assert PreTrainedModel.init_weights is initialise
    for state in built[1:]:
        assert all(torch.equal(state[name], built[0][name]) for name in state)


def test_pruned_models_save_the_same_weights(tiny_model_dir: Path):
    from alpine_cli import PruningConfig, prune

    checkpoint, model = checkpoint_of(tiny_model_dir, "clone-detection", "alpine")
    prune(model, PruningConfig(layers="all"))
    _, tokenizer = checkpoint.build()
    again = Checkpoint.from_model(model, tokenizer, checkpoint.encoding_spec)
    assert again.model_config == checkpoint.model_config
    assert again.weights.keys() == checkpoint.weights.keys()
    again.build()


def test_weights_are_copies(tiny_model_dir: Path):
    checkpoint, model = checkpoint_of(tiny_model_dir, *CASES[0])
    before = copy.deepcopy(checkpoint.weights)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(checkpoint.weights[name], before[name]) for name in before)


def test_saving_is_deterministic_atomic_and_asks_before_replacing(
    tiny_model_dir: Path, tmp_path: Path
):
    checkpoint, _ = checkpoint_of(tiny_model_dir, *CASES[0])
    one, two = tmp_path / "one.pt", tmp_path / "two.pt"
    save_checkpoint(checkpoint, one)
    save_checkpoint(checkpoint, two)
    assert sha256_of(one) == sha256_of(two)
    assert sorted(os.listdir(tmp_path)) == ["one.pt", "two.pt"]
    with pytest.raises(OutputExistsError, match="--force"):
        save_checkpoint(checkpoint, one, force=False)


def test_views_do_not_drag_their_whole_storage_into_the_file(saved: Path, tmp_path: Path):
    checkpoint = load_checkpoint(saved)
    name = "head.dense.bias"
    checkpoint.weights[name] = torch.zeros(1_000_000)[: checkpoint.weights[name].numel()]
    save_checkpoint(checkpoint, tmp_path / "ckpt.pt")
    assert abs((tmp_path / "ckpt.pt").stat().st_size - saved.stat().st_size) < 2000


def test_only_plain_values_are_written(saved: Path, tmp_path: Path):
    checkpoint = load_checkpoint(saved)
    checkpoint.metrics = {"valid": {"curve": [1, object()]}}
    with pytest.raises(TypeError, match=r"metrics\.valid\.curve\[1\]: object is no plain value"):
        save_checkpoint(checkpoint, tmp_path / "ckpt.pt")
    assert not list(tmp_path.iterdir())


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_truncated_anywhere(saved: Path, tmp_path_factory: pytest.TempPathFactory, data):
    whole = saved.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp("cut") / "ckpt.pt"
    path.write_bytes(whole[:length])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"P", b"hello\n" * 50, b"\x80\x04.", b"\x89PNG\r\n\x1a\n" + bytes(100), os.urandom(3000)],
    ids=["empty", "one-byte", "text", "pickle", "png", "noise"],
)
def test_foreign_files(tmp_path: Path, data: bytes):
    path = tmp_path / "ckpt.pt"
    path.write_bytes(data)
    complaint(path)


def test_foreign_zip_and_foreign_torch_file(tmp_path: Path):
    path = tmp_path / "ckpt.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.txt", "hello")
    complaint(path)
    torch.save({"weights": {"a": torch.zeros(2)}}, path)
    assert "not an alpine checkpoint; `alpine import` reads" in complaint(path)
    torch.save(torch.zeros(2), path)
    assert "not an alpine checkpoint" in complaint(path)


def test_missing_file_and_directory(tmp_path: Path):
    assert "no such file" in complaint(tmp_path / "none.pt")
    assert "is a directory; pass its ckpt.pt" in complaint(tmp_path)


def resave(saved: Path, path: Path, **changes) -> Path:
    payload = torch.load(saved, weights_only=True)
    payload.update(changes)
    torch.save({name: value for name, value in payload.items() if value is not None}, path)
    return path


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_other_format_version(saved: Path, tmp_path: Path, version):
    path = resave(saved, tmp_path / "ckpt.pt", format_version=version)
    message = complaint(path)
    assert f"has format version {version!r}, this alpine reads 1" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": None}, "field 'weights' is missing"),
        ({"task": 3}, "field 'task' is missing or no str"),
        ({"weights": {"a": "b"}}, "weight 'a' is no tensor"),
    ],
    ids=["missing", "type", "no-tensor"],
)
def test_damaged_fields(saved: Path, tmp_path: Path, changes: dict, message: str):
    assert message in complaint(resave(saved, tmp_path / "ckpt.pt", **changes))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task", "poetry", "unknown task 'poetry'"),
        ("head", "hydra", "has no head 'hydra'"),
        ("model_config", {"model_type": "nonsense"}, "cannot be rebuilt"),
        ("model_config", {}, "cannot be rebuilt"),
        ("tokenizer", {"json": "{"}, "tokenizer in the checkpoint is damaged"),
        ("tokenizer", {}, "tokenizer in the checkpoint is damaged"),
        ("weights", {}, "missing: encoder.embeddings"),
        ("weights", {"stranger": torch.zeros(1)}, "1 unexpected: stranger"),
    ],
)
def test_fields_that_do_not_fit_together(saved: Path, field: str, value, message: str):
    checkpoint = load_checkpoint(saved)
    setattr(checkpoint, field, value)
    with pytest.raises(CheckpointError, match=message):
        checkpoint.build()


def test_misshapen_weights_are_listed(saved: Path):
    checkpoint = load_checkpoint(saved)
    checkpoint.weights["head.dense.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match=r"head\.dense\.bias \(3,\) instead of \(32,\)"):
        checkpoint.build()


class Attack:
    """Creates a file when unpickled, as a real attack would run a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def attacks(proof: Path) -> dict[str, bytes]:
    """The same attack in every container that torch.load opens."""
    found = {}
    for protocol in (2, 4):
        buffer = io.BytesIO()
        payload = {"format": "alpine-checkpoint", "format_version": 1, "metrics": Attack(proof)}
        torch.save(payload, buffer, pickle_protocol=protocol)
        found[f"zip-protocol-{protocol}"] = buffer.getvalue()
        found[f"pickle-protocol-{protocol}"] = pickle.dumps(Attack(proof), protocol)
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=False)
    found["legacy"] = buffer.getvalue()
    return found


@pytest.mark.parametrize(
    "container",
    ["zip-protocol-2", "zip-protocol-4", "pickle-protocol-2", "pickle-protocol-4", "legacy"],
)
def test_malicious_pickle_is_refused_and_does_not_run(tmp_path: Path, container: str):
    proof = tmp_path / "ran"
    data = attacks(proof)[container]
    path = tmp_path / "ckpt.pt"
    path.write_bytes(data)

    # The attack is real: plain pickle runs it.
    raw = data
    if container.startswith("zip"):
        with zipfile.ZipFile(path) as archive:
            raw = archive.read("archive/data.pkl")
    if container != "legacy":
        pickle.loads(raw)
        assert proof.exists()
        proof.unlink()
    else:
        torch.load(path, weights_only=False)
        assert proof.exists()
        proof.unlink()

    message = complaint(path)
    with pytest.raises(CheckpointError):
        load_tensors(path)
    assert not proof.exists()
    if container == "zip-protocol-2":
        assert "refused: it holds posix.system" in message
        assert "Nothing of it was run" in message


def test_damaged_encoding(saved: Path, tmp_path: Path):
    """It once surfaced as a TypeError, and `alpine export` carried it along."""
    payload = torch.load(saved, weights_only=True)
    torch.save(payload | {"encoding": {"x": 1}}, tmp_path / "ckpt.pt")
    assert "field 'encoding' is damaged" in complaint(tmp_path / "ckpt.pt")


def test_foreign_files_are_named_as_such(tmp_path: Path):
    path = tmp_path / "ckpt.pt"
    path.touch()
    assert "the file is empty" in complaint(path)
    path.write_text("hello world", "utf-8")
    assert complaint(path).endswith("not a torch checkpoint")


def test_a_flipped_byte_in_a_weight_is_noticed(saved: Path, tmp_path: Path):
    """torch.load does not look at the archive's check sums; a bench of rotten weights would lie."""
    contents = bytearray(saved.read_bytes())
    with zipfile.ZipFile(saved) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    contents[largest.header_offset + len(largest.filename) + 30 + largest.file_size // 2] ^= 1
    rotten = tmp_path / "rotten.pt"
    rotten.write_bytes(contents)
    with pytest.raises(CheckpointError, match=r"rotten\.pt: damaged.*copy or train it again"):
        load_checkpoint(rotten)
