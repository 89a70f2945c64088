"""The two errors of the pruning room. ValueErrors, so that the room needs nothing of alpine.

PruningError              a request that cannot be met: a bad setting, an input it cannot read
└── UnsupportedModelError a model that no family knows, or a head that pruning would break
"""

from __future__ import annotations

__all__ = ["PruningError", "UnsupportedModelError"]


class PruningError(ValueError):
    """A pruning setting is out of range, or an input cannot be pruned. Says which and why."""


class UnsupportedModelError(PruningError):
    """The model belongs to no supported family, or its head reads every input token."""
