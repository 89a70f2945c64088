"""What a measuring command can be asked, and the presets that answer for whoever does not say.

One `MeasureOptions` is one cell: a checkpoint on a device at a batch size. Its fields are the
options of the commands and the fields of a file of cells (`cells`), under the same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from alpine_cli.errors import ConfigError
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["PRESETS", "MeasureOptions", "Precision", "Preset", "merge_options", "short_path"]

Preset = Literal["quick", "thorough"]
Precision = Literal["float32", "bfloat16", "float16"]
Count = Annotated[int, Field(ge=1)]

# Two ways of saying how large a batch is, and what holds where neither is given.
_LIMITS: Mapping[tuple[str, str], int] = {
    ("batch_size", "tokens_per_batch"): 32,
    ("flops_batch_size", "flops_tokens_per_batch"): 1,
    ("training_batch_size", "training_tokens_per_batch"): 8,
}


@dataclass(frozen=True)
class MeasureOptions:
    """What a measuring command was asked; the fields are its options.

    Attributes:
        checkpoint: the ckpt.pt whose pruning is measured.
        baseline: weights of `stock` and `unpruned`; None takes the same checkpoint.
        data: directory of the data; None takes the one the checkpoint was trained on.
        split: which split.
        limit: at most so many samples, drawn without looking at labels.
        batch_size: samples per forward pass of throughput, memory and energy; None with a budget.
        tokens_per_batch: instead, tokens per forward pass at most, padding counted (`batching`).
        flops_batch_size, flops_tokens_per_batch: the same of the forward passes that FLOPs are
            counted for.
        device: "cpu", "cuda", "cuda:N"; None takes CUDA where there is one.
        precision: of inference; training steps in half precision have float32 weights and
            autocast's products. FLOPs are counted in float32: they are the same but for tokens
            within rounding of a threshold.
        layers, alpha, merge, protect, engine: override the checkpoint's pruning.
        prune: override any other field of it, by name.
        reference: measure the published algorithm's engine, too.
        threads: of each worker; None takes every core this process may use.
        runs: at least so many runs of each variant.
        min_seconds: at least so many measured seconds of each variant.
        memory_runs: fresh processes per variant and purpose.
        training_memory, training_throughput, training_energy: measure training steps, too.
        training_batch_size, training_tokens_per_batch: their samples, or tokens at most; training
            keeps every layer's activations, so that the batch size of inference would not fit on
            many machines.
        find_batch_size: instead of peaks, search the largest batch that fits.
        memory_limit: into how many bytes; None: half of what is available, or the whole GPU.
        latency: measure batch size 1, too.
        anatomy: take the speed-up apart, too.
        timed_samples: time passes over about so many samples, evenly spaced over the lengths of
            the split; None takes all of it. Accuracy and FLOPs always take all.
        seed: of batch order, interleaving and resampling.
        country, carbon_intensity, pue: see `carbon`.
        preset: which preset answered for options that were not given; for the record only.

    Raises:
        ConfigError: a batch is limited by samples and by tokens, or a limit is below 1; no such
            precision.
    """

    checkpoint: Path
    baseline: Path | None = None
    data: Path | None = None
    split: str = "test"
    limit: Count | None = None
    batch_size: Count | None = None
    tokens_per_batch: Count | None = None
    flops_batch_size: Count | None = None
    flops_tokens_per_batch: Count | None = None
    device: str | None = None
    precision: Precision = "float32"
    layers: str | None = None
    alpha: float | None = None
    merge: str | None = None
    protect: str | None = None
    engine: str | None = None
    prune: Mapping[str, Any] | None = None
    reference: bool = False
    threads: Count | None = None
    runs: Count = 10
    min_seconds: Annotated[float, Field(ge=0)] = 10.0
    memory_runs: Count = 5
    training_memory: bool = True
    training_throughput: bool = True
    training_energy: bool = True
    training_batch_size: Count | None = None
    training_tokens_per_batch: Count | None = None
    find_batch_size: bool = False
    memory_limit: Count | None = None
    latency: bool = True
    anatomy: bool = True
    timed_samples: Count | None = 256
    seed: Annotated[int, Field(ge=0)] = 0
    country: str | None = None
    carbon_intensity: Annotated[float, Field(ge=0)] | None = None
    pue: Annotated[float, Field(ge=1)] = 1.0
    preset: Preset | None = None

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise ConfigError(f"--precision: must be one of {known} (got {self.precision!r})")
        for (size, tokens), usual in _LIMITS.items():
            given = {name: value for name in (size, tokens) if (value := getattr(self, name))}
            if len(given) == 2:
                raise ConfigError(
                    f"{_flag(size)} {given[size]} and {_flag(tokens)} {given[tokens]} both say how"
                    " large a batch is; give one of them"
                )
            for name in (size, tokens):
                value = getattr(self, name)
                if value is not None and value < 1:
                    raise ConfigError(f"{_flag(name)}: must be at least 1 (got {value})")
            if not given:
                object.__setattr__(self, size, usual)

    @property
    def batch_limit(self) -> BatchLimit:
        """Of inference: accuracy, throughput, memory, energy."""
        return BatchLimit(self.batch_size, self.tokens_per_batch)

    @property
    def flops_batch_limit(self) -> BatchLimit:
        """Of the batches that FLOPs are counted for."""
        return BatchLimit(self.flops_batch_size, self.flops_tokens_per_batch)

    @property
    def training_batch_limit(self) -> BatchLimit:
        """Of training steps."""
        return BatchLimit(self.training_batch_size, self.training_tokens_per_batch)

    def settings(self) -> dict[str, Any]:
        """The options as they go into a result file: no path beyond its last folder."""
        shown: dict[str, Any] = {}
        for name, value in vars(self).items():
            shown[name] = short_path(value) if isinstance(value, Path) else value
        return shown


PRESETS: Mapping[Preset, Mapping[str, Any]] = {
    # Five runs are the fewest that give an interval.
    "quick": {
        "runs": 5,
        "min_seconds": 1.0,
        "timed_samples": 32,
        "memory_runs": 1,
        "training_memory": False,
        "training_throughput": False,
        "training_energy": False,
        "anatomy": False,
    },
    # Whole passes over the split, and enough repetitions for an interval on every figure.
    "thorough": {
        "runs": 30,
        "min_seconds": 30.0,
        "timed_samples": None,
        "memory_runs": 10,
    },
}
"""What a preset sets; whatever the user gives wins over it."""


def merge_options(earlier: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """`earlier` with `later` over it; a limit of batches replaces the other way of giving it."""
    merged = dict(earlier)
    for names in _LIMITS:
        for name, other in (names, names[::-1]):
            if later.get(name) is not None:
                merged.pop(other, None)
    return merged | dict(later)


def _flag(name: str) -> str:
    # `measure-flops` is about nothing else, so that its options need no prefix.
    return "--" + name.removeprefix("flops_").replace("_", "-")


def short_path(path: Path) -> str:
    """The last folder and the name: enough to tell files apart, nothing about the machine."""
    parts = path.resolve().parts
    return "/".join(parts[-2:]) if len(parts) > 2 else path.name
