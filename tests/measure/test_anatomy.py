"""The waterfall: its steps sum to the difference, and each is what its name says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.measure.anatomy import measure_anatomy
from alpine_cli.measure.anatomy_steps import STEPS, Costs, anatomy_part, take_apart
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Part

COSTS = Costs(
    attention_unpruned=600,
    attention_pruned=200,
    feed_forward_unpruned=390,
    feed_forward_pruned=190,
    total_unpruned=1000,
    total_pruned=400,
    total_shortest=10,
)
PASSES = ("unpruned", "pruned", "replayed", "selection", "repacking", "shortest")
UNPADDED = ("unpruned unpadded", "replayed unpadded")


def seconds(**changed: float) -> dict[str, np.ndarray]:
    """A run whose time is its multiply-adds, one a second, with nothing lost on the way."""
    ideal = {"unpruned": 1000.0, "pruned": 400.0, "replayed": 400.0, "shortest": 10.0}
    ideal |= {"selection": 0.0, "repacking": 0.0}
    return {name: np.array([value]) for name, value in (ideal | changed).items()}


@given(
    st.lists(st.lists(st.floats(1e-4, 1e3), min_size=8, max_size=8), min_size=1, max_size=6).map(
        np.array
    ),
    st.booleans(),
)
def test_in_every_round_the_steps_sum_to_the_difference(table: np.ndarray, pads: bool) -> None:
    names = PASSES + UNPADDED if pads else PASSES
    found = {name: table[:, at] for at, name in enumerate(names)}
    steps = take_apart(found, COSTS)
    assert list(steps) == [step.key for step in STEPS]
    total = np.sum(list(steps.values()), axis=0)
    np.testing.assert_allclose(total, found["pruned"] - found["unpruned"], atol=1e-8)


def test_where_nothing_is_lost_the_saved_multiply_adds_are_the_saved_time() -> None:
    steps = take_apart(seconds(), COSTS)
    assert steps.pop("attention_saved") == -400
    assert steps.pop("feed_forward_saved") == -200
    assert {name: float(value[0]) for name, value in steps.items()} == dict.fromkeys(steps, 0.0)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"pruned": 430.0}, {"scoring": 30}),
        ({"pruned": 430.0, "selection": 10.0}, {"scoring": 20, "selection": 10}),
        ({"pruned": 405.0, "replayed": 405.0, "repacking": 5.0}, {"repacking": 5}),
        ({"pruned": 407.0, "replayed": 407.0}, {"rest": 7}),
        # A fixed cost of 100 in both: the unpruned rate is 1.1 s per multiply-add, so saving
        # 600 promises 660 s, of which the fixed 60 were never to be had.
        (
            {"unpruned": 1100.0, "pruned": 500.0, "replayed": 500.0, "shortest": 111.0},
            {"calls": 60},
        ),
        # Padding costs nothing unpruned and 50 s pruned.
        (
            {
                "pruned": 450.0,
                "replayed": 450.0,
                "unpruned unpadded": 1000.0,
                "replayed unpadded": 400.0,
            },
            {"padding": 50},
        ),
    ],
    ids=["scoring", "selection", "repacking", "rest", "fixed", "padding"],
)
def test_a_loss_lands_in_the_step_of_its_cause(
    changed: dict[str, float], expected: dict[str, float]
) -> None:
    steps = take_apart(seconds(**changed), COSTS)
    lost = {name: float(value[0]) for name, value in steps.items() if "saved" not in name}
    assert {name: value for name, value in lost.items() if abs(value) > 1e-9} == pytest.approx(
        expected
    )


def test_the_efficiency_is_the_quotient_of_the_two_ratios_with_its_interval() -> None:
    draw = np.random.default_rng(0)
    found = {name: 1 + 0.1 * draw.random(12) for name in PASSES}
    found["unpruned"] = found["unpruned"] * 2
    part = anatomy_part(found, COSTS, samples=8, where="here", seed=0)
    figures = {figure.name: figure for figure in part.figures if figure.variant == "pruned"}
    flops, times, efficiency = (
        figures[name] for name in ("flops_ratio", "time_ratio", "efficiency")
    )
    assert flops.value == 2.5
    assert times.value == pytest.approx(found["unpruned"].sum() / found["pruned"].sum())
    assert efficiency.value == pytest.approx(times.value / flops.value)
    assert efficiency.interval is not None
    assert times.interval is not None
    assert efficiency.interval.low == pytest.approx(times.interval.low / 2.5)
    assert efficiency.interval.low < efficiency.value < efficiency.interval.high


def test_few_runs_have_no_intervals() -> None:
    part = anatomy_part(seconds(), COSTS, samples=8, where="here", seed=0)
    assert all(figure.interval is None for figure in part.figures)
    assert set(part.series[0].low or []) == {None}


def request(subject: tuple[Path, Path], engine: str, **changed: Any) -> dict[str, Any]:
    def variant(name: str, layers: str) -> dict[str, Any]:
        pruning = PruningConfig(engine=engine, **{**changed, "layers": layers}).to_dict()  # type: ignore[arg-type]
        return {"name": name, "checkpoint": str(subject[0]), "pruning": pruning}

    variants = [variant("unpruned", "none"), variant("pruned", changed.get("layers", "even"))]
    workload = {"variants": variants, "data": str(subject[1]), "batch_size": 4, "threads": 1}
    return {"workload": workload, "pairs": [], "runs": 5, "timed_samples": None}


@pytest.mark.parametrize("engine", ["packed", "padded", "reference"])
def test_a_real_run_is_taken_apart(subject: tuple[Path, Path], engine: str) -> None:
    part = Part.model_validate(measure_anatomy(request(subject, engine)))
    (series,) = part.series
    first, *steps, last = series.y
    assert first is not None
    assert last is not None
    assert first + sum(step or 0 for step in steps) == pytest.approx(last)
    assert series.labels is not None
    assert (series.labels[0], series.labels[-1]) == ("unpruned", "pruned")
    assert (steps[series.labels.index("padding") - 1] == 0) == (engine == "packed")
    figures = {figure.name: figure for figure in part.figures if figure.variant == "pruned"}
    for step, value in zip(STEPS, steps, strict=True):
        figure = figures[f"anatomy_{step.key}"]
        assert figure.value == value
        assert figure.samples is not None
        assert len(figure.samples) == 5
        assert step.method in figure.method
        assert f"{engine} engine" in figure.method
    assert figures["anatomy_selection"].value > 0  # type: ignore[operator]
    assert figures["anatomy_repacking"].value > 0  # type: ignore[operator]
    assert figures["flops_ratio"].value > 1  # type: ignore[operator]


@pytest.mark.parametrize(
    "pruning",
    [
        {"layers": "all", "output": "first"},
        {"rule": "random", "keep": 0.5},
        {"rule": "bipartite", "keep": 0.6, "merge": "nearest"},
    ],
    ids=["first output", "no scores", "bipartite"],
)
def test_other_rules_are_taken_apart_too(
    subject: tuple[Path, Path], pruning: dict[str, Any]
) -> None:
    asked = {**request(subject, "packed", **pruning), "runs": 1}
    part = Part.model_validate(measure_anatomy(asked))
    figures = {figure.name: figure.value for figure in part.figures if figure.variant == "pruned"}
    assert figures["anatomy_selection"] > 0  # type: ignore[operator]
    assert figures["flops_ratio"] > 1  # type: ignore[operator]


def test_the_flops_ratio_is_that_of_measure_flops(
    subject: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from alpine_cli.measure.flops import measure_flops

    monkeypatch.setattr("alpine_cli.measure.flops._CHECKED_SAMPLES", 1)
    asked = {**request(subject, "packed"), "runs": 1}
    (ratio,) = (f["value"] for f in measure_anatomy(asked)["figures"] if f["name"] == "flops_ratio")
    counted = {
        figure["variant"]: figure["value"]
        for figure in measure_flops({**asked, "batch_size": 1})["figures"]
        if figure["name"] == "total_macs"
    }
    assert ratio == pytest.approx(counted["unpruned"] / counted["pruned"])


def test_the_model_is_given_back_as_it_was(subject: tuple[Path, Path]) -> None:
    """Engines that pad lend their models to the packed engine between passes."""
    from alpine_cli.measure.anatomy import _Passes
    from alpine_cli.measure.workload import WorkloadRequest, load_workload
    from alpine_cli.pruning.patch.registry import find_base_model

    asked = WorkloadRequest.model_validate(request(subject, "padded")["workload"])
    passes = _Passes.record(load_workload(asked), None)
    clocks = passes.clocks()
    for clock in clocks.values():
        assert clock().seconds > 0
        for variant in (passes.unpruned, passes.pruned):
            record = find_base_model(variant.model)[0]._alpine_pruning
            assert record.config == variant.pruning
            assert record.given_plans is None
            assert record.traces == []


def test_without_a_pruned_variant_there_is_nothing_to_take_apart() -> None:
    workload = {
        "variants": [{"name": "unpruned", "checkpoint": "nowhere.pt", "pruning": {}}],
        "data": "nowhere",
    }
    asked = {"workload": workload, "pairs": [], "runs": 5, "timed_samples": None}
    assert measure_anatomy(asked) == Part().model_dump(mode="json")
