"""A/A: a variant against itself on a simulated machine gets no verdict; 5 % slower is found.

The whole path from blocks to verdict runs on a clock that only the simulated work moves. The
machine drifts: it warms up, wanders, and in the middle of the session a neighbour starts to work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval
from alpine_cli.results import Figure

RUNS = 10
PASS_SECONDS = 2.0


@dataclass(frozen=True)
class Block:
    seconds: float


class Machine:
    """Runs passes; how long one takes depends on when it starts, on chance, and on the variant."""

    def __init__(self, seed: int, noise: str, slowdown: dict[str, float]) -> None:
        self.draw = np.random.default_rng(seed)
        self.noise = noise
        self.slowdown = slowdown
        self.now = 0.0
        self.wander = 0.0

    def run(self, variant: str) -> Block:
        self.wander = 0.9 * self.wander + self.draw.normal(0, 0.01)
        warm = 0.10 * (1 - np.exp(-self.now / 15))  # clocks fall as the machine heats up
        neighbour = 0.15 if self.now > 20 else 0.0
        log_time = self.wander + warm + neighbour + self._noise()
        seconds = PASS_SECONDS * float(np.exp(log_time)) * (1 + self.slowdown.get(variant, 0.0))
        self.now += seconds
        return Block(seconds)

    def _noise(self) -> float:
        match self.noise:
            case "normal":
                return float(self.draw.normal(0, 0.015))
            case "skewed":
                return float(self.draw.gamma(0.5, 0.02))
            case _:  # now and then something else runs for a while
                spike = self.draw.exponential(0.2) if self.draw.random() < 0.1 else 0.0
                return float(self.draw.normal(0, 0.005) + spike)


def figures_of(blocks: dict[str, list[Block]]) -> list[Figure]:
    figures = []
    for variant, found in blocks.items():
        rates = [64 / block.seconds for block in found]
        figures.append(
            Figure(
                name="throughput",
                variant=variant,
                unit="samples/s",
                value=float(aggregate(rates, "harmonic_mean")),
                provenance="measured",
                method="simulated",
                better="higher",
                n=len(rates),
                aggregate="harmonic_mean",
                interval=mean_interval(rates, "harmonic_mean"),
                samples=rates,
            )
        )
    return figures


def verdicts(noise: str, sessions: int, slowdown: float = 0.0, *, in_turns: bool = True) -> Counter:
    """Verdicts on `pruned` against `unpruned` over many simulated sessions."""
    found: Counter[str] = Counter()
    for session in range(sessions):
        machine = Machine(session, noise, {"pruned": slowdown})
        if in_turns:
            blocks = run_blocks(
                ["unpruned", "pruned"], machine.run, runs=RUNS, min_seconds=5, seed=session
            )
        else:
            blocks = {
                name: run_blocks([name], machine.run, runs=RUNS, min_seconds=5, seed=session)[name]
                for name in ("unpruned", "pruned")
            }
        (comparison,) = compare_all(figures_of(blocks), [("pruned", "unpruned")])
        found[comparison.verdict] += 1
    return found


@pytest.mark.parametrize("noise", ["normal", "skewed", "spikes"])
def test_the_same_against_itself_gets_no_verdict(noise: str) -> None:
    """At least 19 in 20, over enough sessions that the share is no matter of luck.

    An interval that covers with 95 % gives 2 verdicts or more in a quarter of all series of 20.
    """
    found = verdicts(noise, 600)
    assert found["no difference shown"] >= 600 * 19 / 20


@pytest.mark.parametrize("noise", ["normal", "skewed"])
def test_a_slowdown_of_five_per_cent_is_found(noise: str) -> None:
    found = verdicts(noise, 20, slowdown=0.05)
    assert found["worse"] >= 19
    assert found["better"] == 0


def test_without_taking_turns_the_drift_would_be_taken_for_a_difference() -> None:
    """What interleaving is for: the variant that runs second, on the warm machine, looks slower."""
    assert verdicts("normal", 20, in_turns=False)["worse"] >= 15


def test_a_single_run_is_not_judged() -> None:
    machine = Machine(0, "normal", {})
    blocks = run_blocks(["unpruned", "pruned"], machine.run, runs=1, min_seconds=0, seed=0)
    (comparison,) = compare_all(figures_of(blocks), [("pruned", "unpruned")])
    assert comparison.verdict == "not judged"
    assert comparison.interval is None
    assert "1 run(s), at least 5 are needed" in (comparison.reason or "")
    assert comparison.ratio is not None
