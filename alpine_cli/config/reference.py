"""The reference of all fields: descriptions, defaults, and the option that sets each."""

from __future__ import annotations

import dataclasses
import re

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from alpine_cli.config.schema import DistillConfig, RunConfig
from alpine_cli.pruning.config import PruningConfig

__all__ = ["describe_fields", "option_flag"]

# Options that are not called like the last part of their field.
_FLAGS = {
    "train.distill.teacher": "--distill-from",
    "train.distill.weight": "--distill-weight",
    "train.distill.temperature": "--distill-temperature",
}


def option_flag(name: str) -> str:
    """The command-line option of a field: "train.batch_size" is `--batch-size`."""
    if name in _FLAGS:
        return _FLAGS[name]
    return "--" + name.rpartition(".")[2].replace("_", "-")


def describe_fields() -> dict[str, str]:
    """Sections and fields by dotted name, with descriptions: the reference of configs and --set."""
    reference: dict[str, str] = {}
    for name, info in RunConfig.model_fields.items():
        kind = info.annotation
        reference[name] = info.description or ""
        if kind is PruningConfig:
            reference |= {f"prune.{key}": text for key, text in _pruning_descriptions().items()}
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            for key, nested in kind.model_fields.items():
                reference[f"{name}.{key}"] = _with_default(nested)
    for key, nested in DistillConfig.model_fields.items():
        reference[f"train.distill.{key}"] = _with_default(nested)
    return reference


def _with_default(info: FieldInfo) -> str:
    text = info.description or ""
    default = str(info.default).lower() if isinstance(info.default, bool) else info.default
    return text if default is None else f"{text.rstrip('.')} (default: {default})."


def _pruning_descriptions() -> dict[str, str]:
    """The pruning record is a plain dataclass: its docstring's Attributes are its descriptions."""
    text = (PruningConfig.__doc__ or "").partition("Attributes:")[2].partition("Raises:")[0]
    names = "|".join(field.name for field in dataclasses.fields(PruningConfig))
    parts = re.split(rf"^\s*({names}): ", text, flags=re.MULTILINE)
    defaults = PruningConfig().to_dict()
    return {
        name: f"{' '.join(body.split()).rstrip('.')} (default: {defaults[name]})."
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }
