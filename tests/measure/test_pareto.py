"""The front against its definition."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.measure.pareto import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=12)


def dominates(a: tuple[int, int], b: tuple[int, int]) -> bool:
    return a[0] <= b[0] and a[1] >= b[1] and a != b


@given(POINTS)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    found = pareto_front([cost for cost, _ in points], [value for _, value in points])
    expected = {
        i for i, point in enumerate(points) if not any(dominates(other, point) for other in points)
    }
    assert set(found) == expected
    assert len(found) == len(expected)
    assert [points[i][0] for i in found] == sorted(points[i][0] for i in found)


def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 costs, 1 values"):
        pareto_front([1, 2], [1])
