"""Throughput by length: bins over real lengths, from the times of the passes themselves."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.measure.by_length import LengthBin, length_bins, throughput_by_length
from alpine_cli.measure.timing import TimedPass
from alpine_cli.measure.workload import Batch
from alpine_cli.tasks.encoding import EncodedSplit

ROWS = st.lists(
    st.tuples(st.integers(1, 600), st.integers(1, 600)), min_size=1, max_size=40
)  # fmt: skip


def encoded_of(lengths: list[tuple[int, ...]]) -> EncodedSplit:
    return EncodedSplit(
        rows=[tuple([0] * length for length in sample) for sample in lengths],
        labels=[0] * len(lengths),
        ids=[str(i) for i in range(len(lengths))],
    )


def batches_of(count: int, size: int) -> list[Batch]:
    nothing = torch.zeros(0, 0, dtype=torch.int64)
    return [
        Batch(nothing, nothing, tuple(range(at, min(at + size, count))))
        for at in range(0, count, size)
    ]


def bounds(label: str) -> tuple[int, int]:
    low, high = label.removesuffix(" tokens").split("–")
    return int(low), int(high)


@given(ROWS, st.integers(1, 5))
def test_every_batch_is_in_one_bin_and_bins_do_not_overlap(
    lengths: list[tuple[int, int]], size: int
) -> None:
    encoded, batches = encoded_of(list(lengths)), batches_of(len(lengths), size)
    bins = length_bins(batches, encoded)
    assert sorted(at for found in bins for at in found.batches) == list(range(len(batches)))
    assert sum(found.samples for found in bins) == len(lengths)
    edges = [bounds(found.label) for found in bins]
    assert edges == sorted(edges)
    assert all(high < low for (_, high), (low, _) in pairwise(edges))


def test_edges_are_powers_of_two_and_half_way() -> None:
    lengths = [1, 16, 17, 24, 25, 64, 65, 96, 97, 128, 129, 384, 385, 512, 513]
    bins = length_bins(batches_of(len(lengths), 1), encoded_of([(n,) for n in lengths]))
    assert [found.label for found in bins] == [
        "1–16 tokens",
        "17–24 tokens",
        "25–32 tokens",
        "49–64 tokens",
        "65–96 tokens",
        "97–128 tokens",
        "129–192 tokens",
        "257–384 tokens",
        "385–512 tokens",
        "513–768 tokens",
    ]
    assert [found.samples for found in bins] == [2, 2, 1, 1, 2, 2, 1, 1, 2, 1]


def test_a_pair_counts_by_its_longest_function() -> None:
    (only,) = length_bins(batches_of(1, 1), encoded_of([(20, 500)]))
    assert (only.label, only.mean_tokens) == ("385–512 tokens", 500)


BINS = [LengthBin("17–24 tokens", 20.0, 8, (1,)), LengthBin("49–64 tokens", 60.0, 4, (0, 2))]


def test_rates_are_samples_over_the_time_of_the_bins_batches() -> None:
    runs = [TimedPass(4.0, (1.0, 2.0, 1.0)), TimedPass(8.0, (2.0, 4.0, 2.0))]
    faster = [TimedPass(2.5, (1.0, 1.0, 0.5)), TimedPass(5.0, (2.0, 2.0, 1.0))]
    part = throughput_by_length(
        BINS, {"unpruned": runs, "pruned": faster}, [("pruned", "unpruned"), ("pruned", "stock")]
    )
    unpruned, pruned, speedup = part.series
    assert (unpruned.name, unpruned.variant) == ("throughput_by_length", "unpruned")
    assert unpruned.x == [20, 60]
    # All work over all time: 2 x 8 samples in 6 s; 2 x 4 in 6 s.
    assert unpruned.y == pytest.approx([16 / 6, 8 / 6])
    assert pruned.y == pytest.approx([16 / 3, 8 / 4.5])
    assert speedup.name == "speedup_by_length"
    assert (speedup.variant, speedup.baseline) == ("pruned", "unpruned")
    assert speedup.y == pytest.approx([2, 6 / 4.5])
    assert speedup.labels == ["17–24 tokens", "49–64 tokens"]
    assert "8, 4" in speedup.method
    # Two runs: no interval, and none is made up.
    assert speedup.low is None
    assert pruned.high is None


def test_the_speedup_pairs_runs_so_that_shared_drift_cancels() -> None:
    drift = [1.0, 1.3, 0.9, 1.7, 1.1, 1.4]
    noise = [1.0, 1.01, 0.99, 1.0, 1.005, 0.995]
    slow = [TimedPass(0, (2.0 * d, 4.0 * d, 1.0 * d)) for d in drift]
    fast = [
        TimedPass(0, (1.0 * d * e, 2.0 * d * e, 0.5 * d * e))
        for d, e in zip(drift, noise, strict=True)
    ]
    part = throughput_by_length(
        BINS, {"unpruned": slow, "pruned": fast}, [("pruned", "unpruned")], functions=2
    )
    speedup = part.series[-1]
    assert speedup.low is not None
    assert speedup.high is not None
    for low, y, high in zip(speedup.low, speedup.y, speedup.high, strict=True):
        assert low is not None
        assert high is not None
        assert low <= y <= high  # type: ignore[operator]
        assert low <= 2 <= high
        assert high - low < 0.05
    curve = part.series[0]
    assert curve.high[0] - curve.low[0] > 0.5  # type: ignore[index,operator]
    assert "longest function" in curve.x_name
