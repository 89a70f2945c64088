"""Tasks: what a sample is, where the data lies, how it is encoded, batched, classified and scored.

`registry`, `data`, `encoding`, `batching` and `metrics` need no torch; `loading` and `heads` do.
The names below are imported on first use, so `import alpine_cli.tasks` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpine_cli.tasks.batching import BatchLimit
    from alpine_cli.tasks.data import SPLIT_NAMES, Columns, DataSplits, Sample, Split, load_splits
    from alpine_cli.tasks.encoding import EncodedSplit, EncodingSpec, encode
    from alpine_cli.tasks.heads import build_head, resolve_head
    from alpine_cli.tasks.loading import (
        Collator,
        LengthGroupedSampler,
        TokenBatchSampler,
        make_loader,
    )
    from alpine_cli.tasks.metrics import METRIC_NAMES, compute_metrics
    from alpine_cli.tasks.registry import TASKS, TaskSpec, resolve_task

__all__ = [
    "METRIC_NAMES",
    "SPLIT_NAMES",
    "TASKS",
    "BatchLimit",
    "Collator",
    "Columns",
    "DataSplits",
    "EncodedSplit",
    "EncodingSpec",
    "LengthGroupedSampler",
    "Sample",
    "Split",
    "TaskSpec",
    "TokenBatchSampler",
    "build_head",
    "compute_metrics",
    "encode",
    "load_splits",
    "make_loader",
    "resolve_head",
    "resolve_task",
]

_HOME = {
    "batching": ("BatchLimit",),
    "data": ("SPLIT_NAMES", "Columns", "DataSplits", "Sample", "Split", "load_splits"),
    "encoding": ("EncodedSplit", "EncodingSpec", "encode"),
    "heads": ("build_head", "resolve_head"),
    "loading": ("Collator", "LengthGroupedSampler", "TokenBatchSampler", "make_loader"),
    "metrics": ("METRIC_NAMES", "compute_metrics"),
    "registry": ("TASKS", "TaskSpec", "resolve_task"),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
