"""The one schema of result files: what `alpine bench` and its sisters write and `report` reads.

A result file is JSON, written once and never changed; everything that is printed, plotted or
exported comes from such files. `SCHEMA_VERSION` grows when a reader of the old form would go
wrong; a file of a later version is refused, never guessed at. `json_schema()` exports the form.

Three facts a reader must know:
- a `Figure` that could not be taken has `value` null and a `reason`, never a zero;
- `value` is an aggregate of `samples` (named by `aggregate`), and so is every ratio built on it;
- a ratio is always *variant over baseline*, whichever direction is the better one.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import from_json

from alpine_cli.errors import DataError
from alpine_cli.files import write_atomic

__all__ = [
    "SCHEMA_VERSION",
    "Aggregate",
    "Better",
    "Comparison",
    "Environment",
    "Figure",
    "Gpu",
    "Interval",
    "Part",
    "Provenance",
    "Result",
    "Series",
    "Spread",
    "Subject",
    "Variant",
    "Verdict",
    "json_schema",
    "read_result",
    "read_results",
    "write_result",
]

SCHEMA_VERSION = 1

Finite = Annotated[float, Field(allow_inf_nan=False)]
Better = Literal["lower", "higher"]
Provenance = Literal["measured", "counted", "analytic", "modelled", "absent"]
Aggregate = Literal["mean", "harmonic_mean", "median", "sum", "single"]
Verdict = Literal["better", "worse", "no difference shown", "not judged"]
Kind = Literal["bench", "flops", "memory", "throughput", "energy", "accuracy"]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Record):
    """A confidence interval."""

    low: Finite
    high: Finite
    level: Finite = Field(default=0.95, gt=0, lt=1, description="nominal coverage")
    method: str = Field(description="how it was computed, e.g. 'BCa bootstrap, paired by run'")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"interval low ({self.low}) is above high ({self.high})")
        return self


class Spread(_Record):
    """Five numbers of a figure's raw samples, in the figure's unit."""

    minimum: Finite
    q1: Finite
    median: Finite
    q3: Finite
    maximum: Finite


class Figure(_Record):
    """One number about one variant, with all that is needed to cite it."""

    name: str = Field(description="what it is, snake_case, e.g. 'total_macs'")
    variant: str = Field(description="a key of `Result.variants`")
    unit: str = Field(description="e.g. 'samples/s', 'MACs', 'bytes', 'J', 'share', '1'")
    value: Finite | None = Field(description="null where it could not be taken: see `reason`")
    reason: str | None = Field(
        default=None, description="why `value` is null; present exactly then"
    )
    provenance: Provenance = Field(
        description="measured on this machine | counted from operators that ran | analytic:"
        " a formula of actual lengths | modelled: estimated without a sensor | absent"
    )
    method: str = Field(description="how it was taken, in one sentence")
    per: str | None = Field(default=None, description="the denominator, e.g. 'sample'")
    better: Better | None = Field(
        default=None, description="the good direction, where there is one"
    )
    n: int | None = Field(default=None, ge=0, description="number of samples behind `value`")
    aggregate: Aggregate = Field(default="single", description="what `value` is of `samples`")
    interval: Interval | None = None
    spread: Spread | None = None
    samples: list[Finite] | None = Field(
        default=None,
        description="raw values in order; index i belongs to the same run in every variant",
    )

    @model_validator(mode="after")
    def _null_has_a_reason(self) -> Self:
        if (self.value is None) != (self.reason is not None):
            raise ValueError(f"figure {self.name}: a reason is given exactly where value is null")
        if (self.value is None) != (self.provenance == "absent"):
            raise ValueError(f"figure {self.name}: provenance is 'absent' exactly without value")
        return self


class Series(_Record):
    """A curve of one variant, e.g. the mean length entering each layer."""

    name: str
    variant: str
    unit: str
    x_name: str = Field(description="what x counts, e.g. 'layer'")
    x: list[Finite]
    y: list[Finite | None]
    method: str

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError(f"series {self.name}: {len(self.x)} x values, {len(self.y)} y values")
        return self


class Comparison(_Record):
    """One figure of a variant set against the same figure of a baseline."""

    figure: str
    variant: str
    baseline: str
    better: Better | None = None
    ratio: Finite | None = Field(default=None, description="variant / baseline")
    interval: Interval | None = Field(default=None, description="of the ratio")
    difference: Finite | None = Field(
        default=None, description="variant - baseline, in the figure's unit"
    )
    difference_interval: Interval | None = None
    p_value: Finite | None = Field(
        default=None, ge=0, le=1, description="exact McNemar test; accuracy only"
    )
    verdict: Verdict
    reason: str | None = Field(
        default=None, description="why there is no ratio, interval or verdict"
    )
    method: str


class Gpu(_Record):
    """A GPU as NVML describes it at the start of the measurement."""

    name: str
    uuid: str
    memory_bytes: int | None = None
    driver: str | None = None
    sm_clock_mhz: int | None = None
    memory_clock_mhz: int | None = None
    temperature_c: int | None = None
    power_limit_w: Finite | None = None
    throttle_reasons: list[str] = Field(default_factory=list)


class Environment(_Record):
    """The machine and the software, as far as they can move a figure."""

    cpu_model: str
    physical_cores: int | None
    logical_cores: int
    usable_cores: int = Field(description="cores this process may run on")
    threads: int | None = Field(
        default=None, description="torch intra-operator threads of the workers"
    )
    ram_bytes: int
    gpus: list[Gpu] = Field(default_factory=list)
    gpu_note: str | None = Field(default=None, description="why `gpus` is empty")
    os: str
    python: str
    versions: dict[str, str]
    git_commit: str | None = None
    git_dirty: bool | None = None
    seed: int | None = None
    load_average: list[Finite] | None = Field(
        default=None, description="1, 5, 15 minutes, at the start"
    )


class Variant(_Record):
    """What a variant's name stands for in this file."""

    checkpoint: str = Field(description="folder and file name, never an absolute path")
    checkpoint_sha256: str
    engine: str = Field(description="'transformers (sdpa)' or a pruning engine's name")
    pruning: dict[str, Any] | None = Field(
        default=None, description="null: transformers as it ships"
    )
    description: str


class Subject(_Record):
    """What was measured: model, task and the very samples."""

    model: str
    task: str
    head: str
    data: str = Field(description="name of the data directory, never an absolute path")
    split: str
    samples: int = Field(ge=1)
    limit: int | None = None
    data_sha256: str = Field(description="of the encoded samples: equal where results compare")


class Part(_Record):
    """What one measure contributes; parts are merged into a `Result`."""

    figures: list[Figure] = Field(default_factory=list)
    series: list[Series] = Field(default_factory=list)
    comparisons: list[Comparison] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)

    def merged(self, *others: Part) -> Part:
        """This part followed by `others`; warnings said twice are kept once."""
        parts = (self, *others)
        return Part(
            figures=[figure for part in parts for figure in part.figures],
            series=[series for part in parts for series in part.series],
            comparisons=[comparison for part in parts for comparison in part.comparisons],
            warnings=list(dict.fromkeys(text for part in parts for text in part.warnings)),
        )


def _new_id() -> str:
    return secrets.token_hex(4)


class Result(Part):
    """A result file."""

    schema_version: Literal[1] = 1
    id: str = Field(default_factory=_new_id, pattern=r"^[0-9a-f]{8}$")
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    command: list[str] = Field(description="the command line, folders of paths left out")
    kind: Kind
    subject: Subject
    variants: dict[str, Variant]
    settings: dict[str, Any] = Field(description="every option of the measurement, resolved")
    environment: Environment

    def figure(self, name: str, variant: str) -> Figure | None:
        """The figure of that name and variant, or None."""
        for figure in self.figures:
            if (figure.name, figure.variant) == (name, variant):
                return figure
        return None

    def comparison(
        self, name: str, variant: str = "pruned", baseline: str = "unpruned"
    ) -> Comparison | None:
        """The comparison of that figure between these variants, or None."""
        for found in self.comparisons:
            if (found.figure, found.variant, found.baseline) == (name, variant, baseline):
                return found
        return None


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a result file."""
    schema = Result.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def write_result(result: Result, directory: Path) -> Path:
    """Add `result` to a directory of results; the file is named after kind, time and id.

    Raises:
        OutputExistsError: a file of that very name exists; results are never overwritten.
    """
    stamp = result.created.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = Path(directory) / f"{result.kind}-{stamp}-{result.id}.json"
    write_atomic(path, result.model_dump_json(indent=1) + "\n", force=False)
    return path


def read_result(path: Path) -> Result:
    """Read one result file.

    Raises:
        DataError: unreadable, not JSON, not a result file, of a later schema version, or broken
            (the message names the file and the field).
    """
    try:
        content = from_json(Path(path).read_bytes(), allow_inf_nan=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError(f"{path}: not a result file of alpine (no schema_version)")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: written by a later alpine (schema version {version}; this one reads up to"
            f" {SCHEMA_VERSION}). Update alpine-cli to read it"
        )
    try:
        return Result.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise DataError(f"{path}: {where}: {first['msg']}") from error


_RESULT_NAME = re.compile(r"^(bench|flops|memory|throughput|energy|accuracy)-.*\.json$")


def read_results(directory: Path) -> tuple[list[Result], list[str]]:
    """All result files of a directory, oldest first, and one line per file that was left out.

    Raises:
        DataError: no such directory, or it holds no readable result file.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory of results. `alpine bench` makes one")
    results: list[Result] = []
    problems: list[str] = []
    for path in sorted(directory.rglob("*.json")):
        if not _RESULT_NAME.match(path.name):
            continue
        try:
            results.append(read_result(path))
        except DataError as error:
            problems.append(str(error))
    if not results:
        detail = "; ".join(problems) or "run `alpine bench` first"
        raise DataError(f"{directory}: holds no readable result file: {detail}")
    results.sort(key=lambda result: (result.created, result.id))
    return results, problems
