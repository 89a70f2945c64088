"""Loading encoders and tokenizers: aliases, local directories, the Hugging Face hub.

Everything that can go wrong between a model's name and its weights ends here as a `ModelError`
that says what to do; a name that is nearly an alias is answered without asking the hub.
"""

from __future__ import annotations

import difflib
import os
import pickle
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub import is_offline_mode
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging as transformers_logging

from alpine_cli.encoders import check_vocabulary, classifier_config, encoder_class, new_encoder
from alpine_cli.errors import ModelError
from alpine_cli.tasks.registry import TaskSpec

__all__ = ["MODEL_ALIASES", "LoadedModel", "load_encoder_and_tokenizer", "quiet", "resolve_name"]

MODEL_ALIASES = {
    "codebert": "microsoft/codebert-base",
    "graphcodebert": "microsoft/graphcodebert-base",
    "unixcoder": "microsoft/unixcoder-base",
}
"""Short names of the models of the ALPINE paper."""

_WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_CONVERSION_SWITCH = "DISABLE_SAFETENSORS_CONVERSION"
_OFFLINE_HINT = (
    "Offline, pass a directory instead: --model DIR with config.json, model.safetensors (or "
    "pytorch_model.bin) and tokenizer.json, e.g. copied from a machine that has the model"
)


@dataclass(frozen=True)
class LoadedModel:
    """What a model's name led to.

    Attributes:
        encoder: the transformers model.
        tokenizer: its tokenizer.
        origin: where the weights come from, as a sentence for the user.
        from_scratch: whether the weights are random.
    """

    encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    origin: str
    from_scratch: bool


def resolve_name(name: str) -> str:
    """Alias to hub id; directories and hub ids stay as they are.

    Raises:
        ModelError: a path that does not exist, or a name that is nearly an alias.
    """
    if os.path.isdir(name):
        return name
    if name in MODEL_ALIASES:
        return MODEL_ALIASES[name]
    if os.path.exists(name):
        raise ModelError(f"{name}: is a file; --model takes a directory, an alias or a hub id")
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1 or os.sep == "\\"
    if looks_like_path or not name.strip():
        raise ModelError(f"{name or 'the empty name'}: no such directory. {_known_names()}")
    nearest = difflib.get_close_matches(name.lower(), MODEL_ALIASES, n=1, cutoff=0.75)
    if nearest and "/" not in name:
        raise ModelError(f"unknown model {name!r}: did you mean {nearest[0]!r}? {_known_names()}")
    return name


def load_encoder_and_tokenizer(
    name: str,
    *,
    for_classification: bool = False,
    strict_head: bool = False,
    task: TaskSpec | None = None,
    seed: int | None = None,
    offline: bool = False,
    attn_implementation: str | None = None,
) -> LoadedModel:
    """Load an encoder (without pooler) and its fast tokenizer.

    A directory without weights gives random ones, drawn from torch's global random state.

    Args:
        name: alias, directory or hub id.
        for_classification: load the family's model for sequence classification instead.
        strict_head: with `for_classification`, whether the classifier's weights must be there, too;
            otherwise a missing one is drawn at random, as fine-tuning wants it.
        task: with `for_classification`, whose labels go into the config.
        seed: only for `origin`: what the caller seeded the random state with.
        offline: never ask the hub; also in force if HF_HUB_OFFLINE is set.
        attn_implementation: "sdpa", "eager", …; None lets transformers choose.

    Raises:
        ModelError: unknown, unreachable or damaged; or tokenizer and model do not fit.
    """
    source = resolve_name(name)
    request = _Request(name, source, for_classification, strict_head, task, attn_implementation)
    if Path(source).is_dir():
        loaded = _load_directory(request, seed)
    else:
        loaded = _load_hub(request, offline or is_offline_mode())
    try:
        check_vocabulary(loaded.encoder, loaded.tokenizer)
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from error
    if loaded.encoder.config.pad_token_id is None:
        # decoders' configs often name none, and their heads find the last token by it
        loaded.encoder.config.pad_token_id = loaded.tokenizer.pad_token_id
    return loaded


@dataclass(frozen=True)
class _Request:
    """What to load, carried through the steps below."""

    name: str
    source: str
    for_classification: bool
    strict_head: bool
    task: TaskSpec | None
    attn_implementation: str | None


def _load_directory(request: _Request, seed: int | None) -> LoadedModel:
    folder = Path(request.source)
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: no config.json; this is not a transformers model directory")
    with quiet(), _explained(f"{folder}: cannot be loaded"):
        if any((folder / file).is_file() for file in _WEIGHT_FILES):
            return _load(request, local_files_only=True)
        config, tokenizer = _load_config_and_tokenizer(request, local_files_only=True)
        encoder = new_encoder(
            config,
            for_classification=request.for_classification,
            attn_implementation=request.attn_implementation,
        )
    drawn = "" if seed is None else f", seed {seed}"
    origin = f"from scratch: {folder} holds no weights, so they are random{drawn}"
    return LoadedModel(encoder, tokenizer, origin, from_scratch=True)


def _load_hub(request: _Request, offline: bool) -> LoadedModel:
    """Load from the local cache of the hub; fetch only what is not there, and only if allowed."""
    known_as = "" if request.source == request.name else f" ({request.source})"
    where = f"model {request.name!r}{known_as}"
    with quiet():
        try:
            with _explained(f"{where} is damaged in the local cache", let_through=OSError):
                return _load(request, local_files_only=True)
        except OSError as error:
            if offline:
                raise ModelError(
                    f"{where} is not in the local cache. {_OFFLINE_HINT}. {_known_names()}"
                ) from error
        # huggingface_hub retries for half a minute per file before it gives up on a name server.
        if not _hub_answers():
            raise ModelError(
                f"{where}: the hub ({hub_constants.ENDPOINT}) cannot be reached. {_OFFLINE_HINT}. "
                f"{_known_names()}"
            )
        with _explained(f"{where} could not be fetched", hint=f"{_OFFLINE_HINT}. {_known_names()}"):
            return _load(request, local_files_only=False)


def _load(request: _Request, *, local_files_only: bool) -> LoadedModel:
    config, tokenizer = _load_config_and_tokenizer(request, local_files_only=local_files_only)
    encoder = _load_weights(request, config, local_files_only=local_files_only)
    origin = f"weights of {request.source}"
    return LoadedModel(encoder, tokenizer, origin, from_scratch=False)


def _load_config_and_tokenizer(
    request: _Request, *, local_files_only: bool
) -> tuple[PretrainedConfig, PreTrainedTokenizerFast]:
    arguments = {"local_files_only": local_files_only, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(request.source, **arguments)
    tokenizer = AutoTokenizer.from_pretrained(request.source, **arguments)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ModelError(f"{request.source}: has no fast tokenizer (tokenizer.json)")
    if request.for_classification and request.task is not None:
        classifier_config(config, request.task)
    return config, tokenizer


def _load_weights(
    request: _Request, config: PretrainedConfig, *, local_files_only: bool
) -> PreTrainedModel:
    source, for_classification = request.source, request.for_classification
    chosen, keywords = encoder_class(config, for_classification=for_classification)
    if request.attn_implementation is not None:
        keywords["attn_implementation"] = request.attn_implementation
    # With output_loading_info the result is a pair, which the stubs do not say.
    loaded: Any = chosen.from_pretrained(
        source,
        config=config,
        output_loading_info=True,
        local_files_only=local_files_only,
        trust_remote_code=False,
        dtype=torch.float32,
        **keywords,
    )
    encoder: PreTrainedModel = loaded[0]
    report: dict[str, Any] = loaded[1]
    # A new classifier is expected to be missing from a pretrained file; an encoder's weight is not:
    # it would be random, and nobody would notice.
    base = encoder.base_model_prefix + "."
    lenient = request.for_classification and not request.strict_head
    missing = [key for key in report["missing_keys"] if not lenient or key.startswith(base)]
    if missing:
        raise ModelError(
            f"{source}: {len(missing)} weights are missing, e.g. {sorted(missing)[0]}; the file "
            "does not belong to this config.json"
        )
    return encoder


@contextmanager
def _explained(
    what: str, *, hint: str = "", let_through: type[Exception] = ModelError
) -> Iterator[None]:
    """Turn whatever transformers, safetensors or pickle raise into one ModelError."""
    try:
        yield
    except (ModelError, let_through):
        raise
    except pickle.UnpicklingError as error:
        # torch's own text advises to load it with weights_only=False, that is, to run it.
        raise ModelError(
            f"{what}: refused: a weight file is damaged or holds more than tensors, which can run "
            "code. Nothing of it was run; use a copy with model.safetensors"
        ) from error
    except Exception as error:  # their errors have no narrower common base
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ModelError(f"{what}: {reason}{'. ' if hint else ''}{hint}") from error


def _hub_answers() -> bool:
    """Whether the hub's host accepts a connection within five seconds."""
    if getproxies().get("https"):
        return True  # a proxy resolves names itself; let the real request find out
    address = urlsplit(hub_constants.ENDPOINT)
    port = address.port or (80 if address.scheme == "http" else 443)
    try:
        socket.create_connection((address.hostname or "", port), timeout=5).close()
    except OSError:
        return False
    return True


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' loading tables and bars; what matters is checked and raised here.

    Also keeps it from asking a bot on the hub, unasked, to convert a repository's `.bin` weights.
    """
    convert = os.environ.get(_CONVERSION_SWITCH)
    os.environ[_CONVERSION_SWITCH] = "1"
    level = transformers_logging.get_verbosity()
    bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if convert is None:
            del os.environ[_CONVERSION_SWITCH]
        else:
            os.environ[_CONVERSION_SWITCH] = convert
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _known_names() -> str:
    return f"Known aliases: {', '.join(MODEL_ALIASES)}; or a directory, or a hub id"
