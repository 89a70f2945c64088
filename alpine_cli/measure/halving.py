"""Successive halving: many candidates on few samples, few candidates on all of them.

    rung 0   all m candidates      on n / 2^R samples
    rung 1   the better half       on twice as many, those of rung 0 among them
    ...
    rung R   at least `finalists`  on all n

(Jamieson and Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter
optimization"; the samples take the place of training time.) R is as large as leaves `finalists`
candidates to the last rung and `SMALLEST` samples to the first. A rung ranks by value, then lower
cost, then the order given; half of the candidates, rounded up, go on. Nothing here is random: which
samples come first is the caller's business.

Out of time, the rung under way counts for nothing and the last whole one stands; in rung 0, where
there is none, those that were tried stand, at least one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["FINALISTS", "SMALLEST", "Rung", "halve", "rung_sizes"]

FINALISTS = 6
"""Candidates of the last rung: what a user gets to choose from, too."""

SMALLEST = 48
"""Samples of the first rung at least: an accuracy of 90 % is known to about 4 points then."""

ScoreOf = Callable[[str, int], tuple[float, float] | None]


@dataclass(frozen=True)
class Rung:
    """One rung.

    Attributes:
        samples: how many each candidate was tried on.
        ranking: (name, value, cost), the best first.
        refused: names of those that turned out not to qualify.
    """

    samples: int
    ranking: tuple[tuple[str, float, float], ...]
    refused: tuple[str, ...] = ()


def rung_sizes(
    candidates: int, samples: int, *, finalists: int = FINALISTS, smallest: int = SMALLEST
) -> list[int]:
    """Samples of each rung; the last one has all."""
    halvings = 0
    left = candidates
    while (left + 1) // 2 >= finalists and samples >> (halvings + 1) >= smallest:
        left, halvings = (left + 1) // 2, halvings + 1
    return [-(-samples // 2 ** (halvings - rung)) for rung in range(halvings + 1)]


def halve(
    names: Sequence[str],
    score_of: ScoreOf,
    sizes: Sequence[int],
    *,
    finalists: int = FINALISTS,
    out_of_time: Callable[[], bool] = lambda: False,
) -> tuple[list[Rung], bool]:
    """Run the rungs.

    Args:
        names: the candidates, at least one.
        score_of: (name, samples) → (value, cost) on the first so many samples, or None where the
            candidate does not qualify.
        sizes: see `rung_sizes`.
        finalists: fewer than that never go on, as long as there are so many.
        out_of_time: asked before each call of `score_of` but the first.

    Returns:
        The whole rungs, and whether time ran out before the last one ended.
    """
    rungs: list[Rung] = []
    alive = list(names)
    for samples in sizes:
        scored: list[tuple[str, float, float]] = []
        refused: list[str] = []
        stopped = False
        for place, name in enumerate(alive):
            if (rungs or place) and out_of_time():
                stopped = True
                break
            score = score_of(name, samples)
            if score is None:
                refused.append(name)
            else:
                scored.append((name, *score))
        if stopped and rungs:
            return rungs, True
        ranking = sorted(scored, key=lambda row: (-row[1], row[2]))  # stable
        rungs.append(Rung(samples, tuple(ranking), tuple(refused)))
        if stopped or not ranking:
            return rungs, stopped
        alive = [name for name, *_ in ranking[: max(finalists, (len(ranking) + 1) // 2)]]
    return rungs, False
