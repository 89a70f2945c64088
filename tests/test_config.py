"""Reading configs: precedence, round trips, and errors that all come at once and say where."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from alpine_cli.config import RunConfig, describe_fields, load_config
from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.presets import preset

BASE = {"model": "codebert", "task": "defect-detection"}


def _errors(*args: Any, **kwargs: Any) -> list[str]:
    with pytest.raises(ConfigError) as error:
        load_config(*args, **kwargs)
    assert error.value.exit_code == 2
    return str(error.value).splitlines()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "x.yaml"


def test_defaults_are_the_papers() -> None:
    config = load_config(None, (), BASE)
    assert config.prune == PruningConfig()
    train = config.train
    assert (train.epochs, train.batch_size, train.lr, train.grad_norm) == (5, 32, 2e-5, 1.0)
    assert (train.seed, train.max_length, train.warmup) == (123456, 512, 0.1)
    assert config.mode_prefix is None


def test_later_sources_win(file: Path) -> None:
    file.write_text("train: {lr: 1e-3, epochs: 1, seed: 1}\nmodel: a\ntask: code_clone\n")
    config = load_config(
        file, ["train.lr=1e-4", "train.epochs=2"], {"train.lr": 1e-5, "data": None}
    )
    assert (config.train.lr, config.train.epochs, config.train.seed) == (1e-5, 2, 1)
    assert config.task == "clone-detection"
    assert config.data is None


@pytest.mark.parametrize(
    ("text", "value"),
    [("3", "3"), ("[0, 2]", "0,2"), ("0,2,4", "0,2,4"), ("all", "all"), ("none", "none")],
)
def test_layers_as_yaml_reads_them(file: Path, text: str, value: str) -> None:
    file.write_text(f"prune:\n  layers: {text}\n")
    assert load_config(file, (), BASE).prune.layers == value
    assert load_config(None, [f"prune.layers={text}"], BASE).prune.layers == value


def test_numbers_without_a_dot_are_numbers(file: Path) -> None:
    """YAML 1.1 reads 1e-5 as text."""
    file.write_text("train: {lr: 1e-5}\nprune: {alpha: 5e-1}\n")
    config = load_config(file, (), BASE)
    assert (config.train.lr, config.prune.alpha) == (1e-5, 0.5)


def test_every_error_at_once_with_its_source(file: Path) -> None:
    file.write_text(
        "model: codebert\n"
        "task: defekt-detection\n"
        "lr: 1e-5\n"
        "prune: {layers: [0, 0], alpha: -1, merg: mean}\n"
        "train: {epochs: 0, batch_size: many, bf16: perhaps, warmup: 2, epcohs: 3}\n"
        "device: tpu\n"
    )
    lines = _errors(file, ["train.lr=fast"], {"train.epochs": 0, "train.seed": -1})
    assert sorted(lines) == sorted(
        [
            f"{file}: task: unknown task 'defekt-detection': did you mean 'defect-detection'?"
            " Known tasks: defect-detection, clone-detection",
            f"{file}: lr: unknown field; did you mean 'train.lr'?",
            f"{file}: prune.layers: 0 is listed more than once (got '0,0')",
            f"{file}: prune.alpha: must be finite and > 0 (got -1)",
            f"{file}: prune.merg: unknown field; did you mean 'prune.merge'?",
            "--epochs: must be >= 1 (got 0)",
            f"{file}: train.batch_size: must be a whole number (got 'many')",
            f"{file}: train.bf16: must be true or false (got 'perhaps')",
            f"{file}: train.warmup: must be <= 1.0 (got 2)",
            f"{file}: train.epcohs: unknown field; did you mean 'train.epochs'?",
            "--set train.lr=fast: train.lr: must be a number (got 'fast')",
            "--seed: must be >= 0 (got -1)",
            f"{file}: device: must be one of cpu, cuda (got 'tpu')",
        ]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "model: is required; give --model"),
        (BASE | {"prune.alpha": float("nan")}, "--alpha: must be finite and > 0 (got nan)"),
        (BASE | {"prune.alpha": 0.0}, "--alpha: must be finite and > 0 (got 0.0)"),
        (BASE | {"train.lr": float("inf")}, "--lr: must be finite (got inf)"),
        (BASE | {"prune.layers": "0,x"}, "--layers: 'x' is neither a layer index"),
        (BASE | {"head": "big"}, "--head: must be one of alpine, standard for defect-detection"),
        (BASE | {"limit": 0}, "limit.train: must be >= 1 (got 0)"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    assert any(message in line for line in _errors(None, (), options))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.lr", "must look like field=value"),
        ("=3", "must look like field=value"),
        ("train..lr=3", "must look like field=value"),
        ("train.lr=[1", "the value is not valid YAML"),
        ("model.name=x", "model is not a section"),
        ("train=3", "train: must be a section of fields (got 3)"),
        ("prune.colour=red", "known here: layers, alpha, "),
        ("train.lr=!!python/object/apply:os.getpid []", "not valid YAML"),
    ],
)
def test_bad_overrides(text: str, message: str) -> None:
    (line,) = _errors(None, ["model=codebert", "task=defect-detection", text])
    assert line.startswith(f"--set {text}")
    assert message in line


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"- a\n- b\n", ":1: the top level must be a mapping of fields (got a list)"),
        (b"codebert\n", ":1: the top level must be a mapping of fields (got a str)"),
        (b"model: a\ntrain:\n  lr: 1\n  lr: 2\n", ":4: not valid YAML: 'lr' is given twice"),
        (b"model: a\nmodel: b\n", ":2: not valid YAML: 'model' is given twice (first on line 1)"),
        (b"model: a\ntask: \xff\n", ":2: not UTF-8 (byte 0xff)"),
        (b"model: [a\n", ":2: not valid YAML"),
        (b"model: !!python/object/apply:os.getpid []\n", ":1: not valid YAML: could not determine"),
        (b"? [a, b]\n: c\n", ":1: not valid YAML: a key must be a plain value"),
        (b"model: \x00\n", "not valid YAML"),
    ],
)
def test_broken_files(file: Path, raw: bytes, message: str) -> None:
    file.write_bytes(raw)
    (line,) = _errors(file)
    assert line.startswith(str(file))
    assert message in line


def test_missing_file(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in _errors(tmp_path / "absent.yaml")[0]
    assert "cannot be read: Is a directory" in _errors(tmp_path)[0]


def test_empty_sections_are_defaults(file: Path) -> None:
    file.write_text("model: codebert\ntask: code_clone\ntrain:\nprune:\nlimit:\n")
    assert load_config(file) == load_config(None, (), BASE | {"task": "clone-detection"})
    file.write_text("")
    assert len(_errors(file)) == 2  # model and task


@given(
    layers=st.sampled_from(["none", "all", "0,2", "11"]),
    alpha=st.floats(1e-3, 100),
    lr=st.floats(1e-12, 10),
    seed=st.integers(0, 2**32 - 1),
    model=st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1),
    prefix=st.sampled_from([None, True, False]),
    limit=st.none() | st.integers(1, 100),
)
def test_resolved_config_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    layers: str,
    alpha: float,
    lr: float,
    seed: int,
    model: str,
    prefix: bool | None,
    limit: int | None,
) -> None:
    config = load_config(
        None,
        (),
        {
            "model": model,
            "task": "code_clone",
            "prune.layers": layers,
            "prune.alpha": alpha,
            "train.lr": lr,
            "train.seed": seed,
            "mode_prefix": prefix,
            "limit": limit,
        },
    )
    file = tmp_path_factory.mktemp("round") / "config.yaml"
    file.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(file) == config
    assert RunConfig.model_validate(config.to_dict()) == config


def test_every_field_is_described() -> None:
    reference = describe_fields()
    assert all(reference.values())
    for name, info in RunConfig.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            assert {f"{name}.{key}" for key in kind.model_fields} <= reference.keys()
    for field in dataclasses.fields(PruningConfig):
        assert f"prune.{field.name}" in reference


def test_configs_are_frozen() -> None:
    config = load_config(None, (), BASE)
    with pytest.raises(ValidationError):
        config.train.lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "runs/codebert-defect-detection-none-seed123456"),
        (
            {"model": "microsoft/codebert-base"},
            "runs/codebert-base-defect-detection-none-seed123456",
        ),
        ({"model": "/a/b c/"}, "runs/b-c-defect-detection-none-seed123456"),
        ({"model": ".."}, "runs/model-defect-detection-none-seed123456"),
        (
            {"prune.layers": "0, 2", "train.seed": 1, "task": "code_clone"},
            "runs/codebert-clone-detection-0-2-seed1",
        ),
        (
            {
                "prune.layers": "all",
                "prune.rule": "top",
                "prune.keep": 0.5,
                "prune.merge": "nearest",
            },
            "runs/codebert-defect-detection-all-top-keep0.5-nearest-seed123456",
        ),
        (
            {"prune.layers": "0,2", "prune.rule": "top", "prune.keep": "0.9, 0.75"},
            "runs/codebert-defect-detection-0-2-top-keep0.9-0.75-seed123456",
        ),
        (
            {"prune.layers": "even", "prune.alpha": 0.75},
            "runs/codebert-defect-detection-even-alpha0.75-seed123456",
        ),
        (
            {"prune.rule": "top", "prune.keep": 0.5},
            "runs/codebert-defect-detection-none-seed123456",
        ),
        ({"output": "here"}, "here"),
    ],
)
def test_run_directory(options: dict[str, Any], name: str) -> None:
    assert str(load_config(None, (), BASE | options).run_dir()) == name


def test_a_value_on_its_bound_is_named_too():
    """`--lr 0` was answered with the bound alone."""
    with pytest.raises(ConfigError, match=r"--lr: must be > 0.0 \(got 0.0\)"):
        load_config(options=BASE | {"train.lr": 0.0})


def test_a_later_source_chooses_between_samples_and_tokens(file: Path) -> None:
    file.write_text("train: {batch_size: 16, eval_tokens_per_batch: 512}\n")
    train = load_config(file, ["train.tokens_per_batch=4096"], BASE).train
    assert (train.batch_size, train.tokens_per_batch) == (None, 4096)
    assert (train.eval_batch_size, train.eval_tokens_per_batch) == (None, 512)
    train = load_config(file, ["train.tokens_per_batch=64"], BASE | {"train.batch_size": 8}).train
    assert (train.batch_size, train.tokens_per_batch) == (8, None)
    file.write_text("train: {batch_size: 16, tokens_per_batch: 512}\n")
    (line,) = _errors(file, (), BASE)
    assert line == (
        f"{file}: train.tokens_per_batch: says the same as batch_size (16), in tokens; give one of"
        " them (got 512)"
    )
    config = load_config(None, ["train.tokens_per_batch=64", "train.distill={}"], BASE)
    file.write_text(config.to_yaml())
    assert load_config(file) == config
    assert str(config.train.batch_limit) == "at most 64 tokens, padding counted"


def test_fields_of_a_rule_are_judged_together(file: Path) -> None:
    """A share was once refused with the rule that takes it, because fields were judged alone."""
    prune = load_config(None, ["prune.rule=top", "prune.keep=0.7"], BASE).prune
    assert (prune.rule, prune.keep) == ("top", 0.7)
    file.write_text("prune: {rule: bipartite, merge: nearest, keep: [0.9]}\n")
    assert "prune.keep" in _errors(file, (), BASE)[0]
    file.write_text("prune: {rule: bipartite, merge: nearest, keep: '0.9,0.8'}\n")
    assert load_config(file, (), BASE).prune.keep == "0.9,0.8"
    (line,) = _errors(None, ["prune.rule=bipartite"], BASE)
    assert line.startswith("prune.merge: the rule 'bipartite' merges similar pairs")


def test_a_start_lies_beneath_everything(file: Path) -> None:
    file.write_text("train: {max_length: 128}\nprune: {layers: odd}\nhead: null\n")
    fields = {"task": "defect-detection", "head": "standard", "train.max_length": 64}
    fields |= {"prune.layers": "even", "prune.alpha": 0.5, "mode_prefix": False}
    config = load_config(file, (), {"model": "x.pt"}, ("x.pt", fields))
    assert (config.head, config.train.max_length) == ("standard", 128)
    assert (config.prune.layers, config.prune.alpha) == ("odd", 0.5)
    with pytest.raises(ConfigError, match=r"x\.pt: prune\.alpha: must be finite"):
        load_config(None, (), {"model": "x.pt"}, ("x.pt", fields | {"prune.alpha": -1.0}))


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, None), (False, None), (True, "java"), ("task", "java"), ("python", "python")],
)
def test_data_flow_becomes_a_language(value, expected):
    config = load_config(
        None, (), {"model": "graphcodebert", "task": "clone-detection", "data_flow": value}
    )
    assert config.data_flow == expected
    assert RunConfig.model_validate(yaml.safe_load(config.to_yaml())) == config


def test_data_flow_of_an_unknown_language():
    with pytest.raises(ConfigError, match=r"data_flow: must be task, java, python, c \(got 'x'\)"):
        load_config(None, ["data_flow=x"], {"model": "m", "task": "defect-detection"})


def test_a_preset_lies_beneath_the_other_fields_of_its_source_and_above_weaker_ones(
    tmp_path: Path,
) -> None:
    """And the run's config says what it stood for: there is no `preset` left in it."""
    file = tmp_path / "run.yaml"
    file.write_text("prune: {keep: 0.8, preset: alpine-plus, engine: padded}\n")
    plus = dataclasses.replace(preset("alpine-plus"), keep=0.8, engine="padded")
    assert load_config(file, (), BASE).prune == plus
    checkpoint = ("ckpt.pt", {"prune.rule": "top", "prune.keep": 0.3, "prune.layers": "odd"})
    assert load_config(file, (), BASE, checkpoint).prune == plus
    options = {**BASE, "prune.preset": "alpine", "prune.alpha": 0.5}
    published = PruningConfig(layers="all", alpha=0.5, engine="padded")
    assert load_config(file, (), options, checkpoint).prune == published
    assert load_config(None, ["prune.preset=alpine"], BASE).prune == preset("alpine")


@pytest.mark.parametrize("name", ["alpine+", "[alpine]"])
def test_an_unknown_preset_is_told_with_those_there_are(tmp_path: Path, name: str) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(f"prune: {{preset: {name}}}\n")
    with pytest.raises(ConfigError, match=r"prune\.preset: must be one of alpine, alpine-plus"):
        load_config(file, (), BASE)
