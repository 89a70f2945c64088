"""Whether a result says its settings in the types that a report reckons with.

The schema leaves `settings` and `pruning` open, since every command has its own options. A file
that was written by hand or by another tool may hold a word where a number belongs; such a file
is named and left out, like one that cannot be read.
"""

from __future__ import annotations

import math
from typing import Any

from alpine_cli.results import Result

__all__ = ["unsound"]

_COUNTS = (
    *("batch_size", "flops_batch_size", "training_batch_size", "timed_samples", "threads"),
    *("tokens_per_batch", "flops_tokens_per_batch", "training_tokens_per_batch"),
)
_NUMBERS = ("pue", "carbon_intensity")


def unsound(result: Result) -> str | None:
    """The first setting of a wrong type, as "settings.batch_size: …"; None if there is none."""
    for name in _COUNTS:
        value = result.settings.get(name)
        if value is not None and (not _is_whole(value) or value < 1):
            return f"settings.{name}: must be a whole number from 1 (got {value!r})"
    for name in _NUMBERS:
        value = result.settings.get(name)
        if value is not None and not _is_number(value):
            return f"settings.{name}: must be a number (got {value!r})"
    for variant, described in result.variants.items():
        pruning = described.pruning or {}
        if not _is_number(pruning.get("alpha", 1.0)):
            return f"variants.{variant}.pruning.alpha: must be a number (got {pruning['alpha']!r})"
        layers = pruning.get("layers", "none")
        if not isinstance(layers, str | list):
            return f"variants.{variant}.pruning.layers: must be text or a list (got {layers!r})"
    return None


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
