"""The throughput worker as a whole, in process: figures, curves, what is asked and what is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alpine_cli.measure import throughput
from alpine_cli.measure.throughput import attention_backends, measure_throughput
from alpine_cli.measure.watch import MachineWatch, Seen
from alpine_cli.measure.workload import load_workload
from alpine_cli.results import Part
from tests.measure.workloads import request_for

PAIRS = [("pruned", "unpruned"), ("unpruned", "stock"), ("pruned", "stock")]


def measure(subject: tuple[Path, Path], **changes: Any) -> Part:
    request = {
        "workload": request_for(subject, "stock", "unpruned", "pruned").model_dump(mode="json"),
        "pairs": PAIRS,
        "runs": 5,
        "min_seconds": 0,
        "timed_samples": None,
        "latency": False,
    }
    return Part.model_validate(measure_throughput(request | changes))


@pytest.fixture(scope="module")
def part(subject: tuple[Path, Path]) -> Part:
    return measure(subject, latency=True, training=True, training_batch_size=4)


@pytest.fixture(scope="module")
def single(subject: tuple[Path, Path]) -> Part:
    """One run, and nothing that is not asked for."""
    return measure(subject, timed_samples=8, runs=1)


def test_every_figure_of_every_variant(part: Part) -> None:
    told = {(figure.name, figure.variant) for figure in part.figures}
    names = ("throughput", "token_throughput", "training_throughput", "latency")
    percentiles = ("latency_p50", "latency_p90", "latency_p95", "latency_p99")
    for variant in ("stock", "unpruned", "pruned"):
        assert {(name, variant) for name in (*names, *percentiles)} <= told
    # Tokenisation stands apart: once per checkpoint, whatever is pruned.
    assert [f.variant for f in part.figures if f.name == "tokenisation_throughput"] == ["stock"]


def test_what_computes_attention_is_told(subject: tuple[Path, Path]) -> None:
    workload = load_workload(request_for(subject, "stock", "unpruned", "reference"))
    batches = workload.timed_batches(8)
    found = {
        name: attention_backends(variant, batches[name][0])
        for name, variant in workload.variants.items()
    }
    assert found == {"stock": (), "unpruned": ("per_sequence",), "reference": ("eager",)}


def test_a_rate_is_all_work_over_all_time(part: Part, subject: tuple[Path, Path]) -> None:
    samples = next(f for f in part.figures if f.name == "throughput")
    tokens = next(f for f in part.figures if f.name == "token_throughput")
    assert samples.samples is not None
    assert tokens.samples is not None
    ratios = {round(t / s, 6) for s, t in zip(samples.samples, tokens.samples, strict=True)}
    assert len(ratios) == 1  # tokens per sample do not vary from run to run
    assert "all 24 samples" in samples.method


def test_curves_by_length_belong_to_the_same_runs(part: Part) -> None:
    curves = [series for series in part.series if series.name == "throughput_by_length"]
    assert [series.variant for series in curves] == ["stock", "unpruned", "pruned"]
    assert len({tuple(series.x) for series in part.series}) == 1
    speedups = [(s.variant, s.baseline) for s in part.series if s.name == "speedup_by_length"]
    assert speedups == PAIRS
    for series in curves:
        total = next(
            f for f in part.figures if (f.name, f.variant) == ("throughput", series.variant)
        )
        assert series.low is not None
        # A whole is between its parts.
        assert min(series.y) < total.value < max(series.y)  # type: ignore[type-var,operator]


def test_training_and_latency_are_left_out_unless_asked(single: Part) -> None:
    names = {figure.name for figure in single.figures}
    assert names == {"throughput", "token_throughput", "tokenisation_throughput"}


def test_within_a_budget_every_figure_says_so(subject: tuple[Path, Path]) -> None:
    names = ("stock", "unpruned", "pruned")
    workload = request_for(subject, *names, batch_size=None, tokens_per_batch=150)
    part = measure(
        subject,
        workload=workload.model_dump(mode="json"),
        timed_samples=8,
        runs=1,
        training=True,
        training_batch_size=None,
        training_tokens_per_batch=90,
    )
    told = {figure.name: figure.method for figure in part.figures}
    assert "batches of at most 150 tokens, padding counted" in told["throughput"]
    assert "batches of at most 90 tokens, padding counted" in told["training_throughput"]


def test_one_run_has_no_interval_and_says_so(single: Part) -> None:
    for figure in single.figures:
        assert figure.interval is None
    for comparison in single.comparisons:
        assert comparison.verdict == "not judged"
        assert "1 run" in (comparison.reason or "")
    assert all(series.low is None and series.high is None for series in single.series)


def test_what_the_watch_saw_becomes_cautions(
    subject: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(others_cpu_share=0.7)
    monkeypatch.setattr(MachineWatch, "seen", lambda self: seen)
    monkeypatch.setattr(throughput, "_TOKENISATION_RUNS", 1)
    part = measure(subject, timed_samples=8, runs=1, training=True, training_batch_size=2)
    told = [caution.text for caution in part.cautions if caution.code == "busy-machine"]
    assert len(told) == 2
    assert told[1].endswith("during training steps")
