"""`alpine finetune` as a user types it: what it prints, and every kind of bad input."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import load_config

Run = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten functions per split."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "valid", "test"):
        rows = [
            {"func": f"int f() {{ return {'x + ' * (i + 1)} {i % 2}; }}", "target": i % 2}
            for i in range(10)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def finetune(
    run_alpine: Run, tiny_model_dir: Path, data: Path, tmp_path: Path, monkeypatch: Any
) -> Run:
    """`alpine finetune` with a valid minimum, in an empty working directory; options override."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    minimum = {
        "--model": tiny_model_dir,
        "--task": "defect-detection",
        "--data": data,
        "--epochs": 1,
        "--batch-size": 4,
        "--max-length": 40,
        "--device": "cpu",
    }

    def run(*flags: str, **options: Any) -> Any:
        given = minimum | {f"--{name.replace('_', '-')}": value for name, value in options.items()}
        words = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
        return run_alpine("finetune", *words, *flags)

    return run


def test_result_on_stdout_progress_on_stderr(finetune: Run) -> None:
    result = finetune(layers="even", seed=3)
    assert result.exit_code == 0, result.stderr
    run = Path("runs/tiny-roberta-defect-detection-even-seed3")
    assert (run / "ckpt.pt").exists()
    for word in ("Best weights: epoch 1", "accuracy, % (picks the best)", "tokens kept, %"):
        assert word in result.stdout
    assert f"alpine bench --checkpoint {run / 'ckpt.pt'}" in result.stdout
    assert re.search(
        r"energy of the training [\d.]+ m?J \(sum of .*cpu (measured|modelled)", result.stdout
    )
    assert "validation after step 3" in result.stderr
    assert "left 0:00:00" in result.stderr
    assert "weights of" in result.stderr
    assert "\x1b[" not in result.output


def test_json(finetune: Run) -> None:
    result = finetune("--json", "--set", "train.lr=1e-3", layers="0,2")
    answer = json.loads(result.stdout)
    assert answer["run_dir"] == "runs/tiny-roberta-defect-detection-0-2-seed123456"
    assert answer["checkpoint"] == f"{answer['run_dir']}/ckpt.pt"
    assert answer["metric"] == "accuracy"
    assert {"accuracy", "f1", "mcc", "loss", "tokens_kept"} <= answer["test"].keys()


def test_own_columns_and_limit(finetune: Run, data: Path) -> None:
    for file in data.iterdir():
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace('"func"', '"body"').replace('"target"', '"bug"'), "utf-8")
    result = finetune("--json", columns="code=body,label=bug", limit=6)
    assert result.exit_code == 0, result.stderr
    predictions = Path(json.loads(result.stdout)["run_dir"]) / "predictions-test.jsonl"
    assert len(predictions.read_text(encoding="utf-8").splitlines()) == 6


def test_config_set_and_options(finetune: Run, tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("prune: {layers: all, alpha: 0.5}\ntrain: {seed: 1}\n", encoding="utf-8")
    result = finetune("--set", "prune.alpha=2.0", "--json", config=config, seed=9)
    assert result.exit_code == 0, result.stderr
    run = Path(json.loads(result.stdout)["run_dir"])
    assert run.name == "tiny-roberta-defect-detection-all-alpha2-seed9"
    text = (run / "config.yaml").read_text(encoding="utf-8")
    assert re.search(r"alpha: 2\.0", text)


BAD_INPUT = [
    ({"model": "no-such-model"}, (), "no-such-model"),
    ({"model": None}, (), "model: is required; give --model"),
    ({"task": "defekt-detection"}, (), "did you mean 'defect-detection'?"),
    ({"task": None}, (), "task: is required; give --task"),
    ({"data": None}, (), "--data"),
    ({"data": "no/such/folder"}, (), "no/such/folder: no such file or directory"),
    ({"layers": "0,4"}, (), "index 4 is out of range: the encoder has 4 layer(s)"),
    ({"layers": "1,1"}, (), "--layers: 1 is listed more than once"),
    ({"layers": "evn"}, (), "--layers: 'evn' is neither a layer index nor one of none, all"),
    ({"alpha": "0"}, (), "--alpha: must be finite and > 0 (got 0.0)"),
    ({"alpha": "-1"}, (), "--alpha: must be finite and > 0 (got -1.0)"),
    ({"alpha": "nan"}, (), "--alpha: must be finite and > 0 (got nan)"),
    ({"alpha": "much"}, (), "--alpha"),
    ({"merge": "sum"}, (), "--merge: must be one of mean, none, nearest (got 'sum')"),
    ({"protect": "all"}, (), "--protect: must be one of special, ends (got 'all')"),
    ({"engine": "fast"}, (), "--engine: must be one of packed, padded, reference (got 'fast')"),
    ({"head": "big"}, (), "--head: must be one of alpine, standard"),
    ({"epochs": 0}, (), "--epochs: must be >= 1 (got 0)"),
    ({"lr": "0"}, (), "--lr: must be > 0"),
    ({"batch_size": 2, "grad_accum": 4}, (), "train.batch_size (2)"),
    ({"max_length": 4000}, (), "max_length"),
    ({"config": "absent.yaml"}, (), "absent.yaml: cannot be read"),
    ({"columns": "code=a,colour=b"}, (), "columns"),
    ({}, ("--set", "train.leanring=1"), "train.leanring: unknown field"),
    ({}, ("--set", "alpha"), "must look like field=value"),
    ({}, ("--mode-prefix",), "<encoder-only>"),
    ({"rule": "best"}, (), "--rule: must be one of band, floor, top"),
    ({"rule": "top", "keep": "1.5"}, (), "--keep: must be a share in (0, 1]"),
    ({"keep": "0.5"}, (), "--keep: the rule 'band' chooses by alpha and takes no share"),
    ({"rule": "bipartite"}, (), "prune.merge: the rule 'bipartite' merges similar pairs"),
    ({"score": "all"}, (), "--score: must be one of received, cls"),
    ({"tokens_per_batch": 64}, (), "--tokens-per-batch: says the same as batch_size (4)"),
    ({"tokens_per_batch": 0, "batch_size": None}, (), "--tokens-per-batch: must be >= 1 (got 0)"),
    ({"eval_tokens_per_batch": 9, "eval_batch_size": 9}, (), "says the same as eval_batch_size"),
    (
        {"tokens_per_batch": 64, "batch_size": None},
        ("--no-group-by-length",),
        "--group-by-length: must be true with tokens_per_batch",
    ),
    ({"distill_weight": 1.5}, (), "--distill-weight: must be <= 1.0 (got 1.5)"),
    ({"distill_weight": -0.1}, (), "--distill-weight: must be >= 0.0 (got -0.1)"),
    ({"distill_temperature": 0}, (), "--distill-temperature: must be > 0.0 (got 0.0)"),
    ({"distill_weight": 0.5}, (), "give --distill-from FILE, or start with --from FILE"),
    ({"distill_from": "lost.pt"}, (), "lost.pt: no such file"),
    ({"from": "lost.pt"}, (), "--from lost.pt and --model"),
    ({"from": "lost.pt", "model": None}, (), "lost.pt: no such file"),
]


@pytest.mark.parametrize(
    ("options", "flags", "message"), BAD_INPUT, ids=[case[2][:40] for case in BAD_INPUT]
)
def test_bad_input(
    finetune: Run, options: dict[str, Any], flags: tuple[str, ...], message: str
) -> None:
    result = finetune(*flags, **options)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(Path().iterdir()) == [], "nothing is written"


def test_no_cuda(finetune: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = finetune(device="cuda")
    assert result.exit_code == 2
    assert "no CUDA device is available here" in result.stderr
    assert list(Path().iterdir()) == []


def test_zero_layers(finetune: Run, tiny_model_dir: Path, tmp_path: Path) -> None:
    """'even' of an encoder without layers selects nothing: an error, not an unpruned run."""
    model = tmp_path / "flat"
    model.mkdir()
    for file in tiny_model_dir.iterdir():
        if file.suffix != ".safetensors":  # weights are drawn where there are none
            (model / file.name).write_bytes(file.read_bytes())
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    (model / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 0}), "utf-8")
    result = finetune(model=model, layers="even")
    assert result.exit_code == 2
    assert "'even' selects no layer of an encoder with 0 layer(s)" in result.stderr
    assert list(Path().iterdir()) == []


def test_all_config_errors_at_once(finetune: Run, tmp_path: Path) -> None:
    config = tmp_path / "bad.yaml"
    config.write_text("colour: red\nprune: {alpha: 0}\ntrain: {lr: -1, warmup: 3}\n", "utf-8")
    result = finetune(config=config)
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 4
    assert result.stderr.count(f"{config}: ") == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"func": "int f() {}", "target": 7}', "train.jsonl:3"),
        ('{"func": "", "target": 1}', "train.jsonl:3"),
        ('{"func": "int f() {}"', "train.jsonl:3"),
        ('{"target": 1}', "train.jsonl:3"),
        (b'{"func": "\xff", "target": 1}', "train.jsonl:3"),
    ],
    ids=["label", "empty", "malformed", "missing", "encoding"],
)
def test_bad_data(finetune: Run, data: Path, line: str | bytes, message: str) -> None:
    file = data / "train.jsonl"
    lines = file.read_bytes().splitlines()
    lines[2] = line if isinstance(line, bytes) else line.encode()
    file.write_bytes(b"\n".join(lines) + b"\n")
    result = finetune()
    assert result.exit_code == 2
    assert message in result.stderr
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_splits_it_cannot_do_without(finetune: Run, data: Path, split: str, how: str) -> None:
    file = data / f"{split}.jsonl"
    file.unlink() if how == "absent" else file.write_text("", "utf-8")
    result = finetune()
    assert result.exit_code == 2
    assert split in result.stderr
    assert list(Path().iterdir()) == []


def test_empty_test_split(finetune: Run, data: Path) -> None:
    """It once counted as absent: the run ended well, without the figures one had asked for."""
    (data / "test.jsonl").write_text("", "utf-8")
    result = finetune()
    assert result.exit_code == 2
    assert "test.jsonl: the test split is empty" in result.stderr
    assert list(Path().iterdir()) == []


def test_existing_output(finetune: Run) -> None:
    assert finetune(output="run").exit_code == 0
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    result = finetune(output="run")
    assert result.exit_code == 2
    assert "run: already exists" in result.stderr
    assert "--force" in result.stderr
    assert {p: p.read_bytes() for p in Path("run").rglob("*") if p.is_file()} == before
    assert finetune("--force", output="run").exit_code == 0


def test_resume_takes_no_settings(run_alpine: Run, tmp_path: Path) -> None:
    result = run_alpine("finetune", "--resume", tmp_path, "--lr", "1e-3", "--force")
    assert result.exit_code == 2
    assert "leave out --lr, --force" in result.stderr
    result = run_alpine("finetune", "--resume", tmp_path)
    assert result.exit_code == 2
    assert "not a run directory" in result.stderr


def test_help_keeps_what_stands_in_brackets(run_alpine: Run) -> None:
    """Descriptions are plain text: "alpine-cli[graph]" was read as markup, and cut."""
    text = " ".join(run_alpine("finetune", "--help", env={"COLUMNS": "400"}).stdout.split())
    assert "needs alpine-cli[graph]" in text
    assert "[μ − ασ, μ + ασ]" in text
    assert "\\" not in text


def test_help_has_examples(run_alpine: Run) -> None:
    result = run_alpine("finetune", "--help")
    assert result.exit_code == 0
    for text in ("Examples", "--resume runs/", "torchrun --nproc-per-node 2", "(default: 32)"):
        assert text in result.stdout


def test_interrupted(finetune: Run, run_alpine: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in mid-epoch says how to go on, and that way works."""
    from alpine_cli.models import TaskModel

    original, calls = TaskModel.forward, 0

    def forward(self: TaskModel, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(TaskModel, "forward", forward)
        result = finetune(output="run")
    assert result.exit_code == 130
    assert "go on with --resume run" in result.stderr
    resumed = run_alpine("finetune", "--resume", "run", "--json")
    assert resumed.exit_code == 0, resumed.stderr
    assert json.loads(resumed.stdout)["step"] == 3


def test_tokens_per_batch(finetune: Run, tmp_path: Path) -> None:
    """An option of tokens replaces the batch size of a file; both are held by the batches."""
    config = tmp_path / "x.yaml"
    config.write_text("train: {batch_size: 4, eval_batch_size: 4}\n", encoding="utf-8")
    given = {"batch_size": None, "tokens_per_batch": 80, "eval_tokens_per_batch": 100}
    result = finetune("--json", config=config, output="run", **given)
    assert result.exit_code == 0, result.stderr
    saved = load_config(Path("run/config.yaml")).train
    assert (saved.batch_size, saved.tokens_per_batch) == (None, 80)
    assert (saved.eval_batch_size, saved.eval_tokens_per_batch) == (None, 100)
    record = json.loads(Path("run/training.json").read_text(encoding="utf-8"))
    assert record["settings"]["batch_size"] is None
    assert record["settings"]["tokens_per_batch"] == 80
    # Ten functions of some 10 to 40 tokens are neither one step nor ten.
    assert 2 < json.loads(result.stdout)["step"] < 10


def test_recovery_with_distillation(finetune: Run, run_alpine: Run, data: Path) -> None:
    """Prune a fine-tuned model without training, then recover, learning from the unpruned one."""
    assert finetune(output="first", layers="none").exit_code == 0
    few = ("--epochs", 1, "--batch-size", 4, "--device", "cpu")
    pruned = ("--layers", "even", "--rule", "top", "--keep", "0.6", "--score", "cls")
    result = run_alpine(
        *("finetune", "--from", "first/ckpt.pt", *pruned, *few),
        *("--distill-weight", 0.8, "--distill-temperature", 4, "--json"),
    )
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    assert answer["run_dir"] == "runs/first-then-even-top-keep0.6-cls-seed123456"
    assert answer["test"]["tokens_kept"] < 0.9
    assert "teacher: " in result.stderr
    run = load_config(Path(answer["run_dir"]) / "config.yaml")
    assert (run.task, run.train.max_length, run.data) == ("defect-detection", 40, str(data))
    assert (run.prune.rule, run.prune.keep, run.prune.score) == ("top", 0.6, "cls")
    assert run.train.distill is not None
    assert (run.train.distill.weight, run.train.distill.temperature) == (0.8, 4.0)
    checkpoint = load_checkpoint(Path(answer["checkpoint"]))
    assert checkpoint.provenance["started_from"]["checkpoint"] == "first/ckpt.pt"
    assert checkpoint.model_name.endswith("tiny-roberta")

    again = run_alpine(
        *("finetune", "--from", answer["checkpoint"], "--alpha", 1, *few, "--json"),
        *("--distill-from", "first/ckpt.pt", "--output", "third"),
    )
    assert again.exit_code == 0, again.stderr
    third = load_config(Path("third/config.yaml"))
    assert third.prune == run.prune  # the start's own, where no option says otherwise
    assert third.train.distill is not None
    assert Path(third.train.distill.teacher or "").is_absolute()

    other = run_alpine(
        *("finetune", "--from", answer["checkpoint"], "--rule", "floor", *few, "--json"),
        *("--output", "fourth"),
    )
    assert other.exit_code == 0, other.stderr
    fourth = load_config(Path("fourth/config.yaml")).prune
    assert (fourth.rule, fourth.keep, fourth.score) == ("floor", 1.0, "cls")  # takes no share


def test_settings_of_a_pruning_that_prunes_no_layer_are_told(finetune: Run) -> None:
    result = finetune("--rule", "top", "--keep", 0.5, layers="none")
    assert result.exit_code == 0, result.stderr
    assert "no layer prunes, so rule top, keep 0.5 change nothing" in result.stderr
    assert "no layer prunes" not in finetune("--force", layers="none").stderr


def test_starts_that_contradict_themselves(finetune: Run, run_alpine: Run) -> None:
    assert finetune(output="first").exit_code == 0
    before = sorted(Path().rglob("*"))
    for words, message in (
        (("--task", "clone-detection"), "its task is defect-detection, the run's clone-detection"),
        (("--head", "standard"), "its head is alpine, the run's standard"),
        (("--resume", "first"), "leave out --device, --from"),
        (("--output", "first", "--force"), "choose another directory"),
        (("--prune", "x"), "No such option"),
    ):
        result = run_alpine("finetune", "--from", "first/ckpt.pt", "--device", "cpu", *words)
        assert result.exit_code == 2, result.output
        assert message in " ".join(result.stderr.split())
        assert sorted(Path().rglob("*")) == before


def test_a_decoder_is_trained_kept_and_counted(
    finetune: Run, run_alpine: Run, data: Path, tiny_tokenizer: Any, tmp_path: Path
) -> None:
    """From a directory whose config names no padding id, as decoders' often do, to its FLOPs."""
    from transformers import GPT2Config, GPT2Model

    folder = tmp_path / "tiny-gpt2"
    vocabulary = len(tiny_tokenizer)
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    GPT2Model(GPT2Config(vocab_size=vocabulary, **shape)).save_pretrained(folder)
    tiny_tokenizer.save_pretrained(folder)
    result = finetune(model=folder, layers="even", alpha=0.5, seed=3, head="standard")
    assert result.exit_code == 0, result.stderr
    kept = Path("runs/tiny-gpt2-defect-detection-even-alpha0.5-seed3/ckpt.pt")
    model, _ = load_checkpoint(kept).build()
    assert model.reads_last
    assert model.config.pad_token_id == tiny_tokenizer.pad_token_id
    counted = run_alpine("measure-flops", "--checkpoint", kept, "--data", data, "--json")
    assert counted.exit_code == 0, counted.stderr
    found = json.loads(counted.stdout)
    figures = {(f["name"], f["variant"]): f["value"] for f in found["figures"]}
    for variant in ("stock", "unpruned", "pruned"):
        assert figures["dispatcher_macs_over_analytic", variant] == pytest.approx(1, abs=0.01)
    assert figures["total_macs", "pruned"] < figures["total_macs", "unpruned"]
