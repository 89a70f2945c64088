"""Task models: heads on encoders, losses, Trainer's needs, training from scratch."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    LlamaConfig,
    ModernBertConfig,
    RobertaModel,
    T5Config,
    Trainer,
    TrainingArguments,
)

from alpine_cli.checkpoint import Checkpoint, save_checkpoint
from alpine_cli.encoders import max_tokens, new_encoder, new_roberta
from alpine_cli.errors import CheckpointError, ConfigError, ModelError
from alpine_cli.models import TaskModel, build_model, with_head
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.tasks import Collator, EncodedSplit, Sample, encode, resolve_task

DEFECT, CLONE = resolve_task("defect-detection"), resolve_task("clone-detection")
CASES = [
    pytest.param(DEFECT, "alpine", id="defect-alpine"),
    pytest.param(DEFECT, "standard", id="defect-standard"),
    pytest.param(CLONE, "alpine", id="clone-alpine"),
]


def split_for(task, tokenizer, spec, count: int = 8) -> EncodedSplit:
    samples = [
        Sample(tuple(f"int f{i}(int a{j}) {{ return {i * j}; }}" for j in range(n)), i % 2, str(i))
        for i in range(count)
        for n in [task.functions_per_sample]
    ]
    return encode(samples, tokenizer, spec)


@pytest.mark.parametrize(("task", "head"), CASES)
def test_forward_loss_and_probabilities(tiny_model_dir: Path, task, head: str):
    model, tokenizer, spec = build_model(str(tiny_model_dir), task, head, max_length=64)
    encoded = split_for(task, tokenizer, spec)
    batch = Collator(tokenizer.pad_token_id)([encoded[i] for i in range(4)])
    model.eval()
    output = model(**batch)
    assert output.logits.shape == (4, 2)
    by_hand = torch.nn.functional.cross_entropy(output.logits, batch["labels"])
    torch.testing.assert_close(output.loss, by_hand)
    index = batch.pop("index")
    assert torch.equal(model(**batch).logits, output.logits)
    assert index.shape == (4,)
    probabilities_B2 = model.predict_proba(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(probabilities_B2.sum(-1), torch.ones(4))
    assert not probabilities_B2.requires_grad


@pytest.mark.parametrize(("task", "head"), CASES)
def test_every_parameter_trains(tiny_model_dir: Path, task, head: str):
    """No dead parameter (a pooler nobody reads): data-parallel training would stop on it."""
    model, tokenizer, spec = build_model(str(tiny_model_dir), task, head, max_length=64)
    encoded = split_for(task, tokenizer, spec)
    batch = Collator(tokenizer.pad_token_id)([encoded[i] for i in range(4)])
    model(**batch).loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(("task", "head"), CASES)
def test_pruned_encoders_need_no_special_care(tiny_model_dir: Path, task, head: str):
    from alpine_cli import prune, unprune

    model, tokenizer, spec = build_model(str(tiny_model_dir), task, head, max_length=64)
    model.eval()
    encoded = split_for(task, tokenizer, spec)
    batch = Collator(tokenizer.pad_token_id)([encoded[i] for i in range(4)])
    stock = model(**batch).logits
    prune(model, PruningConfig(layers="none"))
    torch.testing.assert_close(model(**batch).logits, stock, atol=1e-5, rtol=1e-5)
    prune(model, PruningConfig(layers="all", alpha=0.5))
    pruned = model(**batch)
    assert torch.isfinite(pruned.logits).all()
    assert not torch.equal(pruned.logits, stock)
    unprune(model)
    assert torch.equal(model(**batch).logits, stock)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_trainer_trains_and_predicts(tiny_model_dir: Path, tmp_path: Path, checkpointing: bool):
    model, tokenizer, spec = build_model(str(tiny_model_dir), CLONE, max_length=64)
    encoded = split_for(CLONE, tokenizer, spec, count=9)
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=str(tmp_path),
            max_steps=2,
            per_device_train_batch_size=4,
            per_device_eval_batch_size=4,
            gradient_checkpointing=checkpointing,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            use_cpu=True,
            remove_unused_columns=False,
        ),
        train_dataset=encoded,
        data_collator=Collator(tokenizer.pad_token_id),
    )
    assert torch.isfinite(torch.tensor(trainer.train().training_loss))
    assert model.is_gradient_checkpointing == checkpointing
    predicted = trainer.predict(encoded)
    assert predicted.predictions.shape == (9, 2)
    assert predicted.label_ids.tolist() == encoded.labels


def test_gradient_checkpointing_leaves_gradients_alone(tiny_model_dir: Path):
    gradients = []
    for checkpointing in (False, True):
        model, tokenizer, spec = build_model(str(tiny_model_dir), DEFECT, max_length=64)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        model.encoder.config.attention_probs_dropout_prob = 0.0
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.is_gradient_checkpointing
        encoded = split_for(DEFECT, tokenizer, spec)
        batch = Collator(tokenizer.pad_token_id)([encoded[i] for i in range(4)])
        model(**batch).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
        model.gradient_checkpointing_disable()
        assert not model.is_gradient_checkpointing
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_directory_without_weights_is_trained_from_scratch(tiny_model_dir: Path, tmp_path: Path):
    folder = tmp_path / "scratch"
    shutil.copytree(tiny_model_dir, folder)
    (folder / "model.safetensors").unlink()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    first, _, _ = build_model(str(folder), DEFECT, seed=1, max_length=64)
    assert torch.equal(torch.get_rng_state(), before)
    assert "from scratch" in first.origin
    assert "seed 1" in first.origin
    torch.manual_seed(7)  # the caller's random state has no influence
    again, other = (
        build_model(str(folder), DEFECT, seed=seed, max_length=64)[0] for seed in (1, 2)
    )
    same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
    assert all(same)
    assert not torch.equal(next(first.parameters()), next(other.parameters()))


def test_pretrained_weights_are_loaded_and_only_the_head_depends_on_the_seed(
    tiny_model_dir: Path,
):
    one, _, _ = build_model(str(tiny_model_dir), DEFECT, seed=1, max_length=64)
    two, _, _ = build_model(str(tiny_model_dir), DEFECT, seed=2, max_length=64)
    stored = RobertaModel.from_pretrained(tiny_model_dir, add_pooling_layer=False).state_dict()
    assert one.origin == f"weights of {tiny_model_dir}"
    for name, tensor in stored.items():
        assert torch.equal(one.encoder.state_dict()[name], tensor)
        assert torch.equal(two.encoder.state_dict()[name], tensor)
    assert not torch.equal(one.head.dense.weight, two.head.dense.weight)


def test_max_length_beyond_the_position_table(tiny_model_dir: Path):
    with pytest.raises(ConfigError, match=r"reads at most 128 tokens \(got 129\)"):
        build_model(str(tiny_model_dir), DEFECT, max_length=129)


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        (BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2), 512),
        (DistilBertConfig(dim=16, n_layers=1, n_heads=2, max_position_embeddings=77), 77),
        (
            ElectraConfig(
                hidden_size=16, embedding_size=8, num_hidden_layers=1, num_attention_heads=2
            ),
            512,
        ),
        (
            ModernBertConfig(
                vocab_size=200,
                pad_token_id=0,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=2,
                num_attention_heads=2,
                max_position_embeddings=99,
            ),
            99,
        ),
        (
            T5Config(vocab_size=200, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2),
            sys.maxsize,
        ),
        (GPT2Config(vocab_size=200, n_embd=16, n_layer=1, n_head=2, n_positions=88), 88),
        (
            LlamaConfig(
                vocab_size=200,
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=66,
            ),
            66,
        ),
    ],
    ids=["bert", "distilbert", "electra", "modernbert", "t5", "gpt2", "llama"],
)
@pytest.mark.parametrize("head", ["alpine", "standard"])
def test_other_families(config, tokens: int, head: str):
    torch.manual_seed(0)
    if config.model_type == "t5" and head == "standard":
        with pytest.raises(ModelError, match="take the head 'alpine'"):
            new_encoder(config, for_classification=True)
        return
    if config.model_type in ("gpt2", "llama"):
        config.pad_token_id = 0  # `load_encoder_and_tokenizer` takes the tokenizer's
    encoder = new_encoder(config, for_classification=head == "standard")
    model = with_head(encoder, DEFECT, head).eval()
    assert max_tokens(encoder) == tokens
    ids = torch.tensor([[101, 5, 6, 102], [101, 5, 102, 0]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    output = model(ids, mask, labels=torch.tensor([0, 1]))
    assert output.logits.shape == (2, 2)
    output.loss.backward()


def test_new_roberta_counts_positions_as_asked():
    encoder = new_roberta(vocab_size=50, hidden_size=16, num_layers=1, num_heads=2, max_length=40)
    assert isinstance(encoder, RobertaModel)
    assert max_tokens(encoder) == 40
    assert encoder.config.intermediate_size == 64
    ids = torch.full((1, 40), 5)
    assert encoder(input_ids=ids).last_hidden_state.shape == (1, 40, 16)


def test_loss_is_computed_in_float32_under_autocast(tiny_roberta):
    model = TaskModel(
        tiny_roberta, with_head(tiny_roberta, DEFECT, "alpine").head, DEFECT, "alpine"
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(torch.tensor([[0, 5, 2]]), labels=torch.tensor([1]))
    assert output.loss.dtype == torch.float32


@pytest.mark.parametrize(("task", "head"), CASES)
@pytest.mark.parametrize(("other_task", "other_head"), CASES)
def test_training_goes_on_from_a_checkpoint(
    tiny_model_dir: Path, tmp_path: Path, task, head: str, other_task, other_head: str
):
    """The encoder is taken over; the head only where it is the one asked for."""
    before, tokenizer, spec = build_model(str(tiny_model_dir), task, head, seed=1, max_length=64)
    with torch.no_grad():
        for parameter in before.parameters():
            parameter.add_(0.01)
    checkpoint = Checkpoint.from_model(before, tokenizer, spec)
    save_checkpoint(checkpoint, tmp_path / "ckpt.pt")
    after, _, after_spec = build_model(
        str(tmp_path / "ckpt.pt"), other_task, other_head, seed=2, max_length=32
    )
    assert after.training
    assert after_spec.task == other_task.name
    old, new = before.encoder.base_model.state_dict(), after.encoder.base_model.state_dict()
    assert all(torch.equal(old[name], new[name]) for name in old)
    if (task, head) == (other_task, other_head):
        assert "its head included" in after.origin
        state = after.state_dict()
        assert all(torch.equal(state[name], value) for name, value in checkpoint.weights.items())
    else:
        assert "with a new head" in after.origin
    count = 2 * other_task.functions_per_sample
    ids = torch.tensor([[0, 9, 8, 2]] * count)
    after(ids, labels=torch.tensor([0, 1])).loss.backward()
    assert all(parameter.grad is not None for parameter in after.parameters())


def test_a_file_that_is_no_checkpoint(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match="not a torch checkpoint"):
        build_model(str(tmp_path / "notes.txt"), DEFECT)
