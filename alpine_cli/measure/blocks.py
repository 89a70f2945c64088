"""Interleaved blocks: the order in which variants take turns, and when there have been enough.

    round 0:  unpruned  pruned    stock        every variant once per round, in an order
    round 1:  stock     unpruned  pruned       drawn anew each round
    round 2:  ...                              until at least N rounds AND S seconds of each

A machine that warms up or gets busy then burdens all variants alike, and round i of one variant
pairs with round i of another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

__all__ = ["MAX_ROUNDS", "Timed", "run_blocks"]

MAX_ROUNDS = 2000
"""Rounds after which seconds are no longer waited for: a backstop for work of microseconds."""


class Timed(Protocol):
    """What one block returns: at least how long it took."""

    @property
    def seconds(self) -> float:
        """Wall time of the block."""


Block = TypeVar("Block", bound=Timed)


def run_blocks(
    names: Sequence[str],
    run_block: Callable[[str], Block],
    *,
    runs: int,
    min_seconds: float,
    seed: int,
    on_progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, list[Block]]:
    """Run rounds of blocks until each variant has `runs` blocks and `min_seconds` of time.

    Args:
        names: the variants, at least one; each runs once per round.
        run_block: runs one block of the named variant.
        runs: rounds at least; >= 1.
        min_seconds: measured seconds at least, of the fastest variant; may be 0. Given up after
            MAX_ROUNDS rounds; `runs` never is.
        seed: of the order.
        on_progress: called with (done, total, text) after each block, in per mille of the work.

    Returns:
        For each variant its blocks, in the order of the rounds.

    Raises:
        ValueError: there is no variant, or fewer than one run is asked for.
    """
    if not names:
        raise ValueError("there is no variant to run")
    if runs < 1:
        raise ValueError(f"runs must be at least 1, got {runs}")
    order = random.Random(seed)
    blocks: dict[str, list[Block]] = {name: [] for name in names}
    spent = dict.fromkeys(names, 0.0)
    done_rounds = 0
    while True:
        enough_time = min(spent.values()) >= min_seconds or done_rounds >= MAX_ROUNDS
        if done_rounds >= runs and enough_time:
            break
        turn = list(names)
        order.shuffle(turn)
        for place, name in enumerate(turn, start=1):
            block = run_block(name)
            blocks[name].append(block)
            spent[name] += block.seconds
            if on_progress:
                rounds = done_rounds + place / len(turn)
                share = rounds / max(runs, 1)
                if min_seconds > 0:
                    share = min(share, min(spent.values()) / min_seconds)
                on_progress(min(1000, int(1000 * share)), 1000, f"round {done_rounds + 1}, {name}")
        done_rounds += 1
    return blocks
