"""Successive halving against a version written out step by step, and what it promises."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.measure.halving import Rung, halve, rung_sizes

# name: (true value, cost, number of samples from which on it turns out not to qualify, or None)
Candidates = dict[str, tuple[float, float, int | None]]
MADE = st.dictionaries(
    st.integers(0, 99).map(lambda i: f"c{i}"),
    st.tuples(
        st.integers(0, 5).map(float),
        st.integers(1, 4).map(float),
        st.one_of(st.none(), st.integers(1, 200)),
    ),
    min_size=1,
    max_size=20,
)


def noisy(candidates: Candidates, name: str, samples: int) -> tuple[float, float] | None:
    """A value that depends on the number of samples, as a metric does."""
    value, cost, until = candidates[name]
    if until is not None and samples >= until:
        return None
    return value + (31 * int(name[1:]) + 17 * samples) % 7 / 7, cost


def written_out(candidates: Candidates, sizes: list[int], finalists: int) -> list[Rung]:
    """The rungs, one comparison at a time."""
    alive, rungs = list(candidates), []
    for samples in sizes:
        rows, out = [], []
        for name in alive:
            score = noisy(candidates, name, samples)
            (out if score is None else rows).append(name if score is None else (name, *score))
        best_first: list[tuple[str, float, float]] = []
        while rows:
            best = rows[0]
            for row in rows[1:]:
                if row[1] > best[1] or (row[1] == best[1] and row[2] < best[2]):
                    best = row
            best_first.append(best)
            rows.remove(best)
        rungs.append(Rung(samples, tuple(best_first), tuple(out)))
        if not best_first:
            break
        half = len(best_first) // 2 + len(best_first) % 2
        alive = [name for name, _, _ in best_first][: half if half > finalists else finalists]
    return rungs


@given(MADE, st.integers(1, 4), st.integers(10, 300), st.integers(5, 60))
def test_the_rungs_are_those_written_out(
    candidates: Candidates, finalists: int, samples: int, smallest: int
) -> None:
    sizes = rung_sizes(len(candidates), samples, finalists=finalists, smallest=smallest)
    found, stopped = halve(
        list(candidates), lambda *asked: noisy(candidates, *asked), sizes, finalists=finalists
    )
    assert found == written_out(candidates, sizes, finalists)
    assert not stopped


@given(st.integers(1, 200), st.integers(1, 5000), st.integers(1, 8), st.integers(1, 100))
def test_sizes_double_up_to_all_samples(
    candidates: int, samples: int, finalists: int, smallest: int
) -> None:
    sizes = rung_sizes(candidates, samples, finalists=finalists, smallest=smallest)
    assert sizes[-1] == samples
    assert all(2 * few - 1 <= many <= 2 * few for few, many in itertools.pairwise(sizes))
    assert sizes[0] >= min(samples, smallest)
    left = candidates
    for _ in sizes[1:]:
        left = -(-left // 2)
    assert len(sizes) == 1 or left >= finalists


@given(MADE, st.integers(0, 60))
def test_out_of_time_the_last_whole_rung_stands(candidates: Candidates, calls: int) -> None:
    sizes = rung_sizes(len(candidates), 200, finalists=2, smallest=20)
    asked: list[str] = []

    def score(name: str, samples: int) -> tuple[float, float] | None:
        asked.append(name)
        return noisy(candidates, name, samples)

    whole = written_out(candidates, sizes, 2)
    found, stopped = halve(
        list(candidates), score, sizes, finalists=2, out_of_time=lambda: len(asked) >= calls
    )
    assert stopped == (max(calls, 1) < sum(len(r.ranking) + len(r.refused) for r in whole))
    assert len(asked) >= 1
    if len(asked) >= len(candidates):
        assert found == whole[: len(found)]
    else:  # rung 0 was cut short: those that were tried stand
        (only,) = found
        tried = {name: candidates[name] for name in asked}
        assert [only] == written_out(tried, sizes[:1], 2)


@pytest.mark.parametrize(
    ("candidates", "samples", "sizes"),
    [(38, 2000, [500, 1000, 2000]), (38, 100, [50, 100]), (6, 2000, [2000]), (100, 40, [40])],
)
def test_how_many_rungs_there_are(candidates: int, samples: int, sizes: list[int]) -> None:
    assert rung_sizes(candidates, samples) == sizes
