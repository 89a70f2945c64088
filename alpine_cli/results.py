"""The one schema of results: what `alpine bench` and its sisters write and `report` reads.

A result file (`result_files`) is JSON, written once and never changed; everything that is
printed, plotted or exported comes from such files. `SCHEMA_VERSION` grows when a reader of the
old form would go wrong; `json_schema()` exports the form.

One result is one checkpoint, one device, one batch size. Runs over many of those (`alpine bench`
with several checkpoints, or cells) write one file each and give them the same `session`.

Three facts a reader must know:
- a `Figure` that could not be taken has `value` null and a `reason`, never a zero;
- `value` is an aggregate of `samples` (named by `aggregate`), and so is every ratio built on it;
- a ratio is always *variant over baseline*, whichever direction is the better one.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "SCHEMA_VERSION",
    "Aggregate",
    "Better",
    "Caution",
    "Comparison",
    "Environment",
    "Figure",
    "Gpu",
    "Interval",
    "Kind",
    "Part",
    "Predictions",
    "Provenance",
    "Result",
    "Series",
    "Spread",
    "Subject",
    "Variant",
    "Verdict",
    "json_schema",
    "like_cautions",
]

SCHEMA_VERSION = 2

Finite = Annotated[float, Field(allow_inf_nan=False)]
Better = Literal["lower", "higher"]
Provenance = Literal["measured", "counted", "analytic", "modelled", "absent"]
Aggregate = Literal["mean", "harmonic_mean", "median", "p90", "p95", "p99", "sum", "single"]
Verdict = Literal["better", "worse", "no difference shown", "not judged"]
Kind = Literal[
    "bench", "flops", "memory", "throughput", "energy", "accuracy", "training", "sweep", "tune"
]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Interval(_Record):
    """A confidence interval."""

    low: Finite
    high: Finite
    level: Finite = Field(default=0.95, gt=0, lt=1, description="nominal coverage")
    method: str = Field(
        description="how it was computed, e.g. 'BCa bootstrap over 600 samples, paired'"
    )

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

    @classmethod
    def absent(
        cls,
        name: str,
        variant: str,
        unit: str,
        reason: str,
        *,
        better: Better | None = None,
        per: str | None = None,
        method: str = "not taken",
    ) -> Self:
        """A figure that could not be taken, and why: null, never zero."""
        return cls(
            name=name,
            variant=variant,
            unit=unit,
            value=None,
            reason=reason,
            provenance="absent",
            method=method,
            better=better,
            per=per,
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
    low: list[Finite | None] | None = Field(
        default=None, description="lower ends of 95 % confidence intervals"
    )
    high: list[Finite | None] | None = Field(default=None, description="their upper ends")
    labels: list[str] | None = Field(
        default=None, description="names of the points, where x only counts them"
    )
    baseline: str | None = Field(
        default=None, description="curves of ratios: y is `variant` over this variant"
    )
    method: str

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        for name in ("y", "low", "high", "labels"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.x):
                raise ValueError(
                    f"series {self.name}: {len(self.x)} x values, {len(values)} {name} values"
                )
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


class Caution(_Record):
    """Something a reader of the figures must mind: what was seen, its effect, what to do."""

    code: str = Field(pattern=r"^[a-z][a-z0-9-]*$", description="stable name, e.g. 'busy-machine'")
    text: str = Field(description="what was seen, one clause, no full stop")
    effect: str | None = Field(default=None, description="what it does to the figures")
    remedy: str | None = Field(default=None, description="what to do about it")

    def __str__(self) -> str:
        told = f"{self.text}: {self.effect}" if self.effect else self.text
        return f"{told}. {self.remedy}" if self.remedy else told


def like_cautions(cautions: Iterable[Caution]) -> list[list[Caution]]:
    """Cautions that have effect and remedy in common, together: to be said once.

    In the order of the first of each; texts that repeat are dropped.
    """
    together: dict[tuple[str | None, str | None], dict[str, Caution]] = {}
    for caution in cautions:
        together.setdefault((caution.effect, caution.remedy), {})[caution.text] = caution
    return [list(like.values()) for like in together.values()]


class Predictions(_Record):
    """What every variant answered, sample by sample, so that results can be tested as pairs.

    One digit per sample, in the order of the split (whose content `Subject.data_sha256` names).
    """

    labels: str = Field(pattern=r"^[0-9]+$")
    predicted: dict[str, str] = Field(description="by variant")

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        for variant, digits in self.predicted.items():
            if len(digits) != len(self.labels) or not (digits.isascii() and digits.isdigit()):
                raise ValueError(f"predictions of {variant}: not {len(self.labels)} digits")
        return self


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
    busy_share: Finite | None = Field(
        default=None,
        description="share of the machine's CPU time that was in use just before measuring",
    )
    float32_products: Literal["ieee", "tf32"] | None = Field(
        default=None,
        description="how PyTorch multiplies float32 matrices on CUDA: 'ieee' as they are, 'tf32'"
        " with inputs of 10 bits; null: no CUDA, or not recorded",
    )


class Variant(_Record):
    """What a variant's name stands for in this file."""

    checkpoint: str = Field(description="folder and file name, never an absolute path")
    checkpoint_sha256: str
    engine: str = Field(description="'transformers (sdpa)' or a pruning engine's name")
    pruning: dict[str, Any] | None = Field(
        default=None, description="null: transformers as it ships"
    )
    max_length: int | None = Field(
        default=None,
        description="tokens that a function was cut to; null: as the checkpoint cuts its input",
    )
    training_seed: int | None = Field(
        default=None,
        description="seed of the fine-tuning; results that differ in nothing else are repeats",
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
    cautions: list[Caution] = Field(default_factory=list)
    predictions: Predictions | None = None

    def merged(self, *others: Part) -> Part:
        """This part followed by `others`; cautions said twice are kept once."""
        parts = (self, *others)
        return Part(
            figures=[figure for part in parts for figure in part.figures],
            series=[series for part in parts for series in part.series],
            comparisons=[comparison for part in parts for comparison in part.comparisons],
            cautions=list(dict.fromkeys(caution for part in parts for caution in part.cautions)),
            predictions=next((part.predictions for part in parts if part.predictions), None),
        )


def _new_id() -> str:
    return secrets.token_hex(4)


class Result(Part):
    """A result file."""

    schema_version: Literal[2] = 2
    id: str = Field(default_factory=_new_id, pattern=r"^[0-9a-f]{8}$")
    session: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{8}$",
        description="shared by the results of one command that measured several cells",
    )
    created: datetime = Field(default_factory=lambda: datetime.now(UTC))
    command: list[str] = Field(description="the command line, folders of paths left out")
    kind: Kind
    subject: Subject
    variants: dict[str, Variant]
    settings: dict[str, Any] = Field(description="every option of the measurement, resolved")
    environment: Environment

    @model_validator(mode="after")
    def _variants_are_described(self) -> Self:
        named = {figure.variant for figure in self.figures}
        named |= {series.variant for series in self.series}
        named |= {series.baseline for series in self.series if series.baseline is not None}
        named |= {name for found in self.comparisons for name in (found.variant, found.baseline)}
        named |= set(self.predictions.predicted) if self.predictions else set()
        unknown = sorted(named - set(self.variants))
        if unknown:
            raise ValueError(f"variants without a description: {', '.join(unknown)}")
        return self

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
    schema["required"] = ["schema_version", *schema["required"]]  # `read_result` insists on it
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
