"""What a setting will cost, strengths that fit a budget, and the search within it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2Model

from alpine_cli.errors import ConfigError, MeasurementError
from alpine_cli.measure import budget, latency_limit
from alpine_cli.measure.budget import BudgetSearch, measure_budget
from alpine_cli.measure.budgeting import Budget, parse_latency
from alpine_cli.measure.fit import Fitter, gentlest
from alpine_cli.measure.grid import Setting
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.sweep import plan_unpruned
from alpine_cli.measure.trials import Trial, TrialRunner, settings_to
from alpine_cli.measure.workload import load_workload
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Part
from alpine_cli.tasks.batching import BatchLimit
from tests.measure.subjects import write_checkpoint

TOP = Setting.of(PruningConfig(layers="all", rule="top", merge="nearest"))
BIPARTITE = Setting.of(PruningConfig(layers="even", rule="bipartite", merge="nearest"))
BAND = Setting.of(PruningConfig(layers="all"))


@pytest.fixture(scope="module")
def options(subject: tuple[Path, Path]) -> MeasureOptions:
    return MeasureOptions(subject[0], batch_size=24, device="cpu", threads=1)


@pytest.fixture(scope="module")
def runner(options: MeasureOptions) -> TrialRunner:
    return TrialRunner(load_workload(plan_unpruned(options).request), BatchLimit(1), None)


@given(
    rule=st.sampled_from(["top", "random", "first", "bipartite"]),
    keep=st.one_of(st.floats(0.01, 1.0), st.tuples(st.floats(0.1, 1.0), st.floats(0.1, 1.0))),
    merge=st.sampled_from(["mean", "none", "nearest"]),
    protect=st.sampled_from(["special", "ends"]),
    output=st.sampled_from(["tokens", "first"]),
    engine=st.sampled_from(["packed", "padded"]),
    cut=st.one_of(st.none(), st.integers(3, 70)),
)
@examples(max_examples=20, deadline=None)
def test_the_plan_costs_what_the_run_does(
    runner: TrialRunner,
    rule: Any,
    keep: Any,
    merge: Any,
    protect: Any,
    output: Any,
    engine: Any,
    cut: int | None,
) -> None:
    """To the last multiply-add, on inputs down to the special tokens alone and one more."""
    pruning = PruningConfig(
        layers="1,3" if isinstance(keep, tuple) else "all",
        rule=rule,
        keep=",".join(map(repr, keep)) if isinstance(keep, tuple) else keep,
        merge="nearest" if rule == "bipartite" else merge,
        protect=protect,
        output=output,
        engine=engine,
    )
    setting = Setting("any", pruning, cut)
    planned = runner.planned_macs(setting)
    assert planned is not None
    assert runner.run(setting).macs == planned.tolist()


def test_rules_by_alpha_have_to_run(runner: TrialRunner) -> None:
    assert runner.planned_macs(BAND) is None


def test_what_decoders_merge_has_to_run(
    tiny_tokenizer: Any, subject: tuple[Path, Path], tmp_path: Path
) -> None:
    """A token without a later one to merge into stays: no length tells how many there are."""
    shape = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    GPT2Model(GPT2Config(vocab_size=len(tiny_tokenizer), **shape)).save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    checkpoint = write_checkpoint(tmp_path / "run" / "ckpt.pt", tmp_path, subject[1])
    options = MeasureOptions(checkpoint, batch_size=24, device="cpu", threads=1)
    runner = TrialRunner(load_workload(plan_unpruned(options).request), BatchLimit(1), None)
    assert runner.planned_macs(TOP) is None
    assert runner.planned_macs(BIPARTITE) is None
    for merge in ("mean", "none"):
        pruning = PruningConfig(layers="all", rule="top", keep=0.6, merge=merge)
        planned = runner.planned_macs(Setting("any", pruning))
        assert planned is not None
        assert runner.run(Setting("any", pruning)).macs == planned.tolist()
    budget = 0.7
    fitter = Fitter(runner, range(24))
    fitted = fitter.fit(BIPARTITE, budget)
    assert fitted is not None
    macs = sum(runner.run(fitted).macs)
    assert macs <= budget * fitter.unpruned.sum()


def test_trials_of_parts_join_to_the_trial_of_all(runner: TrialRunner) -> None:
    order = np.random.default_rng(3).permutation(24).tolist()
    parts = [runner.run(BAND, order[:7]), runner.run(BAND, order[7:])]
    joined, whole = Trial.joined(parts, order), runner.run(BAND)
    assert (joined.predicted, joined.macs) == (whole.predicted, whole.macs)
    assert joined.mean_length["y"] == pytest.approx(whole.mean_length["y"])


@given(st.integers(1, 40), st.integers(0, 50))
def test_the_gentlest_is_found(count: int, limit: int) -> None:
    found = gentlest(count, lambda step: step <= limit)
    assert found == max((step for step in range(1, count + 1) if step <= limit), default=None)


@pytest.mark.parametrize("share", [0.3, 0.45, 0.7])
def test_a_fit_is_within_and_a_step_more_is_beyond(runner: TrialRunner, share: float) -> None:
    fitter = Fitter(runner, range(24))
    for chain in (TOP, BIPARTITE, BAND):
        found = fitter.fit(chain, share)
        if found is None:
            assert fitter.least([], [chain])[0] > share
            continue
        assert found.chain == chain.chain
        assert fitter.share(found) <= share
        if chain is TOP:
            more = PruningConfig(
                layers="all", rule="top", merge="nearest", keep=float(found.pruning.keep) + 0.005
            )
            assert fitter.share(Setting.of(more)) > share
    cut = fitter.truncation(share)
    assert cut is not None
    assert cut.max_length is not None
    assert fitter.share(cut) <= share
    assert fitter.share(Setting.truncation(PruningConfig(), cut.max_length + 1)) > share


def search(runner: TrialRunner, **changes: Any) -> BudgetSearch:
    fields: dict[str, Any] = {
        "metric": "accuracy",
        "seed": 0,
        "settings": [],
        "chains": [TOP, BIPARTITE, BAND],
    }
    return BudgetSearch(runner, **fields | changes)


def test_the_choice_is_the_best_within_the_budget(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By hand: every candidate of the last rung on all samples."""
    monkeypatch.setattr(budget, "rung_sizes", lambda *_: [6, 12, 24])
    found = search(runner)
    found.run(0.6)
    assert [rung.samples for rung in found.rungs] == [6, 12, 24]
    assert found.last.ranking
    scores = []
    for name, value, share in found.last.ranking:
        trial = runner.run(found.setting(name))
        assert value == pytest.approx(np.mean(trial.answers == runner.labels))
        unpruned = runner.planned_macs(found.setting("unpruned"))
        assert unpruned is not None
        assert share == pytest.approx(sum(trial.macs) / unpruned.sum())
        assert share <= 0.6
        scores.append((-value, share, name))
    assert found.chosen == min(scores)[2]
    again = search(runner)
    again.run(0.6)
    assert (again.rungs, again.chosen) == (found.rungs, found.chosen)
    other = search(runner, seed=1)
    other.run(0.6)
    assert other.rungs[0] != found.rungs[0]  # other samples first
    answer = found.answer(Part())
    part = Part.model_validate(answer["part"])
    variants = {figure.variant for figure in part.figures}
    ranked = {name for name, *_ in found.last.ranking}
    assert variants == {"unpruned", answer["truncation"]["name"], *ranked}
    assert part.predictions is not None
    assert {item["name"] for item in answer["settings"]} == variants - {"unpruned"}


def test_settings_with_strengths_of_their_own_stay_as_they_are(runner: TrialRunner) -> None:
    cheap, dear = (
        Setting.of(PruningConfig(layers="all", rule="top", keep=keep, merge="none"))
        for keep in (0.5, 1.0)
    )
    found = search(runner, settings=[dear, cheap], chains=[])
    found.run(0.8)
    assert [name for name, *_ in found.last.ranking] == [cheap.name]
    with pytest.raises(ConfigError, match=r"--budget.*the least is 0\.\d+ \(all top 50% none\)"):
        search(runner, settings=[dear, cheap], chains=[]).run(0.01)


def test_the_least_that_is_told_can_be_had(runner: TrialRunner) -> None:
    with pytest.raises(ConfigError, match="the least is") as error:
        search(runner).run(0.001)
    least = float(str(error.value).split("the least is ")[1].split(" ")[0])
    found = search(runner)
    found.run(least)
    assert found.chosen is not None


def test_a_setting_that_needs_more_than_its_pilot_is_out(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted on one short input, the band costs more on all: it must not be chosen."""
    found = search(runner, chains=[BAND])
    shortest = min(range(24), key=runner.variant.encoded.length)
    found.fitter = Fitter(runner, [shortest])
    wide = Setting.of(PruningConfig(layers="all", alpha=4.0))
    monkeypatch.setattr(found.fitter, "fit", lambda *_: wide)
    with pytest.raises(MeasurementError, match="turned out to need more"):
        found.run(0.3)


def test_out_of_time_a_choice_is_made_and_the_caution_says_so(
    runner: TrialRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(budget, "rung_sizes", lambda *_: [6, 24])
    found = search(runner, out_of_time=lambda: True)
    found.run(0.6)
    assert found.stopped
    assert len(found.last.ranking) == 1
    answer = found.answer(Part())
    part = Part.model_validate(answer["part"])
    assert [caution.code for caution in part.cautions] == ["time-limit"]
    assert part.predictions is None
    assert all(figure.n == 6 for figure in part.figures if figure.name == "accuracy")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Latency is made: a millisecond per 100,000 multiply-adds; collects what was timed."""
    timed: list[list[str]] = []

    def milliseconds(self: Any, settings: list[Setting]) -> dict[str, list[float]]:
        timed.append([setting.name for setting in settings])
        runner = self._runner
        return {one.name: (np.array(runner.run(one).macs) / 1e5).tolist() for one in settings}

    monkeypatch.setattr(latency_limit.LatencyTimer, "milliseconds", milliseconds)
    return timed


def request(options: MeasureOptions, **changes: Any) -> dict[str, Any]:
    return {
        "workload": plan_unpruned(options).request.model_dump(mode="json"),
        "settings": [],
        "chains": settings_to([TOP, BIPARTITE]),
        "flops_batch_size": 1,
        "folder": None,
        "metric": "accuracy",
        "budget": None,
        "time_limit_s": 600.0,
    } | changes


def test_a_latency_is_kept_and_few_settings_are_timed(
    options: MeasureOptions, runner: TrialRunner, clock: list[list[str]]
) -> None:
    """The bound decides, not the median itself; the choice is timed beside unpruned."""
    unpruned = Setting("unpruned", PruningConfig())
    limit = float(np.median(runner.run(unpruned).macs)) / 1e5 * 0.6
    answer = measure_budget(request(options, latency_ms=limit))
    part = Part.model_validate(answer["part"])
    figure = next(
        figure
        for figure in part.figures
        if (figure.name, figure.variant) == ("latency_p50", answer["chosen"])
    )
    assert figure.interval is not None
    assert figure.interval.high <= limit
    assert len(clock) <= 6  # 4 halvings of a ladder of 15, and what was found
    assert all(names[0] == "unpruned" for names in clock)


def test_a_latency_below_what_can_be_reached_names_the_least(
    options: MeasureOptions, clock: list[list[str]]
) -> None:
    with pytest.raises(ConfigError, match=r"--latency: 0\.001 ms .* takes a median of at most"):
        measure_budget(request(options, latency_ms=0.001))
    assert len(clock) <= 5


def test_real_latencies_are_taken_in_turns(runner: TrialRunner, options: MeasureOptions) -> None:
    timer = latency_limit.LatencyTimer(load_workload(plan_unpruned(options).request), runner)
    cut = Setting.truncation(PruningConfig(), 8)
    taken = timer.milliseconds([Setting("unpruned", PruningConfig()), cut])
    assert set(taken) == {"unpruned", "truncate 8"}
    assert all(len(values) == 24 and min(values) > 0 for values in taken.values())


@pytest.mark.parametrize(
    ("text", "found"), [("20ms", 20), (" 20 ms ", 20), ("0.02s", 20), ("7", 7), (".5ms", 0.5)]
)
def test_times_are_read(text: str, found: float) -> None:
    assert parse_latency(text) == pytest.approx(found)


@pytest.mark.parametrize("text", ["", "fast", "0ms", "-3ms", "20 min", "1e3"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--latency"):
        parse_latency(text)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"share": 0.0}, "--budget"),
        ({"share": 1.0}, "--budget"),
        ({"share": float("nan")}, "--budget"),
        ({"share": 0.5, "minutes": 0.0}, "--time-limit"),
        ({"share": 0.5, "minutes": float("inf")}, "--time-limit"),
    ],
)
def test_budgets_that_mean_nothing_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Budget("accuracy", **fields)
