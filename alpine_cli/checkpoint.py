"""`ckpt.pt`: one file that holds everything needed to run a fine-tuned model again.

Weights, the encoder's config, the tokenizer, task, head, encoding, pruning, the resolved run
config, metrics. No other file, hub or network is needed to rebuild it. The file is torch's zip
format holding tensors and plain values only, so that `torch.load(weights_only=True)` reads it; a
file with anything else inside, which is how a pickle attacks, is refused and nothing of it runs.
"""

from __future__ import annotations

import json
import pickle
import re
import threading
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerFast
from transformers.initialization import no_init_weights

from alpine_cli.encoders import check_vocabulary, new_encoder, seeded
from alpine_cli.errors import AlpineError, CheckpointError
from alpine_cli.files import atomic_path
from alpine_cli.models import TaskModel, with_head
from alpine_cli.tasks.encoding import EncodingSpec
from alpine_cli.tasks.heads import resolve_head
from alpine_cli.tasks.registry import resolve_task
from alpine_cli.tokenizer_record import describe_tokenizer, rebuild_tokenizer

__all__ = ["FORMAT_VERSION", "Checkpoint", "load_checkpoint", "load_tensors", "save_checkpoint"]

FORMAT = "alpine-checkpoint"
FORMAT_VERSION = 1
_BUILDING = threading.Lock()


@dataclass
class Checkpoint:
    """The contents of a `ckpt.pt`.

    Attributes:
        weights: state dict of the `TaskModel`, on the CPU.
        model_config: the encoder's transformers config, with `model_type`.
        tokenizer: see `tokenizer_record`.
        task: name of the task.
        head: name of the head.
        encoding: fields of the `EncodingSpec`.
        pruning: fields of the `PruningConfig` the model was fine-tuned with.
        run_config: the resolved run config; empty for imported checkpoints.
        metrics: figures of the run, e.g. {"valid": {"accuracy": 0.64, …}}.
        model_name: what the encoder was called when the run began.
        provenance: checkpoints it rests on, with their sha256: "started_from", "distilled_from".
            Empty where there are none, and in files of earlier versions.
        format_version: layout of the file.
    """

    weights: dict[str, Tensor]
    model_config: dict[str, Any]
    tokenizer: dict[str, Any]
    task: str
    head: str
    encoding: dict[str, Any]
    pruning: dict[str, Any] = field(default_factory=dict)
    run_config: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    model_name: str = ""
    provenance: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    @classmethod
    def from_model(
        cls,
        task_model: TaskModel,
        tokenizer: PreTrainedTokenizerFast,
        encoding: EncodingSpec,
        *,
        pruning: dict[str, Any] | None = None,
        run_config: dict[str, Any] | None = None,
        metrics: dict[str, Any] | None = None,
        model_name: str = "",
        provenance: dict[str, Any] | None = None,
    ) -> Checkpoint:
        """Take a model's present state. The tensors are copies, so training may go on."""
        weights = {
            name: tensor.detach().to("cpu", copy=True)
            for name, tensor in task_model.state_dict().items()
        }
        return cls(
            weights=weights,
            model_config=describe_config(task_model.config),
            tokenizer=describe_tokenizer(tokenizer),
            task=task_model.task.name,
            head=task_model.head_name,
            encoding=encoding.to_dict(),
            pruning=dict(pruning or {}),
            run_config=dict(run_config or {}),
            metrics=dict(metrics or {}),
            model_name=model_name,
            provenance=dict(provenance or {}),
        )

    @property
    def encoding_spec(self) -> EncodingSpec:
        """How text becomes tokens for this model."""
        return EncodingSpec.from_dict(self.encoding)

    def build(
        self, device: str | torch.device = "cpu", *, attn_implementation: str | None = None
    ) -> tuple[TaskModel, PreTrainedTokenizerFast]:
        """Rebuild model and tokenizer: eval mode, float32 as saved, not pruned.

        To prune it as it was trained: `prune(model, PruningConfig.from_dict(ckpt.pruning))`.

        Args:
            device: where to put the model.
            attn_implementation: "sdpa", "eager", …; None lets transformers choose.

        Raises:
            CheckpointError: weights and config do not belong together.
        """
        with _explained("the checkpoint cannot be rebuilt"):
            task = resolve_task(self.task)
            config = AutoConfig.for_model(**self.model_config)
            head_name = resolve_head(task, self.head)
            # Every weight is overwritten below, strictly. One thread at a time: transformers
            # switches initialisation off for the whole process, and two at once leave it so.
            with _BUILDING, no_init_weights(), seeded(0):
                encoder = new_encoder(
                    config,
                    for_classification=head_name == "standard",
                    attn_implementation=attn_implementation,
                )
                model = with_head(encoder, task, head_name, f"checkpoint of {self.model_name}")
            tokenizer = rebuild_tokenizer(self.tokenizer)
            check_vocabulary(encoder, tokenizer)
        load_weights(model, self.weights)
        return model.to(device).eval(), tokenizer


def save_checkpoint(checkpoint: Checkpoint, path: Path | str, *, force: bool = True) -> None:
    """Write `ckpt.pt`, whole or not at all. The same checkpoint gives the same bytes each time.

    Raises:
        OutputExistsError: the file exists and `force` is false.
        TypeError: a field holds something besides plain values; names it.
    """
    payload: dict[str, Any] = {"format": FORMAT}
    for item in fields(Checkpoint):
        value = getattr(checkpoint, item.name)
        payload[item.name] = value if item.name == "weights" else _plain(value, item.name)
    weights = sorted(checkpoint.weights.items())
    payload["weights"] = {name: _compact(tensor) for name, tensor in weights}
    with atomic_path(Path(path), force=force) as temporary, open(temporary, "wb") as file:
        # Given a path, torch would write the temporary file's name into the archive.
        torch.save(payload, file)


def load_checkpoint(path: Path | str) -> Checkpoint:
    """Read a `ckpt.pt`. Runs no code from the file.

    Raises:
        CheckpointError: missing, truncated, not of this format or version, or refused as unsafe.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(
            f"{path}: is a directory; pass its ckpt.pt, or turn a transformers directory into one "
            "with `alpine import`"
        )
    payload = load_tensors(path)
    _check_sums(path)
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not an alpine checkpoint; `alpine import` reads published checkpoints and "
            "transformers directories"
        )
    version = payload.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: has format version {version!r}, this alpine reads {FORMAT_VERSION}; "
            "use the version of alpine that wrote it, or `alpine export` it there"
        )
    contents: dict[str, Any] = {}
    for item in fields(Checkpoint):
        expected = _FIELD_TYPES[item.name]
        if item.name in _LATER_FIELDS and item.name not in payload:
            continue
        if not isinstance(payload.get(item.name), expected):
            raise CheckpointError(
                f"{path}: field {item.name!r} is missing or no {expected.__name__}; "
                "the file is damaged"
            )
        contents[item.name] = payload[item.name]
    strangers = [name for name, value in contents["weights"].items() if not torch.is_tensor(value)]
    if strangers:
        raise CheckpointError(f"{path}: weight {strangers[0]!r} is no tensor; the file is damaged")
    checkpoint = Checkpoint(**contents)
    with _explained(f"{path}: field 'encoding' is damaged"):
        _ = checkpoint.encoding_spec
    return checkpoint


def _check_sums(path: Path) -> None:
    """Compare the archive with its check sums, which torch.load does not look at.

    Raises:
        CheckpointError: a byte of the file has changed since it was written.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path}: damaged ({error}); copy or train it again") from error
    if damaged is not None:
        raise CheckpointError(
            f"{path}: damaged: the check sum of {damaged} does not match; copy or train it again"
        )


def load_tensors(path: Path) -> Any:
    """`torch.load` a foreign file safely: tensors and plain values, or an error.

    Raises:
        CheckpointError: missing, truncated, not torch's, or holding code.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(2)
        if not start:
            raise CheckpointError(f"{path}: the file is empty; copy or train it again")
        is_archive = start == b"PK"
        if is_archive and not zipfile.is_zipfile(path):
            raise CheckpointError(f"{path}: truncated; copy or train it again")
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # about the pickle protocol it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except pickle.UnpicklingError as error:
        # "… Trying to load unsupported GLOBAL posix.system whose module posix is blocked. …"
        named = re.search(r"GLOBAL (\S+)", str(error))
        if not is_archive and not named:
            raise CheckpointError(f"{path}: not a torch checkpoint") from error
        raise CheckpointError(
            f"{path}: refused: it holds {named[1] if named else 'more than tensors'}, and loading "
            "anything but tensors and plain values can run code. Nothing of it was run"
        ) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        if not is_archive:  # torch then reports whatever its oldest readers stumbled over
            raise CheckpointError(f"{path}: truncated or not a torch checkpoint") from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise CheckpointError(f"{path}: truncated or not a torch checkpoint ({reason})") from error


def load_weights(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a state dict strictly.

    Raises:
        CheckpointError: names or shapes differ; lists some of them.
    """
    wanted = model.state_dict()
    missing = sorted(wanted.keys() - weights.keys())
    unexpected = sorted(weights.keys() - wanted.keys())
    misshapen = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in sorted(wanted.keys() & weights.keys())
        if weights[name].shape != wanted[name].shape
    ]
    complaints = [
        f"{len(found)} {what}: {', '.join(found[:4])}{', …' if len(found) > 4 else ''}"
        for what, found in (
            ("missing", missing),
            ("unexpected", unexpected),
            ("of another shape", misshapen),
        )
        if found
    ]
    if complaints:
        raise CheckpointError(f"weights do not fit the model: {'; '.join(complaints)}")
    model.load_state_dict(weights)


def describe_config(config: Any) -> dict[str, Any]:
    """A transformers config as plain values; `AutoConfig.for_model(**…)` reads it back."""
    described: dict[str, Any] = json.loads(config.to_json_string(use_diff=False))
    # How and by what it was last loaded is a matter of the run, not of the model.
    for name in (
        "_attn_implementation",
        "_name_or_path",
        "architectures",
        "attn_implementation",
        "dtype",
        "transformers_version",
    ):
        described.pop(name, None)
    return dict(sorted(described.items()))


# Fields that files of format 1 may lack: they were added without a reader going wrong.
_LATER_FIELDS = ("provenance",)
_FIELD_TYPES: dict[str, type] = {
    "weights": dict,
    "model_config": dict,
    "tokenizer": dict,
    "task": str,
    "head": str,
    "encoding": dict,
    "pruning": dict,
    "run_config": dict,
    "metrics": dict,
    "model_name": str,
    "provenance": dict,
    "format_version": int,
}


def _plain(value: Any, where: str) -> Any:
    """A copy made of dict, list, str, int, float, bool and None only."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{at}]") for at, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"checkpoint field {where}: {type(value).__name__} is no plain value")


def _compact(tensor: Tensor) -> Tensor:
    """A CPU tensor whose storage holds nothing else: torch.save writes whole storages."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor if tensor.untyped_storage().nbytes() == tensor.nbytes else tensor.clone()


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn what damaged fields provoke in transformers into a CheckpointError."""
    try:
        yield
    except CheckpointError:
        raise
    except (AlpineError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{what}: {error}") from error
