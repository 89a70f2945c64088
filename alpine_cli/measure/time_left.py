"""How long a bench will still take, from what has been seen of it, and in words that do not lie.

A measure that an earlier cell has been through is expected to take as long again. One that has not
been seen is known by what it must take at least: the seconds asked for, times the variants. So an
estimate is "about" where every measure ahead has been seen, and "at least" where not. While there
is a measure ahead of which nothing at all is known, nothing is said of the whole: a bench of twenty
minutes began with "at least 30 s left".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Remaining", "TimeLeft"]

# Measures whose progress runs from 0 to 1 once; others have several stages, and what comes after
# the present one is not in their progress.
_ONE_STAGE = ("accuracy", "flops", "memory")
_MIN_SHARE = 0.02
_MIN_SECONDS = 2.0


@dataclass(frozen=True)
class Remaining:
    """Seconds that are left; `floor`: at least so many."""

    seconds: float
    floor: bool

    def __str__(self) -> str:
        if self.seconds < 5:
            return "" if self.floor else "a few seconds left"
        return f"{'at least' if self.floor else 'about'} {_words(self.seconds)} left"


class TimeLeft:
    """Follows the measures of several cells.

    Args:
        cells: for each cell its measures in their order, and the seconds each must take at least.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        cells: Sequence[Mapping[str, float]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._ahead = [dict(cell) for cell in cells]
        self._seen: dict[str, float] = {}
        self._cell, self._kind = 0, ""
        self._measure_began = self._stage_began = clock()
        self._share = 0.0

    def progress(self, cell: int, kind: str, done: int, total: int) -> None:
        """A measure of a cell has done so much of the stage it is in."""
        now = self._clock()
        if (cell, kind) != (self._cell, self._kind):
            self._cell, self._kind = cell, kind
            self._measure_began = self._stage_began = now
            self._share = 0.0
        share = done / total if total else 0.0
        if share < self._share:  # the next stage of the same measure
            self._stage_began = now
        self._share = share

    def finished(self, cell: int, kind: str, seconds: float, *, typical: bool = True) -> None:
        """A measure has ended; `typical`: another cell may take as long for it."""
        self._ahead[cell].pop(kind, None)
        if typical:
            self._seen[kind] = seconds
        if (cell, kind) == (self._cell, self._kind):
            self._kind = ""

    def cell_ended(self, cell: int) -> None:
        """Nothing of a cell is ahead any more, whether all its measures were heard of or not."""
        self._ahead[cell].clear()

    def of_measure(self) -> Remaining | None:
        """What is left of the measure that is going on; None while nothing can be said."""
        if not self._kind:
            return None
        now = self._clock()
        stage, elapsed = None, now - self._stage_began
        if self._share >= _MIN_SHARE and elapsed >= _MIN_SECONDS:
            stage = elapsed * (1 - self._share) / self._share
        spent = now - self._measure_began
        if self._kind in _ONE_STAGE and stage is not None:
            return Remaining(stage, floor=False)
        if self._kind in self._seen:
            return Remaining(max(stage or 0.0, self._seen[self._kind] - spent), floor=False)
        least = self._ahead[self._cell].get(self._kind, 0.0) - spent
        if stage is None and least <= 0:
            return None
        return Remaining(max(stage or 0.0, least), floor=True)

    def of_bench(self) -> Remaining | None:
        """What is left of all of it; None while of some measure nothing is known."""
        seconds, floor = 0.0, False
        now = self.of_measure()
        if now is not None:
            seconds, floor = now.seconds, now.floor
        elif self._kind:
            return None
        for number, cell in enumerate(self._ahead):
            for kind, least in cell.items():
                if (number, kind) == (self._cell, self._kind):
                    continue
                if kind not in self._seen and least <= 0:
                    return None
                seconds += max(self._seen.get(kind, least), 0.0)
                floor = floor or kind not in self._seen
        return Remaining(seconds, floor)


def _words(seconds: float) -> str:
    """ "40 s", "2 min", "1 h 10 min": no more digits than an estimate deserves."""
    if seconds < 55:
        return f"{max(5, 5 * round(seconds / 5))} s"
    minutes = round(seconds / 60) or 1
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(5 * round(minutes / 5), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
