"""The method: decide which tokens stay, apply the decision, and meet a transformers model.

`config` and `errors` need the standard library only; `scoring`, `selection`, `packed`,
`attention`, `engines` and `reference` are tensor functions on torch; `patch/` knows
transformers. Names load when first used, so `alpine_cli.pruning.config` costs no torch import.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpine_cli.pruning.apply import is_pruned, prune, trace, unprune
    from alpine_cli.pruning.config import PruningConfig
    from alpine_cli.pruning.errors import PruningError, UnsupportedModelError
    from alpine_cli.pruning.presets import preset
    from alpine_cli.pruning.tracing import Trace

__all__ = [
    "PruningConfig",
    "PruningError",
    "Trace",
    "UnsupportedModelError",
    "is_pruned",
    "preset",
    "prune",
    "trace",
    "unprune",
]

_SOURCES = {
    "PruningConfig": "config",
    "PruningError": "errors",
    "Trace": "tracing",
    "UnsupportedModelError": "errors",
    "is_pruned": "apply",
    "preset": "presets",
    "prune": "apply",
    "trace": "apply",
    "unprune": "apply",
}


def __getattr__(name: str) -> Any:
    if name in _SOURCES:
        return getattr(importlib.import_module(f"{__name__}.{_SOURCES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
