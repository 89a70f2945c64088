"""Bins of length as tables and pictures show them: which stand side by side, and what lies between.

Only bins in which something was timed are in a result, so that neighbours in a curve need not be
neighbours on the axis: nothing was measured in between, and no line may be drawn across.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

__all__ = ["bins_note", "joined"]

_RANGE = re.compile(r"(\d+)–(\d+)")


def joined(labels: Sequence[str] | None, count: int) -> list[bool]:
    """For each of `count` points but the first, whether its bin begins where the last one ended.

    Labels that name no range are taken for neighbours.
    """
    if labels is None:
        return [True] * max(count - 1, 0)
    ranges = [_range_of(label) for label in labels]
    return [
        before is None or after is None or after[0] == before[1] + 1
        for before, after in itertools.pairwise(ranges)
    ]


def bins_note(labels: Sequence[str]) -> list[str]:
    """What a reader of few bins must know, as sentences: one bin only, or none between two."""
    if len(labels) == 1:
        return ["All batches that were timed are of one range of lengths: there is no curve."]
    ranges = [_range_of(label) for label in labels]
    gaps = [
        f"{before[1] + 1}–{after[0] - 1}"
        for before, after in itertools.pairwise(ranges)
        if before is not None and after is not None and after[0] > before[1] + 1
    ]
    return [f"No batch that was timed is of {' or '.join(gaps)} tokens."] if gaps else []


def _range_of(label: str) -> tuple[int, int] | None:
    found = _RANGE.search(label)
    return (int(found[1]), int(found[2])) if found else None
