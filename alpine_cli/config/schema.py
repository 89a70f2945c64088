"""What a run is made of: the fields, their defaults, ranges and meaning.

The descriptions are the reference and the help text; the resolved config is saved with the run
(`config.yaml`) and reads back to an equal one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from alpine_cli.config.pruning import read_pruning
from alpine_cli.dataflow import LANGUAGES
from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import DECISIONS, PruningConfig
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.data import Columns
from alpine_cli.tasks.registry import resolve_task

__all__ = [
    "ALTERNATIVES",
    "ColumnsConfig",
    "DistillConfig",
    "LimitConfig",
    "RunConfig",
    "TrainConfig",
]

ALTERNATIVES = (
    ("train.batch_size", "train.tokens_per_batch"),
    ("train.eval_batch_size", "train.eval_tokens_per_batch"),
)
"""Two ways of saying one thing: a source that gives one replaces the other of an earlier source."""
_STRICT = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class DistillConfig(BaseModel):
    """Learning from a teacher's answers beside the labels (Hinton et al. 2015)."""

    model_config = _STRICT

    teacher: str | None = Field(
        default=None,
        min_length=1,
        description="Learn from this ckpt.pt, too, run unpruned; it must be of the same task and"
        " tokenizer. Default: the checkpoint that the run starts from.",
    )
    weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Weight of the teacher's term, temperature² × KL(teacher ‖ student); the"
        " labels' cross-entropy has the rest.",
    )
    temperature: float = Field(
        default=2.0,
        gt=0,
        description="Divides the logits of teacher and student in that term: more softens them.",
    )


class TrainConfig(BaseModel):
    """How a model is fine-tuned. The defaults are those of the ALPINE paper."""

    model_config = _STRICT

    epochs: int = Field(default=5, ge=1, description="Passes over the training split.")
    batch_size: int | None = Field(
        default=32,
        ge=1,
        description="Samples per optimiser step, over all processes and accumulation pieces.",
    )
    tokens_per_batch: int | None = Field(
        default=None,
        ge=1,
        description="Instead of batch_size: tokens per optimiser step at most, padding counted; the"
        " number of samples then varies. A longer sample is a step of its own.",
    )
    eval_batch_size: int | None = Field(
        default=64, ge=1, description="Samples per forward pass in evaluation."
    )
    eval_tokens_per_batch: int | None = Field(
        default=None,
        ge=1,
        description="Instead of eval_batch_size: tokens per forward pass at most, padding counted.",
    )
    lr: float = Field(default=2e-5, gt=0, description="Peak learning rate of AdamW.")
    warmup: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="Share of the steps over which the learning rate rises.",
    )
    weight_decay: float = Field(default=0.0, ge=0, description="AdamW's weight decay.")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="AdamW's epsilon.")
    grad_norm: float = Field(
        default=1.0, ge=0, description="Clip gradients to this norm; 0: do not clip."
    )
    grad_accum: int = Field(
        default=1,
        ge=1,
        description="Split each batch into this many pieces: less memory, the same gradient.",
    )
    seed: int = Field(
        default=123456, ge=0, lt=2**32, description="Seeds weights, dropout and shuffling."
    )
    max_length: int = Field(
        default=512,
        ge=3,
        description="Tokens per function, special tokens included; longer is cut.",
    )
    group_by_length: bool = Field(
        default=True, description="Batch samples of similar length (still shuffled): less padding."
    )
    bf16: bool = Field(
        default=False, description="Compute in bfloat16 (autocast); weights stay float32."
    )
    gradient_checkpointing: bool = Field(
        default=False,
        description="Recompute activations in the backward pass: less memory, more time.",
    )
    log_steps: int = Field(
        default=10, ge=1, description="Optimiser steps between two logged losses."
    )
    save_steps: int = Field(
        default=200, ge=1, description="Optimiser steps between two saves of the resumable state."
    )
    distill: DistillConfig | None = Field(
        default=None, description="Learn from an unpruned teacher, too; unset: from labels alone."
    )

    @model_validator(mode="before")
    @classmethod
    def _default_limits(cls, values: Any) -> Any:
        """The default of a batch size holds only where no budget of tokens is given."""
        if not isinstance(values, Mapping):
            return values
        given = dict(values)
        for names in ALTERNATIVES:
            size, tokens = (name.rpartition(".")[2] for name in names)
            if given.get(size) is None:
                given.pop(size, None)
                if given.get(tokens) is not None:
                    given[size] = None
        return given

    @field_validator("tokens_per_batch", "eval_tokens_per_batch")
    @classmethod
    def _one_limit(cls, tokens: int | None, info: ValidationInfo) -> int | None:
        size = f"{'eval_' if info.field_name == 'eval_tokens_per_batch' else ''}batch_size"
        if tokens is not None and info.data.get(size) is not None:
            raise ValueError(
                f"says the same as {size} ({info.data[size]}), in tokens; give one of them"
                f" (got {tokens})"
            )
        return tokens

    @field_validator("group_by_length")
    @classmethod
    def _budget_is_grouped(cls, grouped: bool, info: ValidationInfo) -> bool:
        if not grouped and info.data.get("tokens_per_batch") is not None:
            raise ValueError(
                "must be true with tokens_per_batch: the longest of a random batch would rule its"
                " size (got False)"
            )
        return grouped

    @property
    def batch_limit(self) -> BatchLimit:
        """How large the batch of an optimiser step is."""
        return BatchLimit(self.batch_size, self.tokens_per_batch)

    @property
    def eval_batch_limit(self) -> BatchLimit:
        """How large a batch of evaluation is."""
        return BatchLimit(self.eval_batch_size, self.eval_tokens_per_batch)


class ColumnsConfig(BaseModel):
    """Names of the columns of one's own data; unset ones keep the task's usual name."""

    model_config = _STRICT

    code: str | None = Field(
        default=None, description="Column of the function (of a pair: the first)."
    )
    code2: str | None = Field(default=None, description="Column of a pair's second function.")
    label: str | None = Field(default=None, description="Column of the label, 0 or 1.")
    id: str | None = Field(
        default=None, description="Column of the sample's name; default: row number."
    )

    def to_columns(self) -> Columns | None:
        """The data reader's form; None where no column is named."""
        columns = Columns(**self.model_dump())
        return None if columns == Columns() else columns


class LimitConfig(BaseModel):
    """Use at most N samples of a split (for trials), the same ones each time; unset: all."""

    model_config = _STRICT

    train: int | None = Field(default=None, ge=1, description="Training samples to use.")
    valid: int | None = Field(default=None, ge=1, description="Validation samples to use.")
    test: int | None = Field(default=None, ge=1, description="Test samples to use.")

    def to_limits(self) -> dict[str, int] | None:
        """The data reader's form; None where nothing is limited."""
        limits = {name: value for name, value in self.model_dump().items() if value is not None}
        return limits or None


def _canonical_task(value: Any) -> Any:
    if not isinstance(value, str):
        return value  # pydantic then says that it must be text
    try:
        return resolve_task(value).name
    except ConfigError as error:
        raise ValueError(str(error)) from error


def _limit_sections(value: Any) -> Any:
    """`limit: 100` limits every split."""
    if isinstance(value, int) and not isinstance(value, bool):
        return dict.fromkeys(LimitConfig.model_fields, value)
    return value


class RunConfig(BaseModel):
    """One fine-tuning run: which model, on which task and data, pruned how, trained how."""

    model_config = _STRICT

    model: str = Field(
        min_length=1,
        description="Model: codebert, graphcodebert, unixcoder, a hub id or a local directory.",
    )
    task: Annotated[str, BeforeValidator(_canonical_task)] = Field(
        description="defect-detection or clone-detection."
    )
    data: str | None = Field(
        default=None,
        min_length=1,
        description="Directory of the task's data; layouts: see the README.",
    )
    head: str | None = Field(
        default=None, description="Classification head: alpine or standard; default: the task's."
    )
    mode_prefix: bool | None = Field(
        default=None,
        description="Put UniXcoder's <encoder-only> before the code; default: on for UniXcoder.",
    )
    data_flow: str | None = Field(
        default=None,
        description="Read each function's data flow with its code, as GraphCodeBERT was trained to:"
        " the code's language (java, python, c), or task for that of the task's benchmark;"
        " needs alpine-cli[graph]. Default: code only.",
    )
    data_flow_length: int = Field(
        default=128,
        ge=1,
        description="Room for the data flow's nodes besides train.max_length; further ones are"
        " cut (default: 128).",
    )
    columns: ColumnsConfig = Field(
        default_factory=ColumnsConfig, description="Column names of one's own data."
    )
    limit: Annotated[LimitConfig, BeforeValidator(_limit_sections)] = Field(
        default_factory=LimitConfig,
        description="Use at most N samples of each split; a number limits all three.",
    )
    prune: Annotated[PruningConfig, BeforeValidator(read_pruning)] = Field(
        default_factory=PruningConfig, description="Which layers prune, and how."
    )
    train: TrainConfig = Field(
        default_factory=TrainConfig, description="How the model is fine-tuned."
    )
    device: Literal["cpu", "cuda"] | None = Field(
        default=None,
        description="Device: cpu or cuda; default: cuda where there is one. One of several GPUs:"
        " CUDA_VISIBLE_DEVICES=N.",
    )
    output: str | None = Field(
        default=None,
        min_length=1,
        description="Run directory; default: runs/<model>-<task>-<pruning>-seed<seed>.",
    )

    @field_validator("head")
    @classmethod
    def _head_fits_task(cls, head: str | None, info: ValidationInfo) -> str | None:
        task = info.data.get("task")  # absent where the task itself is invalid
        if head is not None and task is not None and head not in resolve_task(task).heads:
            raise ValueError(f"must be one of {', '.join(resolve_task(task).heads)} for {task}")
        return head

    @field_validator("data_flow", mode="before")
    @classmethod
    def _language_of_data_flow(cls, value: Any, info: ValidationInfo) -> Any:
        """`true` and "task" become the language of the task's benchmark, `false` nothing."""
        if value is False:
            return None
        task = info.data.get("task")  # absent where the task itself is invalid
        if value is True or value == "task":
            return None if task is None else resolve_task(task).language
        if isinstance(value, str) and value not in LANGUAGES:
            raise ValueError(f"must be task, {', '.join(LANGUAGES)} (got {value!r})")
        return value

    def run_dir(self) -> Path:
        """The run directory: `output`, or a name made of model, task, pruning and seed.

        Of the pruning the layers are named, and what else is not as published: "all-top-keep0.5"
        (both ways of protecting tokens are). A run that starts from a checkpoint is called after
        the folder that holds it: "…-then-even".
        """
        if self.output is not None:
            return Path(self.output)
        layers = self.prune.layers.replace(" ", "").replace(",", "-")
        if layers != "none":
            changed = self._not_as_published()
            changed.pop("protect", None)
            layers += "".join(f"-{_word(name, value)}" for name, value in changed.items())
        if Path(self.model).suffix == ".pt":
            name = f"{_plain_name(Path(self.model).resolve().parent.name)}-then-{layers}"
        else:
            name = f"{_plain_name(Path(self.model).name)}-{self.task}-{layers}"
        return Path("runs") / f"{name}-seed{self.train.seed}"

    def idle_pruning(self) -> list[str]:
        """Settings of the pruning that change nothing, because no layer prunes: "rule top"."""
        if self.prune.layers != "none":
            return []
        return [f"{name} {value}" for name, value in self._not_as_published().items()]

    def _not_as_published(self) -> dict[str, Any]:
        """Settings of the pruning, layers aside, that are not the published rule's."""
        mine, published = self.prune.to_dict(), PruningConfig().to_dict()
        return {name: mine[name] for name in DECISIONS if mine[name] != published[name]}

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain values, for checkpoints and results."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """All fields as a YAML document that `load_config` reads back to an equal config."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)


def _word(name: str, value: Any) -> str:
    """A setting in the name of a directory: words speak for themselves, numbers do not."""
    if name not in ("keep", "alpha"):
        return str(value)
    return name + (re.sub(r",\s*", "-", value) if isinstance(value, str) else f"{value:g}")


def _plain_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
