"""The Pareto front: what nothing else beats in both cost and value."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["pareto_front"]


def pareto_front(costs: Sequence[float], values: Sequence[float]) -> list[int]:
    """Indices of the points that no other point dominates, cheapest first.

    A point dominates another if it costs no more and is worth no less, and one of the two is
    strictly better. Of points equal in both, all are on the front.

    Raises:
        ValueError: the two have different lengths.
    """
    if len(costs) != len(values):
        raise ValueError(f"{len(costs)} costs, {len(values)} values")
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -values[i]))
    front: list[int] = []
    for i in order:
        last = front[-1] if front else None
        equal = last is not None and (costs[i], values[i]) == (costs[last], values[last])
        if last is None or values[i] > values[last] or equal:
            front.append(i)
    return front
