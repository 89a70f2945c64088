"""Checkpoints as transformers directories, and back.

    config.json, model.safetensors    the encoder; with the standard head the whole classifier, so
                                      that AutoModelForSequenceClassification.from_pretrained
                                      loads it without alpine
    tokenizer.json, …                 the tokenizer
    head.safetensors                  any other head: `dense.*` and `out_proj.*`; load the encoder
                                      with AutoModel (its pooler is not used) and apply the head as
                                      `tasks.heads` describes
    alpine.json                       what transformers has no place for: task, head, encoding,
                                      pruning, run config, metrics

A directory of one's own, without alpine.json, can be imported if it is a two-class sequence
classifier: its head is then the standard one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from alpine_cli.checkpoint import FORMAT_VERSION, Checkpoint
from alpine_cli.errors import CheckpointError, ConfigError, ModelError, OutputExistsError
from alpine_cli.files import atomic_directory
from alpine_cli.hub import load_encoder_and_tokenizer, quiet
from alpine_cli.models import TaskModel, with_head
from alpine_cli.tasks.encoding import EncodingSpec
from alpine_cli.tasks.heads import resolve_head
from alpine_cli.tasks.registry import resolve_task

__all__ = ["export_transformers", "import_transformers"]

_SIDE_FILE = "alpine.json"
_HEAD_FILE = "head.safetensors"
_CARRIED = ("task", "head", "encoding", "pruning", "run_config", "metrics", "model_name")


def export_transformers(checkpoint: Checkpoint, folder: Path | str, *, force: bool = False) -> None:
    """Write a checkpoint as a transformers directory, whole or not at all.

    Raises:
        OutputExistsError: `folder` is not empty and `force` is false, or it is not an earlier
            export: such a folder is never replaced.
        CheckpointError: the checkpoint cannot be rebuilt.
    """
    folder = Path(folder)
    # An export replaces the folder as a whole; --force must not cost anybody something else.
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _SIDE_FILE).is_file():
        raise OutputExistsError(
            f"{folder}: is not empty and holds no earlier export (no {_SIDE_FILE}), so it is not "
            "replaced; choose another output"
        )
    with atomic_directory(folder, force=force) as temporary, quiet():
        model, tokenizer = checkpoint.build()
        model.encoder.save_pretrained(temporary)
        if model.head is not None:
            save_file(model.head.state_dict(), temporary / _HEAD_FILE)
        tokenizer.save_pretrained(temporary)
        side = {"format_version": FORMAT_VERSION}
        side |= {name: getattr(checkpoint, name) for name in (*_CARRIED, "provenance")}
        (temporary / _SIDE_FILE).write_text(
            json.dumps(side, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )


def import_transformers(
    folder: Path | str,
    *,
    task: str | None = None,
    max_length: int = 512,
    mode_prefix: bool = False,
) -> Checkpoint:
    """Make a checkpoint of a transformers directory, one of `export_transformers` or one's own.

    Args:
        folder: the directory.
        task: for a directory without alpine.json: what the classifier was trained for.
        max_length: for such a directory: tokens of one function at most.
        mode_prefix: for such a directory: whether UniXcoder's prefix was used.

    Raises:
        CheckpointError: damaged, incomplete, or not a two-class classifier.
        ConfigError: `task` is missing, or its models have no standard head.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder}: no config.json; this is not a transformers directory")
    try:
        if (folder / _SIDE_FILE).is_file():
            return _import_export(folder)
        return _import_classifier(folder, task, max_length, mode_prefix)
    except ModelError as error:
        raise CheckpointError(str(error)) from error


def _import_export(folder: Path) -> Checkpoint:
    side = _read_side_file(folder / _SIDE_FILE)
    spec = resolve_task(side["task"])
    head_name = resolve_head(spec, side["head"])
    loaded = load_encoder_and_tokenizer(
        str(folder), for_classification=head_name == "standard", task=spec, offline=True
    )
    if loaded.from_scratch:
        raise CheckpointError(f"{folder}: model.safetensors is missing")
    model = with_head(loaded.encoder, spec, head_name)
    if model.head is not None:
        _load_head(model, folder / _HEAD_FILE)
    return Checkpoint.from_model(
        model,
        loaded.tokenizer,
        EncodingSpec.from_dict(side["encoding"]),
        pruning=side["pruning"],
        run_config=side["run_config"],
        metrics=side["metrics"],
        model_name=side["model_name"],
        provenance=side.get("provenance"),  # earlier exports have none
    )


def _import_classifier(
    folder: Path, task: str | None, max_length: int, mode_prefix: bool
) -> Checkpoint:
    if task is None:
        raise ConfigError(f"task: {folder} has no {_SIDE_FILE}; say with --task what it classifies")
    spec = resolve_task(task)
    head_name = resolve_head(spec, "standard")
    # Checked on the file's own config: loading for the task would write two labels into it.
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder}: no readable config.json: {error}") from error
    architectures = ", ".join(getattr(config, "architectures", None) or ["unknown"])
    if "ForSequenceClassification" not in architectures or config.num_labels != spec.num_labels:
        raise CheckpointError(
            f"{folder}: expected a sequence classifier of {spec.num_labels} labels, found "
            f"{architectures} of {config.num_labels}"
        )
    loaded = load_encoder_and_tokenizer(
        str(folder), for_classification=True, strict_head=True, offline=True
    )
    encoding = EncodingSpec(task=spec.name, max_length=max_length, mode_prefix=mode_prefix)
    model = TaskModel(loaded.encoder, None, spec, head_name)
    return Checkpoint.from_model(model, loaded.tokenizer, encoding, model_name=str(folder.name))


def _read_side_file(path: Path) -> dict[str, Any]:
    try:
        side = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable JSON: {error}") from error
    if not isinstance(side, dict) or side.get("format_version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected format version {FORMAT_VERSION}; "
            "export it again with this version of alpine"
        )
    missing = [name for name in _CARRIED if name not in side]
    if missing:
        raise CheckpointError(f"{path}: field {missing[0]!r} is missing")
    return side


def _load_head(model: TaskModel, path: Path) -> None:
    assert model.head is not None
    try:
        model.head.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: missing, damaged or of another shape: {reason}") from error
