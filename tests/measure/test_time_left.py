"""The time left: what was seen says "about", what was not says "at least", nothing says nothing."""

from __future__ import annotations

import pytest

from alpine_cli.measure.time_left import Remaining, TimeLeft


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_said_before_anything_was_seen(clock: Clock) -> None:
    left = TimeLeft([{"flops": 0.0}], clock)
    assert left.of_measure() is None
    left.progress(0, "flops", 0, 3)
    clock.now += 1
    assert left.of_measure() is None


def test_a_measure_of_one_stage_is_extrapolated(clock: Clock) -> None:
    left = TimeLeft([{"memory": 0.0}], clock)
    left.progress(0, "memory", 0, 10)
    clock.now += 30
    left.progress(0, "memory", 3, 10)
    assert left.of_measure() == Remaining(pytest.approx(70.0), floor=False)
    assert left.of_bench() == Remaining(pytest.approx(70.0), floor=False)


def test_progress_that_starts_again_is_a_new_stage(clock: Clock) -> None:
    """Ten seconds of blocks must not be taken for ten seconds of the latency that follows."""
    left = TimeLeft([{"throughput": 0.0}], clock)
    left.progress(0, "throughput", 0, 1000)
    clock.now += 10
    left.progress(0, "throughput", 990, 1000)
    left.progress(0, "throughput", 0, 32)
    clock.now += 4
    left.progress(0, "throughput", 16, 32)
    assert left.of_measure() == Remaining(pytest.approx(4.0), floor=True)


def test_what_was_asked_for_is_a_floor(clock: Clock) -> None:
    left = TimeLeft([{"throughput": 30.0, "energy": 30.0}], clock)
    left.progress(0, "throughput", 0, 1000)
    clock.now += 10
    assert left.of_measure() == Remaining(pytest.approx(20.0), floor=True)
    assert left.of_bench() == Remaining(pytest.approx(50.0), floor=True)


def test_an_earlier_cell_tells_what_a_later_one_takes(clock: Clock) -> None:
    cell = {"flops": 0.0, "throughput": 30.0}
    left = TimeLeft([cell, cell], clock)
    left.progress(0, "flops", 0, 3)
    left.finished(0, "flops", 20.0)
    assert left.of_bench() == Remaining(pytest.approx(20 + 30 + 30), floor=True)
    left.finished(0, "throughput", 50.0)
    left.cell_ended(0)
    assert left.of_bench() == Remaining(pytest.approx(70.0), floor=False)
    left.progress(1, "flops", 0, 3)
    clock.now += 5
    assert left.of_bench() == Remaining(pytest.approx(65.0), floor=False)


def test_a_measure_that_failed_says_nothing_about_the_next(clock: Clock) -> None:
    cell = {"flops": 0.0}
    left = TimeLeft([cell, cell], clock)
    left.finished(0, "flops", 1.0, typical=False)
    assert left.of_bench() is None


def test_nothing_is_said_of_the_whole_while_part_of_it_is_unknown(clock: Clock) -> None:
    left = TimeLeft([{"throughput": 30.0, "anatomy": 0.0, "energy": 30.0}], clock)
    left.progress(0, "throughput", 0, 1000)
    clock.now += 10
    assert left.of_measure() == Remaining(pytest.approx(20.0), floor=True)
    assert left.of_bench() is None
    left.finished(0, "throughput", 40.0)
    left.finished(0, "anatomy", 15.0)
    assert left.of_bench() == Remaining(pytest.approx(30.0), floor=True)


@pytest.mark.parametrize(
    ("remaining", "words"),
    [
        (Remaining(3, False), "a few seconds left"),
        (Remaining(3, True), ""),
        (Remaining(42, False), "about 40 s left"),
        (Remaining(58, True), "at least 1 min left"),
        (Remaining(125, False), "about 2 min left"),
        (Remaining(4000, False), "about 1 h 5 min left"),
        (Remaining(7190, True), "at least 2 h left"),
    ],
)
def test_words(remaining: Remaining, words: str) -> None:
    assert str(remaining) == words
