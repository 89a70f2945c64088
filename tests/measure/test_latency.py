"""Latency at batch 1: percentiles where there are enough samples, and reasons where not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alpine_cli.measure import latency
from alpine_cli.measure.latency import latency_figures, measure_latency, samples_needed
from alpine_cli.measure.statistics import compare_all
from alpine_cli.measure.workload import (
    LoadedVariant,
    Workload,
    evenly_over_lengths,
    load_workload,
)
from alpine_cli.results import Figure
from tests.measure.workloads import request_for


@pytest.fixture(scope="module")
def workload(subject: tuple[Path, Path]) -> Workload:
    return load_workload(request_for(subject, "unpruned", "pruned"))


def by_name(figures: list[Figure], variant: str) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures if figure.variant == variant}


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_samples_needed_by_simulation(share: float) -> None:
    """With that many, the largest sample exceeds the quantile in 97.5 % of trials or more."""
    n = samples_needed(share)
    largest = np.random.default_rng(0).random((20_000, n)).max(axis=1)
    assert (largest > share).mean() == pytest.approx(1 - share**n, abs=0.005)
    assert 1 - share**n >= 0.975 > 1 - share ** (n - 1)


def test_counts_are_enough_for_their_percentile() -> None:
    shares = (0.9, 0.95, 0.99)
    assert all(n >= samples_needed(s) for n, s in zip(latency.COUNTS, shares, strict=True))


def test_percentiles_are_those_of_the_samples_and_are_compared_in_pairs() -> None:
    draw = np.random.default_rng(0)
    base = draw.lognormal(1, 0.5, 400)
    milliseconds = {"unpruned": list(base), "pruned": list(0.7 * base * draw.normal(1, 0.01, 400))}
    figures = latency_figures(milliseconds, in_split=1000)
    found = by_name(figures, "unpruned")
    assert list(found) == ["latency", "latency_p50", "latency_p90", "latency_p95", "latency_p99"]
    assert found["latency"].value == pytest.approx(base.mean())
    for name, share in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99)):
        figure = found[f"latency_{name}"]
        assert figure.value == pytest.approx(np.percentile(base, share))
        assert (figure.n, figure.unit, figure.better) == (400, "ms", "lower")
        assert figure.interval is not None
        assert figure.interval.low <= figure.value <= figure.interval.high  # type: ignore[operator]
    compared = compare_all(figures, [("pruned", "unpruned")], unit="sample")
    assert [c.verdict for c in compared] == ["better"] * 5
    for comparison in compared:
        assert comparison.interval is not None
        # Paired by sample: the lengths differ fivefold, the ratio is known to a few per cent.
        assert comparison.interval.low < 0.7 * 1.03
        assert comparison.interval.high > 0.7 * 0.97
        assert comparison.interval.high - comparison.interval.low < 0.08


def test_a_percentile_without_enough_samples_is_absent_with_the_reason() -> None:
    figures = latency_figures({"pruned": [1.0 + i for i in range(40)]}, in_split=1000)
    found = by_name(figures, "pruned")
    assert found["latency_p90"].value is not None
    assert found["latency_p95"].value is None
    assert found["latency_p95"].reason == (
        "takes 72 samples, 40 were timed: a larger --min-seconds makes room for more"
    )
    assert found["latency_p99"].provenance == "absent"
    small = by_name(latency_figures({"pruned": [1.0, 2.0]}, in_split=2), "pruned")
    assert small["latency"].value == 1.5
    assert small["latency"].interval is None
    assert "the split has 2" in (small["latency_p50"].reason or "")


def test_every_sample_runs_alone_and_in_turns(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, tuple[int, ...]]] = []
    original = LoadedVariant.forward

    def forward(self: LoadedVariant, batch: object) -> object:
        ran.append((self.name, batch.indices))  # type: ignore[attr-defined]
        return original(self, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(LoadedVariant, "forward", forward)
    part = measure_latency(workload, [("pruned", "unpruned")], min_seconds=0)
    assert all(len(indices) == 1 for _, indices in ran)
    timed = ran[2 * 24 :]  # after the warm-up of both variants
    turns = [timed[at : at + 2] for at in range(0, len(timed), 2)]
    assert all(a[1] == b[1] and a[0] != b[0] for a, b in turns)
    assert len({turn[0][0] for turn in turns}) == 2  # now one goes first, now the other
    assert sorted(i for _, (i,) in timed) == sorted(list(range(24)) * 6)
    lost = by_name(part.figures, "pruned")["latency_p90"]
    assert "the split has 24" in (lost.reason or "")
    verdicts = {c.figure: c.verdict for c in part.comparisons}
    assert verdicts["latency_p90"] == "not judged"
    assert set(verdicts) == set(by_name(part.figures, "pruned"))


@pytest.mark.parametrize(
    ("per_pass", "min_seconds", "timed"),
    [
        (0.004, 0, 4),  # no budget: the fewest
        (0.004, 1, 20),  # 2 variants x 1 ms each per sample and run: 20 x 4 runs x 2 ms = 0.16 s
        (4.0, 1, 4),  # 1 s per sample: 4 samples x 4 runs x 2 s are over 3 x 1 s x 2 already
        (0.2, 1, 8),  # 50 ms: 8 x 4 x 0.1 = 3.2 s fit into 6 s, 20 would need 8 s
    ],
)
def test_the_number_of_samples_follows_from_the_time_there_is(
    workload: Workload,
    monkeypatch: pytest.MonkeyPatch,
    per_pass: float,
    min_seconds: float,
    timed: int,
) -> None:
    """`per_pass` are seconds of a warm-up over the first count of 4 samples."""
    monkeypatch.setattr(latency, "COUNTS", (4, 8, 20))

    def clocked(variant: LoadedVariant, batches: list[object]) -> object:
        return _Pass(per_pass * len(batches) / 4)

    monkeypatch.setattr(latency, "timed_pass", clocked)
    part = measure_latency(workload, [], min_seconds=min_seconds)
    assert by_name(part.figures, "pruned")["latency"].n == timed


class _Pass:
    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


def test_samples_are_spread_over_the_lengths(workload: Workload) -> None:
    encoded = workload.variants["pruned"].encoded
    chosen = evenly_over_lengths(encoded, 6)
    lengths = sorted(encoded.length(i) for i in range(len(encoded)))
    assert [encoded.length(i) for i in chosen] == [lengths[at] for at in (2, 6, 10, 14, 18, 22)]
    assert len(evenly_over_lengths(encoded, 400)) == len(encoded)
