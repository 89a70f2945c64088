"""alpine: prune tokens adaptively inside language models of code, and prove what it saves.

    import alpine_cli
    alpine_cli.prune(model, alpine_cli.PruningConfig(layers="even"))   # in place
    with alpine_cli.trace(model) as t:
        model(**batch)
    alpine_cli.unprune(model)

Importing this package imports neither torch nor transformers: names load when first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpine_cli.pruning import (
        PruningConfig,
        PruningError,
        Trace,
        UnsupportedModelError,
        is_pruned,
        preset,
        prune,
        trace,
        unprune,
    )

__version__ = "0.1.0"

__all__ = [
    "PruningConfig",
    "PruningError",
    "Trace",
    "UnsupportedModelError",
    "__version__",
    "is_pruned",
    "preset",
    "prune",
    "trace",
    "unprune",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("alpine_cli.pruning"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
