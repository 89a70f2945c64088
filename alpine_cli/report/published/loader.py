"""The typed form of the published tables: what a YAML file of this folder may hold, and reading it.

A cell has coordinates (task, model, layers, merge, hardware; only those its table has) and one or
more values named by the table's `quantities`; a cell of table G has a curve instead. Notes stand on
a single value, remarks on a whole table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator

from alpine_cli.results import Better

__all__ = [
    "MODELS",
    "TAGS",
    "Claim",
    "Layers",
    "PublishedCell",
    "PublishedCurve",
    "PublishedTable",
    "load_claims",
    "load_table",
    "load_tables",
    "published_curves",
    "published_model",
]

TAGS = {
    "R": "from files of the authors' public replication package",
    "F": "read by eye off figures of the authors' public replication package",
}
"""How the figures of a table came here."""

MODELS = {
    "CodeBERT": "microsoft/codebert-base",
    "GraphCodeBERT": "microsoft/graphcodebert-base",
    "UniXcoder": "microsoft/unixcoder-base",
}
"""The paper's names of its models, and the hub ids they stand for."""

Layers = Literal["none", "all", "even", "odd"]
ModelName = Literal["CodeBERT", "GraphCodeBERT", "UniXcoder"]
Task = Literal["defect-detection", "clone-detection"]
Number = Annotated[float, Field(allow_inf_nan=False)]

_LETTERS = "abcdefg"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Remark(_Record):
    """Something to mind about every figure of a table."""

    code: str = Field(pattern=r"^[a-z][a-z0-9-]*$")
    text: str


class Quantity(_Record):
    """What the values of a table under one name are."""

    title: str
    unit: str
    better: Better | None = None


class PublishedCell(_Record):
    """One run of the paper."""

    task: Task | None = Field(default=None, description="null: summed over both")
    model: ModelName | None = Field(default=None, description="null: summed over all three")
    layers: Layers
    merge: Literal["mean", "none"] = "mean"
    hardware: str | None = None
    rated_power_w: Number | None = Field(default=None, description="of the board, table E only")
    values: dict[str, Number] = Field(default_factory=dict)
    curve: list[Number] | None = Field(
        default=None, description="table G: tokens entering layer 0, 1, …"
    )
    notes: dict[str, str] = Field(default_factory=dict, description="by the value they are about")


class PublishedTable(_Record):
    """One table of the paper."""

    table: Literal["A", "B", "C", "D", "E", "F", "G"]
    title: str
    tag: Literal["R", "F"]
    source: str
    remarks: list[Remark]
    quantities: dict[str, Quantity]
    cells: list[PublishedCell] = Field(min_length=1)

    @model_validator(mode="after")
    def _cells_are_sound(self) -> Self:
        seen = set()
        for cell in self.cells:
            where = (cell.hardware, cell.task, cell.model, cell.layers, cell.merge)
            if where in seen:
                raise ValueError(f"table {self.table}: {where} stands there twice")
            seen.add(where)
            unknown = set(cell.values) - set(self.quantities)
            if unknown or set(cell.notes) - set(cell.values):
                raise ValueError(f"table {self.table}: {where}: unknown values or notes")
            if bool(cell.values) == (cell.curve is not None):
                raise ValueError(f"table {self.table}: {where}: either values or a curve")
        return self

    def cell(
        self,
        layers: str,
        *,
        task: str | None = None,
        model: str | None = None,
        merge: str = "mean",
        hardware: str | None = None,
    ) -> PublishedCell | None:
        """The cell at these coordinates, or None."""
        wanted = (hardware, task, model, layers, merge)
        for cell in self.cells:
            if (cell.hardware, cell.task, cell.model, cell.layers, cell.merge) == wanted:
                return cell
        return None

    def value(self, name: str, layers: str, **where: Any) -> float:
        """The value of that name at these coordinates.

        Raises:
            KeyError: there is no such cell or value.
        """
        cell = self.cell(layers, **where)
        if cell is None:
            raise KeyError(f"table {self.table}: no cell {layers} {where}")
        return cell.values[name]


class Claim(_Record):
    """A figure that the paper or its package states outside the tables, or against them."""

    key: str
    says: str
    where: str
    published: Number
    unit: str
    derived: str = Field(description="name of a function of derived.py")
    holds: bool = Field(description="whether the tables bear it out")
    remark: str


@dataclass(frozen=True)
class PublishedCurve:
    """Mean lengths of one run of table G.

    Attributes:
        task, model, layers: which run; `model` is the paper's name.
        x: 0 to 11: number of layers passed.
        y: mean tokens entering that layer, padded to the longest of each batch of 8.
        label: for a legend.
    """

    task: str
    model: str
    layers: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    label: str


def _read(name: str) -> Any:
    text = resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    return yaml.safe_load(text)


@cache
def load_table(letter: str) -> PublishedTable:
    """Table "A" to "G".

    Raises:
        KeyError: another letter.
        pydantic.ValidationError: the file is not as this module says (a broken installation).
    """
    if letter.lower() not in _LETTERS or len(letter) != 1:
        raise KeyError(f"no published table {letter!r}; there are A to G")
    return PublishedTable.model_validate(_read(f"table-{letter.lower()}.yaml"))


def load_tables() -> dict[str, PublishedTable]:
    """All tables by letter."""
    return {letter.upper(): load_table(letter.upper()) for letter in _LETTERS}


@cache
def load_claims() -> tuple[Claim, ...]:
    """What is said outside the tables or against them."""
    return tuple(Claim.model_validate(entry) for entry in _read("claims.yaml"))


def published_model(name: str) -> str | None:
    """The paper's name of a model, from an alias, a hub id or a folder's name; None for others.

    "codebert", "codebert-base", "microsoft/codebert-base" and "CodeBERT" are all CodeBERT.
    """
    short = name.strip().rstrip("/").rpartition("/")[2].lower().removesuffix("-base")
    return next((known for known in MODELS if known.lower() == short), None)


def published_curves(
    task: str | None = None, model: str | None = None, layers: str | Sequence[str] | None = None
) -> list[PublishedCurve]:
    """The curves of table G, all of them or those asked for.

    Args:
        task: CodeXGLUE's name.
        model: in any form that `published_model` reads; an unknown model has no curve.
        layers: one strategy, or several.
    """
    wanted = {layers} if isinstance(layers, str) else None if layers is None else set(layers)
    curves = []
    for cell in load_table("G").cells:
        if task not in (None, cell.task) or (wanted is not None and cell.layers not in wanted):
            continue
        if model is not None and published_model(model) != cell.model:
            continue
        assert cell.task is not None
        assert cell.model is not None
        assert cell.curve is not None
        curves.append(
            PublishedCurve(
                task=cell.task,
                model=cell.model,
                layers=cell.layers,
                x=tuple(float(layer) for layer in range(len(cell.curve))),
                y=tuple(cell.curve),
                label=f"published: {cell.model}, {cell.layers} (padded, batches of 8)",
            )
        )
    return curves
