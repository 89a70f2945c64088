"""Published weight files find their places, or the import lists what does not fit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.encoders import new_roberta
from alpine_cli.errors import CheckpointError, ConfigError
from alpine_cli.models import TaskModel, with_head
from alpine_cli.published import import_published, recognise
from alpine_cli.tasks import compute_metrics, encode, load_splits, make_loader, resolve_task

LAYERS, HIDDEN, VOCABULARY = 3, 128, 400


@pytest.fixture
def tokenizer_file(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer.json"
    path.write_text(tiny_tokenizer.backend_tokenizer.to_str())
    return path


def task_model(task: str) -> TaskModel:
    encoder = new_roberta(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_layers=LAYERS, num_heads=2, seed=5
    )
    torch.manual_seed(6)
    return with_head(encoder, resolve_task(task), "alpine").eval()


def polp_state(model: TaskModel, prefix: str = "") -> dict[str, Tensor]:
    """The state dict as ALPINE's training script saves it.

    Names written out from the attributes of polp's modules (`models/roberta/encoder.py`,
    `layers/transformer.py`, `layers/attention.py`, `layers/feedforward.py`) and of
    `pruning/classifier.py`, `pruning/bcb_classifier.py`; not derived from the importer's table.
    """
    ours = model.state_dict()
    names = {
        "encoder.embeddings.piece_embeddings.weight": "embeddings.word_embeddings.weight",
        "encoder.embeddings.type_embeddings.weight": "embeddings.token_type_embeddings.weight",
        "encoder.embeddings.position_embeddings.weight": "embeddings.position_embeddings.weight",
        "encoder.embeddings.embed_output_layer_norm.weight": "embeddings.LayerNorm.weight",
        "encoder.embeddings.embed_output_layer_norm.bias": "embeddings.LayerNorm.bias",
    }
    for layer in range(LAYERS):
        theirs, hf = f"encoder.layers.{layer}", f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            for part in ("query", "key", "value"):
                names[f"{theirs}.mha.{part}.{kind}"] = f"{hf}.attention.self.{part}.{kind}"
            names[f"{theirs}.mha.output.{kind}"] = f"{hf}.attention.output.dense.{kind}"
            names[f"{theirs}.attn_residual_layer_norm.{kind}"] = (
                f"{hf}.attention.output.LayerNorm.{kind}"
            )
            names[f"{theirs}.ffn.intermediate.{kind}"] = f"{hf}.intermediate.dense.{kind}"
            names[f"{theirs}.ffn.output.{kind}"] = f"{hf}.output.dense.{kind}"
            names[f"{theirs}.ffn_residual_layer_norm.{kind}"] = f"{hf}.output.LayerNorm.{kind}"
    state = {name: ours[f"encoder.{source}"] for name, source in names.items()}
    head = "classifier." if model.task.functions_per_sample == 2 else ""
    for name, tensor in model.head.state_dict().items():
        state[f"{head}{name}"] = tensor
    return {prefix + name: tensor for name, tensor in state.items()}


def logits(model: TaskModel) -> Tensor:
    ids = torch.tensor([[0, 9, 8, 7, 2], [0, 30, 31, 2, 1]])
    with torch.no_grad():
        return model(ids, (ids != 1).long()).logits


@pytest.mark.parametrize("task", ["defect-detection", "clone-detection"])
@pytest.mark.parametrize("prefix", ["", "module."], ids=["plain", "data-parallel"])
def test_alpine_checkpoint(task: str, prefix: str, tokenizer_file: Path, tmp_path: Path):
    model = task_model(task)
    path = tmp_path / "model.bin"
    payload = {"model_state_dict": polp_state(model, prefix), "alpha": 1.0, "layers": [0, 2]}
    torch.save(payload, path)
    checkpoint = import_published(path, tokenizer=tokenizer_file)
    assert (checkpoint.task, checkpoint.head) == (task, "alpine")
    assert checkpoint.pruning == {
        "layers": "0,2",
        "alpha": 1.0,
        "merge": "mean",
        "protect": "ends",
    }
    # The published scripts tokenise the text as it is, and never used UniXcoder's prefix.
    assert checkpoint.encoding == {
        "task": task,
        "max_length": 512,
        "mode_prefix": False,
        "collapse_whitespace": False,
    }
    rebuilt, _ = checkpoint.build()
    assert torch.equal(logits(rebuilt), logits(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.layers.1.mha.key.bias"), "1 missing: encoder.encoder.layer.1"),
        (lambda s: s.update({"encoder.layers.0.rotary.theta": torch.ones(2)}), "1 unexpected"),
        (lambda s: s.update({"out_proj.bias": torch.ones(2)}), r"head.out_proj.bias \(2,\)"),
        (lambda s: s.pop("dense.weight"), "'head.dense.weight' is missing"),
        (lambda s: s.clear(), "is missing or no matrix"),
        (lambda s: s.update({"encoder.x": "text"}), "expected a state dict of tensors"),
    ],
    ids=["missing", "unexpected", "misshapen", "no-head", "empty", "no-tensor"],
)
def test_alpine_checkpoint_that_does_not_fit(
    change, message: str, tokenizer_file: Path, tmp_path: Path
):
    state = polp_state(task_model("defect-detection"))
    change(state)
    path = tmp_path / "model.bin"
    torch.save({"model_state_dict": state, "alpha": 1.0, "layers": []}, path)
    with pytest.raises(CheckpointError, match=message) as caught:
        import_published(path, tokenizer=tokenizer_file)
    assert str(path) in str(caught.value)


def test_alpine_checkpoint_without_its_settings(tokenizer_file: Path, tmp_path: Path):
    path = tmp_path / "model.bin"
    torch.save({"model_state_dict": polp_state(task_model("defect-detection"))}, path)
    with pytest.raises(CheckpointError, match="expected `alpha`"):
        import_published(path, tokenizer=tokenizer_file)


def compressor_state() -> tuple[dict[str, Tensor], TaskModel]:
    """A state dict laid out like Compressor's for clones, and the model it came from."""
    model = task_model("clone-detection")
    state = {f"encoder.{name}": tensor for name, tensor in model.encoder.state_dict().items()} | {
        f"classifier.{name}": tensor for name, tensor in model.head.state_dict().items()
    }
    state["encoder.pooler.dense.weight"] = torch.zeros(HIDDEN, HIDDEN)
    state["encoder.pooler.dense.bias"] = torch.zeros(HIDDEN)
    state["encoder.embeddings.position_ids"] = torch.arange(514)[None]
    return state, model


def test_compressor_clone_checkpoint(tokenizer_file: Path, tmp_path: Path):
    state, model = compressor_state()
    torch.save(state, tmp_path / "model.bin")
    with pytest.raises(ConfigError, match=r"hidden size 128; pass --heads"):
        import_published(tmp_path / "model.bin", tokenizer=tokenizer_file)
    with pytest.raises(ConfigError, match="3 heads do not divide hidden size 128"):
        import_published(tmp_path / "model.bin", tokenizer=tokenizer_file, num_heads=3)
    checkpoint = import_published(tmp_path / "model.bin", tokenizer=tokenizer_file, num_heads=2)
    assert (checkpoint.task, checkpoint.encoding["max_length"]) == ("clone-detection", 400)
    assert torch.equal(logits(checkpoint.build()[0]), logits(model))


def test_graphcodebert_student_is_refused_for_its_data_flow(tokenizer_file: Path, tmp_path: Path):
    state = {
        "encoder.roberta.embeddings.word_embeddings.weight": torch.zeros(4, 8),
        "classifier.dense.weight": torch.zeros(8, 16),
    }
    torch.save(state, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="reads data flow beside the code"):
        import_published(tmp_path / "model.bin", tokenizer=tokenizer_file)


def test_kinds(tokenizer_file: Path, tmp_path: Path):
    assert recognise([1]) is None
    assert recognise({"a": torch.zeros(1)}) is None
    torch.save({"a": torch.zeros(1)}, tmp_path / "model.bin")
    with pytest.raises(CheckpointError, match="none of the kinds compressor, alpine"):
        import_published(tmp_path / "model.bin", tokenizer=tokenizer_file)
    with pytest.raises(ConfigError, match="unknown kind 'other'"):
        import_published(tmp_path / "model.bin", tokenizer=tokenizer_file, kind="other")


def test_a_malicious_file_is_refused(tokenizer_file: Path, tmp_path: Path):
    from tests.test_checkpoint import attacks

    proof = tmp_path / "ran"
    for name, data in attacks(proof).items():
        path = tmp_path / f"{name}.bin"
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            import_published(path, tokenizer=tokenizer_file)
    assert not proof.exists()


@pytest.fixture(scope="module")
def compressor(shared_dir: Path) -> dict[str, Checkpoint]:
    """The two trained checkpoints of the Compressor paper."""
    folder = shared_dir / "data" / "checkpoints"
    return {
        name: import_published(
            folder / f"compressor_codebert_{name}_3mb.model.bin",
            tokenizer=folder / f"{name}_BPE_1000.json",
        )
        for name in ("clone", "vuln")
    }


def test_compressor_checkpoints_are_complete(compressor: dict[str, Checkpoint]):
    clone, vuln = compressor["clone"], compressor["vuln"]
    assert (clone.task, clone.head) == ("clone-detection", "alpine")
    assert (vuln.task, vuln.head) == ("defect-detection", "standard")
    for checkpoint in (clone, vuln):
        config = checkpoint.model_config
        assert (config["num_hidden_layers"], config["num_attention_heads"]) == (12, 8)
        assert (config["hidden_size"], config["vocab_size"]) == (96, 1000)
        _, tokenizer = checkpoint.build()
        ids = tokenizer("int Main() { return 0; }")["input_ids"]
        assert ids == tokenizer("int main() { return 0; }")["input_ids"]  # lower-cases
        assert (ids[0], ids[-1]) == (0, 2)


@torch.inference_mode()
def predict(checkpoint: Checkpoint, data: Path) -> dict[str, float]:
    """Metrics of the whole test split; functions that occur in many pairs are encoded once.

    That shortcut is for a test's patience only: speed is measured elsewhere, without it.
    """
    model, tokenizer = checkpoint.build()
    split = load_splits(checkpoint.task, data, splits=["test"]).require("test")
    encoded = encode(split.samples, tokenizer, checkpoint.encoding_spec)
    if model.head is None:
        predicted = [0] * len(encoded)
        loader = make_loader(encoded, 16, shuffle=False, group_by_length=True, pad_id=1)
        for batch in loader:
            chosen = model(batch["input_ids"], batch["attention_mask"]).logits.argmax(-1)
            for index, value in zip(batch["index"].tolist(), chosen.tolist(), strict=True):
                predicted[index] = value
        return compute_metrics(encoded.labels, predicted)
    rows = sorted({tuple(row) for pair in encoded.rows for row in pair}, key=len)
    first: dict[tuple[int, ...], Tensor] = {}
    for start in range(0, len(rows), 16):
        part = rows[start : start + 16]
        ids_RL = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(row) for row in part], batch_first=True, padding_value=1
        )
        hidden_RLD = model.encoder(ids_RL, (ids_RL != 1).long()).last_hidden_state
        first |= dict(zip(part, hidden_RLD[:, 0], strict=True))
    first_RD = torch.stack([first[tuple(row)] for pair in encoded.rows for row in pair])
    return compute_metrics(encoded.labels, model.head(first_RD).argmax(-1).tolist())


def test_clone_checkpoint_reaches_its_published_accuracy(
    compressor: dict[str, Checkpoint], shared_dir: Path
):
    """94.4 % on the 1,948 pairs of bcb/test.txt: 1,839 right. One pair may fall the other way."""
    found = predict(compressor["clone"], shared_dir / "data" / "bcb")
    assert found["accuracy"] == pytest.approx(1839 / 1948, abs=1.5 / 1948)
    assert found["f1"] == pytest.approx(0.9425, abs=0.001)


def test_vulnerability_checkpoint_on_the_devign_split(
    compressor: dict[str, Checkpoint], shared_dir: Path
):
    """58.1 % of 272 functions, where the majority class is 54.0 %: label order is right."""
    found = predict(compressor["vuln"], shared_dir / "data" / "devign")
    assert found["accuracy"] == pytest.approx(158 / 272, abs=1.5 / 272)
    assert found["mcc"] > 0.1


def test_label_order_of_the_vulnerability_checkpoint(
    compressor: dict[str, Checkpoint], shared_dir: Path
):
    """Published P(vulnerable) = softmax(logits)[:, 0]; ours is [:, 1], on the same logits."""
    published = torch.load(
        shared_dir / "data" / "checkpoints" / "compressor_codebert_vuln_3mb.model.bin",
        map_location="cpu",
        weights_only=True,
    )
    ours = compressor["vuln"].weights
    for name in ("encoder.classifier.out_proj.weight", "encoder.classifier.out_proj.bias"):
        assert torch.equal(ours[name], published[name][[1, 0]])
    same = [name for name in ours if not re.search("out_proj", name)]
    assert all(torch.equal(ours[name], published[name]) for name in same)
