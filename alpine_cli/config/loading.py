"""Sources of a run's settings, merged: defaults < YAML file < `--set` < options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from alpine_cli.config.errors import explain
from alpine_cli.config.reference import describe_fields, option_flag
from alpine_cli.config.schema import ALTERNATIVES, RunConfig
from alpine_cli.config.source import FieldPath, Settings, parse_override
from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import SHARE_RULES
from alpine_cli.pruning.presets import PRESETS, preset_fields

__all__ = ["load_config"]

_Entry = tuple[FieldPath, Any, str]  # path, value, origin
_PRESET = ("prune", "preset")
_SECTIONS = ("columns", "limit", "prune", "train")


def load_config(
    path: Path | None = None,
    overrides: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
    start: tuple[str, Mapping[str, Any]] | None = None,
) -> RunConfig:
    """Read, merge and validate a run's settings.

    Args:
        path: a YAML file, or None to start from the defaults.
        overrides: `--set` texts such as "train.lr=1e-5".
        options: command-line options by dotted field name ("prune.alpha"); None means not given.
        start: name and fields, by dotted name, of what lies below even the file: a checkpoint that
            the run starts from.

    Raises:
        ConfigError: lists every invalid field, one per line, with the source of each.
    """
    settings = Settings.from_file(path)
    named = settings.get(_PRESET)
    if isinstance(named, str) and named in PRESETS:
        settings.underlay(_preset_entries(named, str(path)))
        settings.discard(_PRESET)
    if start is not None:
        origin, beneath = start
        settings.underlay(
            (tuple(name.split(".")), value, origin) for name, value in beneath.items()
        )
    changes = [(*parse_override(text), f"--set {text}") for text in overrides]
    given = [
        (tuple(name.split(".")), value, option_flag(name))
        for name, value in (options or {}).items()
        if value is not None
    ]
    for said in (changes, given):
        entries = _spelt_out(said)
        _drop_alternatives(settings, entries)
        settings.apply(entries)
    if start is not None:
        _drop_share(settings, start[0])
    values = {
        name: value
        for name, value in settings.values.items()
        if value is not None or name not in _SECTIONS  # `train:` with nothing below it
    }
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise ConfigError(explain(error, settings, describe_fields(), option_flag)) from error


def _spelt_out(entries: Sequence[_Entry]) -> list[_Entry]:
    """A preset as the fields it stands for, beneath all others of the same source."""
    presets = [entry for entry in entries if entry[0] == _PRESET and str(entry[1]) in PRESETS]
    found = [one for _, name, origin in presets for one in _preset_entries(name, origin)]
    return found + [entry for entry in entries if entry not in presets]


def _preset_entries(name: str, origin: str) -> list[_Entry]:
    return [(("prune", field), value, origin) for field, value in preset_fields(name).items()]


def _drop_share(settings: Settings, origin: str) -> None:
    """Take back the share of the checkpoint where another source chose a rule that takes none."""
    rule, keep = ("prune", "rule"), ("prune", "keep")
    elsewhere = settings.origin_of(keep) == origin != settings.origin_of(rule)
    if elsewhere and settings.get(rule) not in SHARE_RULES:
        settings.discard(keep)


def _drop_alternatives(settings: Settings, entries: Iterable[tuple[FieldPath, Any, str]]) -> None:
    """Take back what an earlier source said in the other way than these entries do."""
    given = {".".join(path) for path, value, _ in entries if value is not None}
    for names in ALTERNATIVES:
        for name, other in (names, names[::-1]):
            if name in given:
                settings.discard(tuple(other.split(".")))
