"""Where settings come from: YAML files, `--set` overrides and options, merged with their origin.

This module knows nothing of what the settings mean; `alpine_cli.config` does. It answers one
question that pydantic cannot: *where did this value come from*, so that a message can say
`configs/x.yaml: prune.alpha: …` or `--set train.lr=fast: train.lr: …`.

YAML is read with PyYAML's safe loader, made stricter in one point: a key written twice is
refused, where PyYAML would silently let the last one win.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from alpine_cli.errors import ConfigError

__all__ = ["FieldPath", "Settings", "parse_override", "read_yaml"]

FieldPath = tuple[str, ...]


class _StrictLoader(yaml.SafeLoader):
    """The safe loader, refusing duplicate keys."""


def _construct_mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    first_lines: dict[Any, int] = {}
    for key_node, _ in node.value:
        mark = key_node.start_mark
        if not isinstance(key_node, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(
                problem="a key must be a plain value", problem_mark=mark
            )
        key = key_node.value
        if key in first_lines:
            raise yaml.constructor.ConstructorError(
                problem=f"{key!r} is given twice (first on line {first_lines[key]})",
                problem_mark=mark,
            )
        first_lines[key] = mark.line + 1
    return loader.construct_mapping(node, deep=True)


_StrictLoader.add_constructor("tag:yaml.org,2002:map", _construct_mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read one YAML file whose top level is a mapping; an empty file is an empty mapping.

    Raises:
        ConfigError: the file is missing, unreadable, not UTF-8, not YAML, not a mapping, asks
            for Python objects, or gives a key twice. Names the file and, where known, the line.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigError(f"{path}: cannot be read: {reason}") from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 (byte 0x{raw[error.start]:02x})") from error
    try:
        value = yaml.load(text, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}{_line_of(error)}: {_problem(error)}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(
            f"{path}:1: the top level must be a mapping of fields (got a {type(value).__name__})"
        )
    return value


def _line_of(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f":{mark.line + 1}" if mark is not None else ""


def _problem(error: yaml.YAMLError) -> str:
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return f"not valid YAML: {problem}"


def parse_override(text: str) -> tuple[FieldPath, Any]:
    """Split `a.b=value`; the value is read as YAML, so `true`, `3` and `[0, 2]` mean what they say.

    Raises:
        ConfigError: no `=`, an empty name, or a value that is not YAML.
    """
    name, equals, value = text.partition("=")
    path = tuple(part.strip() for part in name.split("."))
    if not equals or not all(path):
        raise ConfigError(f"--set {text}: must look like field=value, e.g. --set train.lr=1e-5")
    try:
        return path, yaml.load(value, _StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text}: the value is {_problem(error)}") from error


@dataclass
class Settings:
    """Nested settings under construction, and for each field the source that set it last."""

    values: dict[str, Any] = field(default_factory=dict)
    _origins: dict[FieldPath, str] = field(default_factory=dict)
    _default_origin: str = ""

    @classmethod
    def from_file(cls, path: Path | None) -> Settings:
        """Start from a YAML file, or from nothing.

        Raises:
            ConfigError: see `read_yaml`.
        """
        if path is None:
            return cls()
        return cls(values=read_yaml(path), _default_origin=str(path))

    def apply(self, entries: Iterable[tuple[FieldPath, Any, str]]) -> None:
        """Set fields (path, value, origin), later ones over earlier ones, sections made as needed.

        Raises:
            ConfigError: a path goes through a field that holds a plain value.
        """
        for path, value, origin in entries:
            section = self.values
            for depth, part in enumerate(path[:-1], start=1):
                below = section.setdefault(part, {})
                if below is None:  # `train:` with nothing under it
                    below = section[part] = {}
                if not isinstance(below, dict):
                    raise ConfigError(
                        f"{origin}: {'.'.join(path[:depth])} is not a section (it is {below!r})"
                    )
                section = below
            section[path[-1]] = value
            self._origins[path] = origin

    def underlay(self, entries: Iterable[tuple[FieldPath, Any, str]]) -> None:
        """Set fields (path, value, origin) where nothing is set yet."""
        for path, value, origin in entries:
            section: Any = self.values
            for part in path[:-1]:
                section = section.get(part) if isinstance(section, dict) else section
                section = {} if section is None else section
            if isinstance(section, dict) and section.get(path[-1]) is None:
                self.apply([(path, value, origin)])

    def discard(self, path: FieldPath) -> None:
        """Forget a field; without effect where it was not set."""
        section: Any = self.values
        for part in path[:-1]:
            section = section.get(part) if isinstance(section, dict) else None
        if isinstance(section, dict):
            section.pop(path[-1], None)
        self._origins.pop(path, None)

    def origin_of(self, path: FieldPath) -> str:
        """The source of a field: its own, else that of a section around or in it, else the file."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._origins:
                return self._origins[path[:depth]]
        inside = [o for below, o in self._origins.items() if below[: len(path)] == path]
        return inside[0] if inside else self._default_origin

    def get(self, path: FieldPath) -> Any:
        """The value that `path` got; `limit: 0` is also the value of `limit.train`."""
        value: Any = self.values
        for part in path:
            if isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
                continue
            if not isinstance(value, Mapping):
                return value
            value = value.get(part)
        return value
