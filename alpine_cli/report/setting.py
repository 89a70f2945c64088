"""The setting a result was taken in: all that results must share before they may be averaged."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import Any

from alpine_cli.pruning.config import SHARE_RULES, PruningConfig
from alpine_cli.report.batches import batches_of
from alpine_cli.results import Result

__all__ = [
    "Setting",
    "describe_cell",
    "describe_pruning",
    "precision_of",
    "setting_of",
    "training_seed_of",
    "unusual_precision",
]

# Of a result's settings, those that move a figure.
_OPTIONS = ("flops_batch_size", "training_batch_size", "timed_samples", "dtype", "precision")
# Older results do not name what is usual.
_USUAL = {"precision": "float32"}
# The same, where given: older results do not know them.
_BUDGETS = ("flops_tokens_per_batch", "training_tokens_per_batch")
_LIBRARIES = ("alpine-cli", "torch", "transformers")
_BENCH_LIKE = ("bench", "flops", "memory", "throughput", "energy", "accuracy")


@dataclass(frozen=True)
class Setting:
    """All that results must share to be repeats of each other; the names are for people."""

    kind: str
    model: str
    task: str
    head: str
    data: str
    split: str
    samples: str
    pruning: str
    baseline: str
    batch_size: str
    device: str
    machine: str
    software: str
    options: str

    def differs(self, other: Setting) -> list[str]:
        """Names of the fields in which two settings differ."""
        return [
            f.name.replace("_", " ")
            for f in fields(self)
            if getattr(self, f.name) != getattr(other, f.name)
        ]


def setting_of(result: Result) -> Setting:
    """The setting a result was taken in."""
    subject, environment = result.subject, result.environment
    settings = result.settings
    gpus = ", ".join(gpu.name for gpu in environment.gpus)
    versions = environment.versions
    pruned, unpruned = result.variants.get("pruned"), result.variants.get("unpruned")
    return Setting(
        kind="bench" if result.kind in _BENCH_LIKE else result.kind,
        model=subject.model,
        task=subject.task,
        head=subject.head,
        data=subject.data,
        split=subject.split,
        samples=f"{subject.samples} of {subject.data_sha256[:12]}",
        pruning=_plain(pruned.pruning if pruned else None),
        baseline=_plain(unpruned.pruning if unpruned else None),
        batch_size=str(batches_of(settings) or "not said"),
        device=str(settings.get("device", "not said")),
        machine=f"{environment.cpu_model}, {environment.threads} threads, {gpus or 'no GPU'}",
        software=", ".join(f"{name} {versions[name]}" for name in _LIBRARIES if name in versions),
        options=_plain(
            {n: settings[n] for n in _OPTIONS if n in settings and settings[n] != _USUAL.get(n)}
            | {name: settings[name] for name in _BUDGETS if settings.get(name) is not None}
        ),
    )


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


def describe_pruning(result: Result) -> str:
    """The pruning of a result in a few words: "even, α 1" plus what departs from the defaults."""
    variant = result.variants.get("pruned")
    pruning = (variant.pruning if variant is not None else None) or {}
    if not pruning:
        return "none"
    words = [str(pruning.get("layers", "?"))]
    if "alpha" in pruning and pruning.get("rule", "band") not in SHARE_RULES:
        alpha = pruning["alpha"]
        words.append(f"α {alpha:g}" if isinstance(alpha, int | float) else f"α {alpha}")
    usual = PruningConfig().to_dict()
    for name, value in pruning.items():
        if name not in ("layers", "alpha") and value is not None and value != usual.get(name):
            words.append(f"{name} {value}")
    return ", ".join(words)


def describe_cell(result: Result) -> str:
    """What tells a result from its neighbours: "codebert, clone-detection: even, α 1, batch 32"."""
    words = [] if result.kind in ("sweep", "tune", "training") else [describe_pruning(result)]
    batches = batches_of(result.settings)
    if batches is not None:
        words.append(f"batch {batches}")
    words += unusual_precision(result)
    seed = training_seed_of(result)
    if seed is not None:
        words.append(f"seed {seed}")
    told = f": {', '.join(words)}" if words else ""
    return f"{result.subject.model}, {result.subject.task}{told}"


def precision_of(result: Result) -> str:
    """The precision that was measured in."""
    return str(result.settings.get("precision") or _USUAL["precision"])


def unusual_precision(result: Result) -> list[str]:
    """The same, unless it is float32."""
    precision = precision_of(result)
    return [] if precision == _USUAL["precision"] else [precision]


def training_seed_of(result: Result) -> int | None:
    """The seed of the fine-tuning of the pruned checkpoint, or of the only one there is."""
    variant = result.variants.get("pruned") or next(iter(result.variants.values()), None)
    return None if variant is None else variant.training_seed
