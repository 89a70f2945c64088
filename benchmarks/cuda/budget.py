"""Sharing out a fixed time: sections by weight, cells within a section by weight.

    10 minutes ─ setup ─┬─ inference  what is left × its weight ÷ weights of all still to come
                        ├─ training   … so that what one leaves over goes to those after it
                        └─ …

Nothing is stopped in the middle: a cell is not begun once its section's time is up, and is then
named with the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["Allowance", "Budget", "Cell", "run_cells"]

Clock = Callable[[], float]
Say = Callable[[str], None]
T = TypeVar("T")


class Allowance:
    """Seconds that may be spent from now on."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self.seconds = max(0.0, seconds)
        self._clock, self._began = clock, clock()

    def left(self) -> float:
        """Seconds left; 0 if overdrawn."""
        return max(0.0, self.seconds - (self._clock() - self._began))


class Budget:
    """The time of a whole run, shared out as sections begin.

    Args:
        seconds: of the run, from now on.
        weights: of each section, by name, in the order in which they will run.
    """

    def __init__(
        self, seconds: float, weights: Mapping[str, float], clock: Clock = time.monotonic
    ) -> None:
        self._whole, self._clock = Allowance(seconds, clock), clock
        self._weights = dict(weights)

    def section(self, name: str) -> Allowance:
        """What `name` may spend; it must be the next one, and may overdraw at others' cost."""
        share = self._weights[name] / sum(self._weights.values())
        del self._weights[name]
        return Allowance(share * self._whole.left(), self._clock)


@dataclass(frozen=True)
class Cell(Generic[T]):
    """One thing to measure.

    Attributes:
        name: what the result calls it.
        what: its parameters.
        weight: of its share in the section's time.
    """

    name: str
    what: T
    weight: float = 1.0


def run_cells(
    cells: Sequence[Cell[T]],
    allowance: Allowance,
    measure: Callable[[T, Allowance], dict[str, Any]],
    *,
    say: Say,
    clock: Clock = time.monotonic,
) -> list[dict[str, Any]]:
    """Measure the cells in order, each within its share of what is left.

    A cell that fails says why and loses no other one: memory may run out, a kernel may be missing.

    Returns:
        Per cell what `measure` returned with "cell" and "took_s", or "cell" and a "reason".
    """
    found: list[dict[str, Any]] = []
    for place, cell in enumerate(cells):
        left = allowance.left()
        if left <= 0:
            found.append({"cell": cell.name, "reason": "not reached: the section's time was up"})
            continue
        share = left * cell.weight / sum(other.weight for other in cells[place:])
        began = clock()
        try:
            row = measure(cell.what, Allowance(share, clock))
        except Exception as error:  # whatever a device, a kernel or a library throws
            row = {"reason": reason_of(error)}
        found.append({"cell": cell.name, "took_s": round(clock() - began, 2), **row})
        say(f"  {cell.name}: {row.get('reason') or row.get('said') or 'done'}")
    return found


def reason_of(error: BaseException) -> str:
    """An error in one line, as a reason why a figure is missing."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
