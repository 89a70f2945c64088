"""The `prune` section as typed, field by field, so that all its errors are reported at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from alpine_cli.config.errors import InvalidFieldsError
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.presets import PRESETS

__all__ = ["read_pruning"]


def read_pruning(value: Any) -> Any:
    """The settings of a mapping; anything else is handed back for pydantic to refuse.

    Raises:
        InvalidFieldsError: names every field that cannot be.
    """
    if not isinstance(value, Mapping):
        return value
    known = {field.name: field for field in dataclasses.fields(PruningConfig)}
    errors: list[tuple[tuple[str, ...], str]] = []
    clean: dict[str, Any] = {}
    for name, raw in value.items():
        if name == "preset":  # `load_config` has spelt out those there are
            errors.append(((name,), f"must be one of {', '.join(PRESETS)} (got {raw!r})"))
            continue
        if name not in known:
            errors.append(((str(name),), "extra_forbidden"))
            continue
        setting = raw
        if name == "layers":
            setting = _layers_text(raw)
        elif name == "alpha" and isinstance(raw, str):
            setting = _number(raw)
        try:
            PruningConfig(**{**_COMPANIONS.get(name, {}), name: setting})
        except PruningError as error:
            errors.append(((name,), str(error).removeprefix(f"{name}: ")))
        else:
            clean[name] = setting
    if errors:
        raise InvalidFieldsError(errors)
    try:
        return PruningConfig(**clean)
    except PruningError as error:  # each is right by itself, but they do not go together
        name, _, text = str(error).partition(": ")
        raise InvalidFieldsError([((name,), text)]) from error


# With which a field can have any of its values: a share needs a rule that takes one.
_COMPANIONS: Mapping[str, Mapping[str, Any]] = {
    "keep": {"rule": "top"},
    "rule": {"merge": "nearest"},
}


def _layers_text(value: Any) -> Any:
    """YAML reads `layers: 3` as a number and `[0, 2]` as a list; both mean layer indices."""
    indices = value if isinstance(value, list) else [value]
    if indices and all(isinstance(index, int) and not isinstance(index, bool) for index in indices):
        return ",".join(map(str, indices))
    return value


def _number(text: str) -> float | str:
    """YAML 1.1 reads `1e-1` as text; numbers are numbers."""
    try:
        return float(text)
    except ValueError:
        return text
