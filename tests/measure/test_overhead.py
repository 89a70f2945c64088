"""What pruning itself computes: by rule, score and merge, against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alpine_cli.measure.cost import EncoderShape
from alpine_cli.measure.overhead import pruning_overhead
from alpine_cli.pruning.config import PruningConfig

SHAPE = EncoderShape(layers=1, hidden=8, heads=2, feed_forward=16, embedding=8)


def overhead(
    removed: int,
    config: PruningConfig,
    *,
    compared: int = 0,
    weighted: bool = False,
    passes: int = 0,
) -> tuple[int, int]:
    """(FLOPs, products) of ten tokens, of which `removed` leave."""
    found = pruning_overhead(
        SHAPE,
        np.array([10]),
        np.array([removed]),
        np.array([compared]),
        config,
        weights_queries=weighted,
        score_passes=passes,
    )
    return int(found.flops[0]), int(found.products[0])


SCORES, BAND = 2 * 100, 60  # H n^2; 6 n


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (PruningConfig(), SCORES + BAND + 4 * 8),
        (PruningConfig(merge="none"), SCORES + BAND),
        (PruningConfig(rule="floor"), SCORES + BAND + 4 * 8),
        (PruningConfig(score="cls"), 2 * 10 + BAND + 4 * 8),
        (PruningConfig(rule="top", keep=0.6), SCORES + 4 * 8),
        (PruningConfig(rule="random", keep=0.6), 4 * 8),
        (PruningConfig(rule="first", keep=0.6, merge="none"), 0),
    ],
    ids=["band", "no merge", "floor", "cls", "top", "random", "first"],
)
def test_each_rule_pays_for_what_it_reads(config: PruningConfig, expected: int) -> None:
    assert overhead(4, config) == (expected, 0)


def test_a_grid_weights_the_queries_in_products() -> None:
    plain, weighted = (overhead(4, PruningConfig(), weighted=on) for on in (False, True))
    assert weighted[0] - plain[0] == weighted[1] == 100
    assert plain[1] == 0
    assert overhead(4, PruningConfig(score="cls"), weighted=True)[1] == 0


def test_without_probabilities_queries_meet_keys_again() -> None:
    """Once more with the log-sum-exp at hand, twice without; in kernels that no counter sees."""
    plain, once, twice = (overhead(4, PruningConfig(), passes=passes) for passes in (0, 1, 2))
    assert once[0] - plain[0] == twice[0] - once[0] == 2 * 8 * 100
    assert twice[1] == 0
    cls = [overhead(4, PruningConfig(score="cls"), passes=passes)[0] for passes in (0, 2)]
    assert cls[1] - cls[0] == 2 * 8 * 10  # one query of the sequence
    unscored = PruningConfig(rule="random", keep=0.6)
    assert overhead(4, unscored, passes=2) == overhead(4, unscored)


def test_merging_by_similarity_compares_and_averages() -> None:
    nearest = PruningConfig(merge="nearest")
    flops, products = overhead(4, nearest, compared=24)
    assert products == 24 * 8
    assert flops == SCORES + BAND + 2 * products + 5 * 10 * 8
    assert overhead(0, nearest) == (SCORES + BAND, 0)
