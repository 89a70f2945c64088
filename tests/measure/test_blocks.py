"""The interleaving: every variant once per round, at least N rounds and S seconds."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from alpine_cli.measure.blocks import MAX_ROUNDS, run_blocks


@dataclass(frozen=True)
class Block:
    seconds: float
    turn: int


class Clock:
    """Hands out blocks of a fixed length and notes the order of turns."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self.turns: list[str] = []

    def __call__(self, name: str) -> Block:
        self.turns.append(name)
        return Block(self.seconds[name], len(self.turns))


def test_every_variant_runs_once_per_round_in_changing_order() -> None:
    clock = Clock({"a": 1.0, "b": 1.0, "c": 1.0})
    blocks = run_blocks(["a", "b", "c"], clock, runs=20, min_seconds=0, seed=0)
    assert {name: len(found) for name, found in blocks.items()} == {"a": 20, "b": 20, "c": 20}
    rounds = [tuple(clock.turns[at : at + 3]) for at in range(0, 60, 3)]
    assert all(sorted(turn) == ["a", "b", "c"] for turn in rounds)
    assert len(set(rounds)) > 3
    for name in "abc":  # block i is of round i
        assert [(block.turn - 1) // 3 for block in blocks[name]] == list(range(20))


def test_seconds_are_those_of_the_fastest_variant() -> None:
    clock = Clock({"fast": 0.5, "slow": 5.0})
    blocks = run_blocks(["fast", "slow"], clock, runs=2, min_seconds=3, seed=0)
    assert len(blocks["fast"]) == 6


def test_the_order_repeats_with_the_seed() -> None:
    orders = []
    for seed in (1, 1, 2):
        clock = Clock({"a": 1.0, "b": 1.0})
        run_blocks(["a", "b"], clock, runs=16, min_seconds=0, seed=seed)
        orders.append(clock.turns)
    assert orders[0] == orders[1] != orders[2]


def test_blocks_without_duration_end_all_the_same() -> None:
    blocks = run_blocks(["a"], Clock({"a": 0.0}), runs=1, min_seconds=1, seed=0)
    assert len(blocks["a"]) == MAX_ROUNDS


def test_runs_are_kept_to_even_beyond_the_backstop() -> None:
    blocks = run_blocks(["a"], Clock({"a": 0.0}), runs=MAX_ROUNDS + 3, min_seconds=1, seed=0)
    assert len(blocks["a"]) == MAX_ROUNDS + 3


@pytest.mark.parametrize(("runs", "min_seconds"), [(7, 3.0), (2, 3.0), (3, 0.0), (1, 0.9)])
def test_at_least_so_many_runs_and_so_many_seconds(runs: int, min_seconds: float) -> None:
    blocks = run_blocks(
        ["a", "b"], Clock({"a": 0.5, "b": 2.0}), runs=runs, min_seconds=min_seconds, seed=0
    )
    taken = len(blocks["a"])
    assert taken >= runs
    assert taken * 0.5 >= min_seconds
    # And not one more: the round before, one of the two was not reached.
    assert taken - 1 < runs or (taken - 1) * 0.5 < min_seconds


def test_progress_reaches_the_end_and_never_goes_beyond() -> None:
    seen: list[int] = []
    run_blocks(
        ["a", "b"],
        Clock({"a": 1.0, "b": 1.0}),
        runs=3,
        min_seconds=2,
        seed=0,
        on_progress=lambda done, total, text: seen.append(done),
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1000


def test_no_runs_and_no_variants_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run_blocks(["a"], Clock({"a": 1.0}), runs=0, min_seconds=0, seed=0)
    with pytest.raises(ValueError, match="no variant"):
        run_blocks([], Clock({}), runs=1, min_seconds=0, seed=0)
