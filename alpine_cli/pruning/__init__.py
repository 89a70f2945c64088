"""The method: decide which tokens stay, apply the decision, and meet a transformers model.

`config` and `errors` need the standard library only; `scoring`, `selection`, `packed`,
`attention`, `engines` and `reference` are tensor functions on torch; `patch/` knows
transformers. Names load when first used, so `alpine_cli.pruning.config` costs no torch import.
"""

from __future__ import annotations

import alpine_cli

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


def __getattr__(name: str) -> object:
    if name in __all__:
        return getattr(alpine_cli, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
