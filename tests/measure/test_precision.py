"""`--precision`: half precision in inference, float32 weights in training, told everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alpine_cli.compare.match import match
from alpine_cli.errors import ConfigError
from alpine_cli.measure.flops import measure_flops
from alpine_cli.measure.memory import measure_memory
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.training_step import TrainingRun, measure_training_steps, training_batches
from alpine_cli.measure.workload import load_workload
from alpine_cli.report.setting import describe_cell, setting_of
from alpine_cli.results import Part
from alpine_cli.tasks.batching import BatchLimit
from tests.measure.workloads import request_for
from tests.report.made import make_result


@pytest.mark.parametrize("name", ["stock", "unpruned", "pruned"])
def test_inference_runs_in_it_and_answers_nearly_the_same(
    subject: tuple[Path, Path], name: str
) -> None:
    half = load_workload(request_for(subject, name, precision="bfloat16")).variants[name]
    full = load_workload(request_for(subject, name)).variants[name]
    assert {p.dtype for p in half.model.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in full.model.parameters()} == {torch.float32}
    with torch.inference_mode():
        for batch in full.batches(BatchLimit(4), 0)[:3]:
            rough, exact = half.forward(batch), full.forward(batch)
            assert rough.dtype == torch.bfloat16
            np.testing.assert_allclose(rough.float(), exact, atol=0.1)


def test_training_steps_keep_float32_weights_and_multiply_in_it(
    subject: tuple[Path, Path],
) -> None:
    workload = load_workload(request_for(subject, "unpruned", "pruned", precision="bfloat16"))
    variant = workload.variants["pruned"]
    seen: set[torch.dtype] = set()
    linear = next(m for m in variant.model.modules() if isinstance(m, torch.nn.Linear))
    linear.register_forward_hook(lambda module, _, output: seen.add(output.dtype))
    run = TrainingRun(variant)
    run.run(training_batches(workload, BatchLimit(2), 24)["pruned"])
    assert {p.dtype for p in variant.model.parameters()} == {torch.float32}
    assert {state["exp_avg"].dtype for state in run._optimiser.state.values()} == {torch.float32}
    assert seen == {torch.bfloat16}
    part = measure_training_steps(
        workload,
        [("pruned", "unpruned")],
        limit=BatchLimit(2),
        runs=2,
        min_seconds=0,
        timed_samples=24,
    )
    assert all("products in bfloat16 by autocast" in figure.method for figure in part.figures)


@pytest.mark.parametrize(
    ("purpose", "dtype"), [("inference", torch.float16), ("training", torch.float32)]
)
def test_memory_of_training_never_holds_half_weights(
    subject: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, purpose: str, dtype: torch.dtype
) -> None:
    held: set[torch.dtype] = set()

    def peaks(variant: Any, batches: Any, work: Any) -> dict[str, Any]:
        held.update(p.dtype for p in variant.model.parameters())
        return {}

    monkeypatch.setattr("alpine_cli.measure.memory._peaks", peaks)
    request = request_for(subject, "pruned", precision="float16").model_dump(mode="json")
    measure_memory({"workload": request, "purpose": purpose})
    assert held == {dtype}


def test_multiply_adds_are_counted_in_float32(subject: tuple[Path, Path]) -> None:
    def macs(precision: str) -> list[float | None]:
        request = request_for(subject, "unpruned", "pruned", precision=precision, batch_size=1)
        asked = {
            "workload": request.model_dump(mode="json"),
            "pairs": [("pruned", "unpruned")],
            "batch_size": 1,
        }
        part = Part.model_validate(measure_flops(asked))
        return [figure.value for figure in part.figures if figure.name == "total_macs"]

    assert macs("bfloat16") == macs("float32")


def test_an_unknown_one_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"--precision: must be one of float32, .* 'fp8'"):
        MeasureOptions(checkpoint=Path("ckpt.pt"), precision="fp8")  # type: ignore[arg-type]


def in_precision(precision: str | None, id_: str) -> Any:
    result = make_result(id=id_)
    given = {} if precision is None else {"precision": precision}
    return result.model_copy(update={"settings": {**result.settings, **given}})


def test_results_of_two_precisions_are_no_repeats_of_each_other() -> None:
    old, full, half = (
        in_precision(precision, f"{i:08x}")
        for i, precision in enumerate((None, "float32", "bfloat16"))
    )
    assert setting_of(old) == setting_of(full)
    assert setting_of(half).differs(setting_of(full)) == ["options"]
    assert "bfloat16" in describe_cell(half)
    assert "float32" not in describe_cell(full)


def test_compare_pairs_like_with_like_and_notes_a_difference() -> None:
    full, half = in_precision(None, "aaaaaaaa"), in_precision("bfloat16", "bbbbbbbb")
    both = match(
        [full, half], [in_precision("bfloat16", "cccccccc"), in_precision("float32", "dddddddd")]
    )
    for pair in both.pairs:
        ids = pair.baseline.result.id, pair.candidate.result.id
        if pair.family != "exact":
            assert ids in {("aaaaaaaa", "dddddddd"), ("bbbbbbbb", "cccccccc")}
            assert pair.notes == ()
    across = match([full], [in_precision("bfloat16", "cccccccc")])
    noted = [pair.notes for pair in across.pairs if pair.family != "exact"]
    assert noted
    assert all(notes == ("other precision: float32 → bfloat16",) for notes in noted)
