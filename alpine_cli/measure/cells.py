"""Several cells at once: checkpoints × devices × batch sizes, from options or from a file.

    checkpoints: [runs/seed-1/ckpt.pt, runs/seed-2/ckpt.pt]
    batch_sizes: [1, 32]
    tokens_per_batch: [4096]  # optional; a cell each beside those of batch_sizes
    devices: [cpu]
    preset: thorough          # optional
    defaults:                 # any option of `alpine bench`, dashes written as underscores
      limit: 400
    overrides:                # later ones win; `where` may name an axis: checkpoint, batch_size,
                              # tokens_per_batch, device
      - where: {batch_size: 1}
        set: {runs: 20, training_memory: false}

Paths are relative to the working directory, as on the command line. An option on the command line
wins over the file, the file over the preset, the preset over the plain defaults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from alpine_cli.config.errors import explain
from alpine_cli.config.source import Settings
from alpine_cli.errors import ConfigError
from alpine_cli.measure.options import PRESETS, MeasureOptions, Preset, merge_options
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["Axes", "CellsFile", "expand", "read_cells"]

_AXES = ("checkpoint", "batch_size", "tokens_per_batch", "device")
_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _cell_options() -> type[BaseModel]:
    """A model of every option of a cell that is no axis, each of them optional."""
    hints = get_type_hints(MeasureOptions, include_extras=True)
    # 0 samples per run is how the command line says "all of them".
    hints["timed_samples"] = int
    wanted: dict[str, Any] = {
        item.name: (hints[item.name] | None, None)
        for item in fields(MeasureOptions)
        if item.name not in (*_AXES, "preset")
    }
    wanted["timed_samples"] = (int | None, Field(default=None, ge=0))
    return create_model("CellOptions", __config__=_STRICT, **wanted)


CellOptions = _cell_options()


class Where(BaseModel):
    """Which cells an override is for: those that agree in every field given."""

    model_config = _STRICT

    checkpoint: Path | None = None
    batch_size: int | None = Field(default=None, ge=1)
    tokens_per_batch: int | None = Field(default=None, ge=1)
    device: str | None = Field(default=None, min_length=1)


class Override(BaseModel):
    """Options of some cells only."""

    model_config = _STRICT

    where: Where
    set: CellOptions  # type: ignore[valid-type]


class CellsFile(BaseModel):
    """What `--cells FILE` holds."""

    model_config = _STRICT

    checkpoints: list[Path] = Field(default_factory=list)
    batch_sizes: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    tokens_per_batch: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    devices: list[str] = Field(default_factory=list)
    preset: Preset | None = None
    defaults: CellOptions = Field(default_factory=CellOptions)  # type: ignore[valid-type]
    overrides: list[Override] = Field(default_factory=list)


@dataclass(frozen=True)
class Axes:
    """The axes as given on the command line; what is empty is taken from the file.

    Batch sizes and tokens per batch are one axis: either given replaces both of the file.
    """

    checkpoints: Sequence[Path] = ()
    batch_sizes: Sequence[int] = ()
    devices: Sequence[str] = ()
    tokens_per_batch: Sequence[int] = ()


def read_cells(path: Path) -> CellsFile:
    """Read a file of cells.

    Raises:
        ConfigError: lists every field that is wrong, with the file.
    """
    settings = Settings.from_file(path)
    try:
        return CellsFile.model_validate(settings.values)
    except ValidationError as error:
        known = _known_fields(settings.values)
        raise ConfigError(explain(error, settings, known, lambda name: "a value")) from error


def expand(
    axes: Axes,
    given: Mapping[str, Any],
    preset: Preset | None = None,
    file: CellsFile | None = None,
) -> list[MeasureOptions]:
    """The options of every cell: checkpoints first, then devices, then batch sizes.

    Args:
        axes: of the command line.
        given: options that the user gave, by name; they win over everything.
        preset: of the command line; wins over the file's.
        file: defaults and overrides; None without a file.

    Raises:
        ConfigError: no checkpoint at all, a value given twice on an axis, an override that is for
            no cell, or options of one source that say in two ways how large a batch is.
    """
    file = file or CellsFile()
    checkpoints = _once("checkpoint", axes.checkpoints or file.checkpoints)
    limits = _limits(axes) or _limits(file) or [{}]
    devices: list[str | None] = [*_once("device", axes.devices or file.devices)] or [None]
    if not checkpoints:
        raise ConfigError(
            "--checkpoint: is required; pass a ckpt.pt, or --cells FILE that lists some"
        )
    preset = preset or file.preset
    used = [False] * len(file.overrides)
    cells = []
    for checkpoint, device, limit in product(checkpoints, devices, limits):
        place = {"checkpoint": checkpoint, **limit, "device": device}
        told = {**MeasureOptions(checkpoint).batch_limit.by_name(), **place}
        values: dict[str, Any] = dict(PRESETS[preset]) if preset else {}
        values = merge_options(values, _set_in(file.defaults))
        for number, override in enumerate(file.overrides):
            wanted = override.where.model_dump(exclude_none=True)
            if all(told[name] == value for name, value in wanted.items()):
                values = merge_options(values, _set_in(override.set))
                used[number] = True
        values = merge_options(values, given)
        if "timed_samples" in values:
            values["timed_samples"] = values["timed_samples"] or None
        cells.append(MeasureOptions(**place, **values, preset=preset))
    if not all(used):
        number = used.index(False)
        wanted = file.overrides[number].where.model_dump(mode="json", exclude_none=True)
        raise ConfigError(f"--cells: overrides.{number}.where: no cell has {wanted}")
    return cells


def _limits(axes: Axes | CellsFile) -> list[dict[str, Any]]:
    """The limits of batches, each as the option it is; those by samples first."""
    sizes = _once("batch size", axes.batch_sizes)
    tokens = _once("tokens per batch", axes.tokens_per_batch)
    return [
        *(BatchLimit(samples=size).by_name() for size in sizes),
        *(BatchLimit(tokens=budget).by_name() for budget in tokens),
    ]


def _set_in(options: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(options).items() if value is not None}


def _once(what: str, values: Sequence[Any]) -> list[Any]:
    """The values.

    Raises:
        ConfigError: one occurs twice; it would be measured and counted twice.
    """
    seen: list[Any] = []
    for value in values:
        if value in seen:
            raise ConfigError(f"{what} {value} is given twice; give each once")
        seen.append(value)
    return seen


def _known_fields(values: Mapping[str, Any]) -> dict[str, str]:
    """Every field by dotted name, with the places of the overrides that are there."""
    options = list(CellOptions.model_fields)
    known = dict.fromkeys(CellsFile.model_fields, "")
    known |= {f"defaults.{name}": "" for name in options}
    overrides = values.get("overrides")
    for number in range(len(overrides) if isinstance(overrides, list) else 0):
        known |= {f"overrides.{number}.{name}": "" for name in Override.model_fields}
        known |= {f"overrides.{number}.where.{name}": "" for name in Where.model_fields}
        known |= {f"overrides.{number}.set.{name}": "" for name in options}
    return known
