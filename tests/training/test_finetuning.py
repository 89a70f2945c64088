"""A whole run on tiny models: its files, its figures, and that all that should be trained is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import RunConfig, load_config
from alpine_cli.errors import ConfigError, DataError, ModelError, OutputExistsError
from alpine_cli.models import build_model
from alpine_cli.pruning import PruningConfig, PruningError, prune
from alpine_cli.tasks import compute_metrics, encode, load_splits, make_loader, resolve_task
from alpine_cli.training import finetune
from alpine_cli.training.evaluation import evaluate_split

MakeConfig = Callable[..., RunConfig]


def _jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_run_directory_holds_everything(make_config: MakeConfig) -> None:
    config = make_config()
    outcome = finetune(config)
    run = outcome.run_dir
    assert sorted(path.name for path in run.iterdir()) == [
        "ckpt.pt",
        "config.yaml",
        "metrics.jsonl",
        "predictions-test.jsonl",
        "predictions-valid.jsonl",
        "state",
        "training.json",
    ]
    assert load_config(run / "config.yaml") == config
    assert [path.name for path in (run / "state").iterdir()] == ["step-00000014"]

    lines = _jsonl(run / "metrics.jsonl")
    assert [line["event"] for line in lines][:1] == ["start"]
    assert lines[-1] == outcome.metrics
    valid = [line for line in lines if line["event"] == "valid"]
    assert [(line["step"], line["epoch"]) for line in valid] == [(7, 1.0), (14, 2.0)]
    train = [line for line in lines if line["event"] == "train"]
    # every save_steps, every log_steps, and the end of each epoch
    assert [line["step"] for line in train] == [2, 3, 4, 6, 7, 8, 9, 10, 12, 14]
    assert train[-1]["lr"] < train[0]["lr"] <= 1e-3
    assert all(0 < line["tokens_kept"] < 1 for line in [*train, *valid])
    assert all(len(line["layer_lengths"]) == 5 for line in valid)


def test_a_run_of_one_step_trains(make_config: MakeConfig) -> None:
    """All of its warm-up was that step, at a learning rate of 0: no weight changed."""
    config = make_config(train__epochs=1, train__batch_size=26)
    losses = []
    for lr in (1e-3, 1e-12):
        run = finetune(
            config.model_copy(
                update={
                    "train": config.train.model_copy(update={"lr": lr}),
                    "output": f"{config.output}-{lr}",
                }
            )
        ).run_dir
        train, valid = _jsonl(run / "metrics.jsonl")[1:3]
        assert (train["event"], train["step"]) == ("train", 1)
        losses.append(valid["loss"])
    assert losses[0] < losses[1] - 1e-5


def test_predictions_are_those_of_the_checkpoint(make_config: MakeConfig) -> None:
    outcome = finetune(make_config())
    checkpoint = load_checkpoint(outcome.checkpoint)
    model, tokenizer = checkpoint.build()
    prune(model, PruningConfig.from_dict(checkpoint.pruning))
    splits = load_splits(checkpoint.task, checkpoint.run_config["data"])
    for name in ("valid", "test"):
        samples = splits.require(name).samples
        encoded = encode(samples, tokenizer, checkpoint.encoding_spec)
        again = evaluate_split(model, encoded, batch_size=3, pad_id=tokenizer.pad_token_id)
        written = _jsonl(outcome.run_dir / f"predictions-{name}.jsonl")
        assert [row["id"] for row in written] == [sample.id for sample in samples]
        assert [row["label"] for row in written] == [sample.label for sample in samples]
        torch.testing.assert_close(
            torch.tensor([row["score"] for row in written]),
            torch.tensor(again.scores),
            atol=1e-5,
            rtol=0,
        )
        figures = compute_metrics(
            [row["label"] for row in written], [row["prediction"] for row in written]
        )
        assert figures.items() <= outcome.metrics[name].items()
        assert checkpoint.metrics[name] == outcome.metrics[name]


def test_best_weights_are_chosen_on_validation(make_config: MakeConfig) -> None:
    outcome = finetune(make_config(train__epochs=4, train__lr=3e-3))
    valid = [e for e in _jsonl(outcome.run_dir / "metrics.jsonl") if e["event"] == "valid"]
    best = max(valid, key=lambda entry: (entry["accuracy"], -entry["loss"]))
    assert outcome.metrics["best_epoch"] == best["epoch"]
    assert outcome.metrics["valid"]["accuracy"] == best["accuracy"]
    assert [e["epoch"] for e in valid if e["best"]][-1] == best["epoch"]


def test_it_learns(make_config: MakeConfig) -> None:
    """The label is written all over the functions: two dozen steps suffice."""
    outcome = finetune(make_config(train__epochs=6, train__lr=3e-3))
    assert outcome.metrics["test"]["accuracy"] >= 0.9


@pytest.mark.parametrize("head", ["alpine", "standard"])
def test_every_parameter_is_trained(make_config: MakeConfig, head: str) -> None:
    """The published scripts handed only the parameters *not* called bias to the optimiser."""
    config = make_config(head=head, train__epochs=1)
    outcome = finetune(config)
    trained = load_checkpoint(outcome.checkpoint).weights
    model, _, _ = build_model(
        config.model, resolve_task(config.task), head, seed=config.train.seed, max_length=48
    )
    names = [name for name, _ in model.named_parameters()]
    assert any(name.endswith("bias") for name in names)
    same = [name for name in names if torch.equal(model.state_dict()[name], trained[name])]
    # A key's bias shifts all scores of a query alike, which softmax does not see: no gradient.
    assert [name for name in same if not name.endswith("key.bias")] == []


def test_clone_detection_and_f1(make_config: MakeConfig, clone_data: Path) -> None:
    outcome = finetune(make_config(task="code_clone", data=str(clone_data)))
    assert outcome.metrics["metric"] == "f1"
    assert len(_jsonl(outcome.run_dir / "predictions-test.jsonl")) == 8


def test_without_test_split(make_config: MakeConfig, defect_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for split in ("train", "valid"):
        (data / f"{split}.jsonl").write_bytes((defect_data / f"{split}.jsonl").read_bytes())
    outcome = finetune(make_config(data=str(data), train__epochs=1))
    assert "test" not in outcome.metrics
    assert not (outcome.run_dir / "predictions-test.jsonl").exists()


@pytest.mark.parametrize("layers", ["none", "even"])
@pytest.mark.parametrize("engine", ["packed", "padded", "reference"])
def test_accumulation_gives_the_same_weights(
    make_config: MakeConfig, no_dropout_model: Path, tmp_path: Path, engine: str, layers: str
) -> None:
    """Splitting a batch changes memory, not the gradient: also in the last batch of 2 of 26."""
    weights = []
    for pieces in (1, 3):
        outcome = finetune(
            make_config(
                model=str(no_dropout_model),
                output=str(tmp_path / f"{pieces}"),
                train__grad_accum=pieces,
                train__epochs=1,
                prune__engine=engine,
                prune__layers=layers,
            )
        )
        weights.append(load_checkpoint(outcome.checkpoint).weights)
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=2e-5, rtol=0)


def test_accumulation_within_a_budget_gives_the_same_weights(
    make_config: MakeConfig, no_dropout_model: Path, tmp_path: Path
) -> None:
    """Steps of other numbers of samples, some of them fewer than there are pieces."""
    runs = [
        finetune(
            make_config(
                model=str(no_dropout_model),
                output=str(tmp_path / f"{pieces}"),
                train__grad_accum=pieces,
                train__epochs=1,
                train__batch_size=None,
                train__tokens_per_batch=120,
                train__eval_tokens_per_batch=120,
            )
        )
        for pieces in (1, 3)
    ]
    weights = [load_checkpoint(outcome.checkpoint).weights for outcome in runs]
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=2e-5, rtol=0)
    assert runs[0].metrics["step"] == runs[1].metrics["step"] > 7


@pytest.mark.parametrize("grad_norm", [1.0, 0.05, 0.0])
def test_the_same_as_a_plain_loop(
    make_config: MakeConfig, no_dropout_model: Path, grad_norm: float
) -> None:
    """Optimiser, warm-up, decay of the learning rate and clipping, written out by hand."""
    config = make_config(
        model=str(no_dropout_model), train__grad_norm=grad_norm, train__weight_decay=0.0
    )
    run = finetune(config).run_dir
    (state,) = (run / "state").iterdir()
    trained = torch.load(state / "weights.pt", weights_only=True)

    train = config.train
    model, tokenizer, encoding = build_model(
        config.model, resolve_task(config.task), seed=train.seed, max_length=train.max_length
    )
    prune(model, config.prune)
    assert config.data is not None
    samples = load_splits(config.task, config.data).require("train").samples
    encoded = encode(samples, tokenizer, encoding)
    loader = make_loader(
        encoded,
        train.batch_size,
        shuffle=True,
        group_by_length=True,
        seed=train.seed,
        pad_id=tokenizer.pad_token_id,
    )
    optimizer = torch.optim.AdamW(model.parameters(), eps=1e-8, weight_decay=0.0)
    steps, warm, step = 14, 2, 0  # 10 % of 14, rounded up
    for epoch in range(train.epochs):
        loader.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        for batch in loader:
            rate = step / warm if step < warm else (steps - step) / (steps - warm)
            for group in optimizer.param_groups:
                group["lr"] = train.lr * rate
            optimizer.zero_grad()
            model(**batch).loss.backward()
            if grad_norm:
                torch.nn.utils.clip_grad_norm_(model.parameters(), grad_norm)
            optimizer.step()
            step += 1
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained[name], tensor, atol=2e-5, rtol=0)


def test_gradient_checkpointing_gives_the_same_weights(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    """With dropout on: the recomputed activations are those of the first pass."""
    weights = []
    for on in (False, True):
        outcome = finetune(
            make_config(
                output=str(tmp_path / f"{on}"), train__gradient_checkpointing=on, train__epochs=1
            )
        )
        weights.append(load_checkpoint(outcome.checkpoint).weights)
    for name in weights[0]:
        torch.testing.assert_close(weights[0][name], weights[1][name], atol=1e-6, rtol=0)


def test_bf16(make_config: MakeConfig) -> None:
    outcome = finetune(make_config(train__bf16=True, train__epochs=1))
    weights = load_checkpoint(outcome.checkpoint).weights
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    losses = [e["loss"] for e in _jsonl(outcome.run_dir / "metrics.jsonl") if e["event"] == "train"]
    assert all(0 < loss < 2 for loss in losses)


def test_same_seed_same_bits_other_seed_other_weights(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    files = [
        finetune(
            make_config(output=str(tmp_path / name), train__seed=seed, train__epochs=1)
        ).run_dir
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    ]
    a, b, c = (load_checkpoint(run / "ckpt.pt").weights for run in files)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


# -- bad input: nothing is written --------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "no/such-model"}, ModelError, "no/such-model"),
        ({"data": "no/such/folder"}, DataError, "no/such/folder"),
        ({"data": None}, ConfigError, "--data"),
        ({"prune__layers": "0,4"}, PruningError, "index 4 is out of range"),
        ({"device": "cuda"}, ModelError, "no CUDA device"),
        ({"train__max_length": 600}, ConfigError, "max_length"),
        ({"train__grad_accum": 8}, ConfigError, "train.batch_size"),
        ({"mode_prefix": True}, ModelError, "encoder-only"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else None,
)
def test_bad_input_writes_nothing(
    make_config: MakeConfig, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    if options.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    config = make_config().model_copy(update={"data": None}) if "data" in options else None
    if config is None or options["data"] is not None:
        config = make_config(**options)
    with pytest.raises(error, match=message):
        finetune(config)
    assert not config.run_dir().exists()


def test_existing_run_is_kept_without_force(make_config: MakeConfig) -> None:
    config = make_config(train__epochs=1)
    run = finetune(config).run_dir
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(OutputExistsError, match="--force"):
        finetune(config)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_force_replaces_a_run_and_nothing_else(make_config: MakeConfig) -> None:
    run = finetune(make_config(train__epochs=2)).run_dir
    (run / "notes.txt").write_text("mine", encoding="utf-8")
    finetune(make_config(train__epochs=1), force=True)
    assert [e["step"] for e in _jsonl(run / "metrics.jsonl") if e["event"] == "end"] == [7]
    assert (run / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_force_does_not_clear_a_folder_that_is_no_run(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "ckpt.pt").write_text("precious", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="not a run directory"):
        finetune(make_config(output=str(home)), force=True)
    assert (home / "ckpt.pt").read_text(encoding="utf-8") == "precious"
