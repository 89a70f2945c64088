"""Paired differences of accuracy over samples, and accuracies over fine-tuning seeds, as told.

Intervals are 95 % percentile bootstraps over samples, after adding two samples that got neither
better nor worse, one that got better and one that got worse: half a sample to each of the eight
cells that `alpine_cli.measure.accuracy` adds to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 9999
_ADDED = (-1.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Change:
    """A paired difference of accuracy, as a fraction, with its 95 % interval."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired(mine: NDArray[np.float64], theirs: NDArray[np.float64], seed: int = 0) -> Change:
    """The mean of mine - theirs over samples, with a percentile bootstrap.

    Resampling samples is drawing how often each of the few values that differences take occurs. See
    the head of this module for the four samples that are added.

    Args:
        mine, theirs: (samples,) correctness, averaged over checkpoints.
        seed: of the resampling.
    """
    n = len(mine)
    seen = np.append(np.round(mine - theirs, 9), _ADDED)
    values, counts = np.unique(seen, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / counts.sum(), size=_RESAMPLES)
    low, high = np.quantile(drawn @ values / n, [0.025, 0.975])
    return Change(float((mine - theirs).mean()), float(low), float(high))


class Averaged(Protocol):
    """An accuracy over several checkpoints, mean and each, as fractions."""

    @property
    def accuracy(self) -> float:
        """Their mean."""

    @property
    def accuracies(self) -> list[float]:
        """Of each."""


def accuracy_text(row: Averaged) -> str:
    """In percent, with the range over checkpoints where there are several."""
    told = f"{100 * row.accuracy:.1f}"
    if len(row.accuracies) < 2:
        return told
    return f"{told} ({100 * min(row.accuracies):.1f}–{100 * max(row.accuracies):.1f})"
