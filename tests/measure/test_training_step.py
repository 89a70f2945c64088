"""Training steps: they train, they leave no trace, and memory that runs out costs only them."""

from __future__ import annotations

from collections import namedtuple
from pathlib import Path

import pytest
import torch

from alpine_cli.measure import training_step
from alpine_cli.measure.training_step import (
    TrainingRun,
    half_budget,
    measure_training_steps,
    training_batches,
    training_variants,
)
from alpine_cli.measure.workload import Workload, load_workload
from alpine_cli.results import Part
from alpine_cli.tasks.batching import BatchLimit
from tests.measure.workloads import request_for

PAIRS = [("pruned", "unpruned"), ("unpruned", "stock"), ("reference", "unpruned")]


@pytest.fixture(scope="module")
def workload(subject: tuple[Path, Path]) -> Workload:
    return load_workload(request_for(subject, "stock", "unpruned", "pruned", "reference"))


def measure(workload: Workload, runs: int = 2) -> Part:
    return measure_training_steps(
        workload, PAIRS, limit=BatchLimit(2), runs=runs, min_seconds=0, timed_samples=24
    )


def test_steps_run_backward_and_adamw_in_training_mode(workload: Workload) -> None:
    variant = workload.variants["pruned"]
    seen: list[tuple[bool, bool]] = []
    handle = variant.model.register_forward_hook(
        lambda module, _, output: seen.append((module.training, output.logits.requires_grad))
    )
    run = TrainingRun(variant)
    batches = training_batches(workload, BatchLimit(2), 24)["pruned"]
    taken = run.run(batches)
    handle.remove()
    assert taken.seconds > 0
    assert seen == [(True, True)] * len(batches)
    states = list(run._optimiser.state.values())
    assert {int(state["step"]) for state in states} == {len(batches)}
    # Gradients reached the first layer through every pruned one.
    reached = [state["exp_avg"].abs().max() > 0 for state in states]
    assert sum(reached) > 0.9 * len(reached)


def test_dropout_is_active(workload: Workload) -> None:
    variant = workload.variants["unpruned"]
    rates = {m.p for m in variant.model.modules() if isinstance(m, torch.nn.Dropout)}
    assert max(rates) > 0
    batch = variant.batches(BatchLimit(4), seed=0)[0]
    outputs = []
    original = variant.forward

    def forward(batch: object) -> torch.Tensor:
        outputs.append(original(batch))  # type: ignore[arg-type]
        return outputs[-1]

    variant.forward = forward  # type: ignore[method-assign,assignment]
    try:
        TrainingRun(variant).run([batch, batch])
    finally:
        del variant.forward  # type: ignore[method-assign]
    assert not torch.equal(*outputs)


def test_every_run_does_the_same_work_and_leaves_no_trace(workload: Workload) -> None:
    before = {
        name: {key: value.clone() for key, value in variant.model.state_dict().items()}
        for name, variant in workload.variants.items()
    }
    measure(workload)
    for name, variant in workload.variants.items():
        assert not variant.model.training
        assert all(p.grad is None for p in variant.model.parameters())
        for key, value in variant.model.state_dict().items():
            assert torch.equal(value, before[name][key]), (name, key)


def test_figures_and_comparisons_of_all_variants_but_the_reference(workload: Workload) -> None:
    part = measure(workload, runs=5)
    assert [figure.variant for figure in part.figures] == ["stock", "unpruned", "pruned"]
    for figure in part.figures:
        assert figure.name == "training_throughput"
        assert figure.n == len(figure.samples or []) >= 5
        assert figure.interval is not None
        assert "AdamW" in figure.method
        assert "batches of 2" in figure.method
    assert [(c.variant, c.baseline) for c in part.comparisons] == [
        ("pruned", "unpruned"),
        ("unpruned", "stock"),
    ]
    assert all(comparison.interval for comparison in part.comparisons)


def test_training_takes_half_the_runs_but_enough_for_an_interval() -> None:
    assert half_budget(40, 10.0) == (20, 5.0)
    assert half_budget(6, 1.0) == (5, 0.5)
    assert half_budget(2, 1.0) == (2, 0.5)


def test_variants_train_on_the_same_eighth_of_the_samples(workload: Workload) -> None:
    batches = training_batches(workload, BatchLimit(1), 48)
    chosen = {name: [batch.indices for batch in found] for name, found in batches.items()}
    assert chosen["stock"] == chosen["pruned"]
    assert len(chosen["stock"]) == 6
    # At least four steps, also where few samples are timed.
    assert len(training_batches(workload, BatchLimit(2), 4)["stock"]) == 4
    assert "reference" not in training_variants(workload)


def test_memory_that_runs_out_makes_the_figures_absent(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: object, batches: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TrainingRun, "run", full)
    part = measure(workload)
    assert [figure.value for figure in part.figures] == [None] * 3
    assert "batch size 2" in (part.figures[0].reason or "")
    assert [caution.code for caution in part.cautions] == ["not-measured"]


def test_memory_that_cannot_suffice_is_told_before_any_step(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = namedtuple("memory", "available")
    monkeypatch.setattr(training_step.psutil, "virtual_memory", lambda: memory(1000))
    monkeypatch.setattr(TrainingRun, "run", lambda *_: pytest.fail("a step was run"))
    part = measure(workload)
    assert "3 variants need" in (part.figures[0].reason or "")


def test_other_errors_are_not_taken_for_a_lack_of_memory(
    workload: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: object, batches: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(TrainingRun, "run", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        measure(workload)
