"""A sweep gives every setting what a bench of that setting alone would give it."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from alpine_cli.measure import energy, trials
from alpine_cli.measure.accuracy import predict
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.grid import TRUNCATE, Family, GridOptions, Setting, make_grid
from alpine_cli.measure.grid_options import SWEEP, choose_grid
from alpine_cli.measure.meters import Meters
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.plan import Plan
from alpine_cli.measure.sweep import _left_out, describe_settings, measure_sweep, plan_grid
from alpine_cli.measure.trials import settings_to
from alpine_cli.measure.workload import WorkloadRequest, load_workload
from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.results import Part
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.encoding import encode
from tests.steady_meter import SteadyMeter

GRID = GridOptions((Family("band", (0.5, 1.5), ("even",), ("mean", "none")),))
Request = dict[str, Any]


@pytest.fixture(scope="module")
def request_(subject: tuple[Path, Path]) -> Request:
    plan, settings, _ = plan_grid(_options(subject), GRID)
    return _request(plan, settings)


def _request(plan: Plan, settings: list[Setting], **changes: Any) -> Request:
    """What the worker is sent."""
    return {
        "workload": plan.request.model_dump(mode="json"),
        "settings": settings_to(settings),
        "flops_batch_size": 1,
        "flops_tokens_per_batch": None,
        "folder": None,
        "metric": "accuracy",
        "time": None,
        **changes,
    }


def _options(subject: tuple[Path, Path], **changes: Any) -> MeasureOptions:
    fields = {"checkpoint": subject[0], "batch_size": 8, "device": "cpu", "threads": 1}
    return MeasureOptions(**fields | changes)


@pytest.fixture(scope="module")
def swept(request_: Request) -> Part:
    return Part.model_validate(measure_sweep(request_))


def test_truncation_that_is_left_out_is_told(subject: tuple[Path, Path]) -> None:
    """Asked for by name, it vanished without a word where the input carries data flow."""
    asked = choose_grid(SWEEP, rules="top,truncate", keeps="0.5")
    base = PruningConfig()
    flow = make_grid(base, asked, num_layers=4, data_flow=True)
    assert {setting.rule for setting in flow} == {"top"}
    (told,) = _left_out(asked, flow)
    assert "data flow" in str(told)
    assert _left_out(asked, make_grid(base, asked, num_layers=4)) == []
    assert _left_out(choose_grid(SWEEP, rules="top"), flow) == []


def values(part: Part, name: str) -> dict[str, float | None]:
    return {figure.variant: figure.value for figure in part.figures if figure.name == name}


def encoder_macs(request: Request, pruning: dict[str, Any]) -> tuple[list[int], list[int]]:
    """Predictions and multiply-adds of the layers, one sample at a time: slow and literal."""
    asked = WorkloadRequest.model_validate(request["workload"])
    variant = load_workload(asked).variants["unpruned"]
    prune(variant.model, PruningConfig.from_dict(pruning))
    config = variant.model.config
    width, inner = config.hidden_size, config.intermediate_size
    answers, costs = [], []
    for sample in range(len(variant.encoded)):
        with torch.inference_mode(), trace(variant.model) as recorded:
            logits = variant.forward(variant.batch_of([sample]))
        answers.append(int(logits.argmax()))
        (lengths,) = zip(*recorded.calls[0].lengths, strict=True)
        cost = 0
        for n, after in pairwise(lengths):
            cost += 4 * n * width**2 + 2 * n**2 * width + 2 * after * width * inner
        costs.append(cost)
    return answers, costs


def test_every_setting_is_what_it_is_alone(swept: Part, request_: Request) -> None:
    unpruned = request_["workload"]["variants"][0]["pruning"]
    assert swept.predictions is not None
    base_answers, base_costs = encoder_macs(request_, unpruned)
    macs = values(swept, "total_macs")
    for item in request_["settings"][1:3]:
        answers, costs = encoder_macs(request_, item["pruning"])
        assert swept.predictions.predicted[item["name"]] == "".join(map(str, answers))
        saved = (sum(base_costs) - sum(costs)) / len(costs)
        assert macs["unpruned"] - macs[item["name"]] == pytest.approx(saved)  # type: ignore[operator]
    assert swept.predictions.predicted["unpruned"] == "".join(map(str, base_answers))


def test_truncation_is_the_input_encoded_shorter(subject: tuple[Path, Path]) -> None:
    """Answers and multiply-adds are those of tokenising anew with a smaller `max_length`."""
    grid = GridOptions((Family(TRUNCATE, (16, 5)),))
    plan, settings, _ = plan_grid(_options(subject), grid)
    request = _request(plan, settings, time={"runs": 5, "min_seconds": 0, "timed_samples": 8})
    part = Part.model_validate(measure_sweep(request))
    assert part.predictions is not None
    macs = values(part, "total_macs")
    workload = load_workload(plan.request)
    variant = workload.variants["unpruned"]
    config = variant.model.config
    width, inner = config.hidden_size, config.intermediate_size

    def layer_macs(rows: list[tuple[list[int], ...]]) -> float:
        lengths = [len(row) for (row,) in rows]
        costs = [4 * n * width**2 + 2 * n**2 * width + 2 * n * width * inner for n in lengths]
        return config.num_hidden_layers * sum(costs) / len(costs)

    full = layer_macs(variant.encoded.rows)
    for length in (16, 5):
        encoding = replace(variant.encoding, max_length=length)
        variant.encoded = encode(workload.samples, variant.tokenizer, encoding)
        answers = "".join(map(str, predict(variant, BatchLimit(7))))
        assert part.predictions.predicted[f"truncate {length}"] == answers
        saved = full - layer_macs(variant.encoded.rows)
        assert macs["unpruned"] - macs[f"truncate {length}"] == pytest.approx(saved)  # type: ignore[operator]
    described = describe_settings(plan, settings)
    assert described["truncate 5"].max_length == 5
    assert described["unpruned"].max_length is None


def test_a_smaller_alpha_costs_less_and_merging_costs_more(swept: Part) -> None:
    macs = values(swept, "total_macs")
    assert macs["even α=0.5 mean"] < macs["even α=1.5 mean"] < macs["unpruned"]  # type: ignore[operator]
    assert macs["even α=0.5 none"] < macs["even α=0.5 mean"]  # type: ignore[operator]


def test_figures_stay_small(swept: Part) -> None:
    assert all(figure.samples is None for figure in swept.figures)
    assert (
        swept.cautions == []
    )  # that many were tried is for `run_sweep` to tell: `tune` runs this too
    accuracy = [c for c in swept.comparisons if c.figure == "accuracy"]
    assert len(accuracy) == 4
    assert all(c.p_value is not None and c.baseline == "unpruned" for c in accuracy)


def test_timing_measures_the_front_in_turns(request_: Request) -> None:
    how = {"runs": 5, "min_seconds": 0, "timed_samples": 8}
    part = Part.model_validate(measure_sweep({**request_, "time": how}))
    timed = {figure.variant for figure in part.figures if figure.name == "throughput"}
    cost = values(part, "total_macs")
    assert "unpruned" in timed
    assert min(cost, key=lambda name: cost[name] or 0) in timed  # the cheapest is on any front
    compared = {c.variant for c in part.comparisons if c.figure == "throughput"}
    assert compared == timed - {"unpruned"}


def test_energy_is_metered_of_the_same_settings_in_turns(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        energy, "open_meters", lambda uuids: Meters([SteadyMeter()], {"gpu": "none"})
    )
    monkeypatch.setattr(energy, "_IDLE_SECONDS", 0.05)
    how = {"runs": 5, "min_seconds": 0, "timed_samples": 8}
    power = {"grid": asdict(grid_intensity(None, 100.0)), "pue": 2.0}
    part = Part.model_validate(measure_sweep({**request_, "time": how, "energy": how | power}))
    timed = {figure.variant for figure in part.figures if figure.name == "throughput"}
    gross, carbon = values(part, "energy_gross"), values(part, "co2")
    assert set(gross) == set(carbon) == timed
    for name, joules in gross.items():
        assert joules is not None
        assert joules > 0
        # per 1000 samples, at 100 g/kWh and twice the energy of the machine alone
        assert carbon[name] == pytest.approx(1000 * joules / 3.6e6 * 100 * 2)
    compared = {c.variant for c in part.comparisons if c.figure == "energy_gross"}
    assert compared == timed - {"unpruned"}


def test_an_interrupted_sweep_goes_on_where_it_stopped(
    request_: Request, swept: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = {**request_, "folder": str(tmp_path)}
    run, tried = trials.TrialRunner._try, []

    def interrupted(self: Any, setting: Any) -> Any:
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append(setting.name)
        return run(self, setting)

    monkeypatch.setattr(trials.TrialRunner, "_try", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_sweep(request)
    assert len(list(tmp_path.iterdir())) == 2
    broken = sorted(tmp_path.iterdir())[0]
    broken.write_text(broken.read_text()[:20])  # cut short: run again, not trusted
    tried.clear()
    monkeypatch.setattr(trials.TrialRunner, "_try", lambda s, x: tried.append(x.name) or run(s, x))
    assert Part.model_validate(measure_sweep(request)) == swept
    assert len(tried) == 4  # of five: the baseline and four settings


def test_variants_are_described(subject: tuple[Path, Path]) -> None:
    plan, settings, _ = plan_grid(_options(subject), GRID)
    described = describe_settings(plan, settings)
    assert next(iter(described)) == "unpruned"
    assert described["even α=0.5 none"].pruning == {
        **(described["unpruned"].pruning or {}),
        "layers": "even",
        "alpha": 0.5,
        "merge": "none",
    }
    assert "nothing-pruned" not in {caution.code for caution in plan.cautions}


def test_padding_engines_cost_more_in_batches(subject: tuple[Path, Path]) -> None:
    costs = {}
    for size in (1, 8):
        options = _options(subject, engine="padded", flops_batch_size=size)
        plan, settings, _ = plan_grid(options, GRID)
        request = _request(plan, settings[:1], flops_batch_size=size)
        costs[size] = values(Part.model_validate(measure_sweep(request)), "total_macs")
    assert costs[8]["unpruned"] > costs[1]["unpruned"]  # type: ignore[operator]
