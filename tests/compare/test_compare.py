"""What compares with what, how far apart it is, and when a gate closes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from alpine_cli.compare.expression import parse_conditions
from alpine_cli.compare.judge import Outcome, changes_of, evaluate
from alpine_cli.compare.match import Matches, family_of, match
from alpine_cli.errors import ConfigError, DataError
from alpine_cli.measure.accuracy import compare_predictions
from alpine_cli.results import Figure, Gpu, Interval, Predictions, Result
from tests.report.made import make_result

Rates = list[float]
_FAST, _SLOW = [99.0, 100.0, 101.0, 100.5, 99.5, 100.0], [89.0, 90.0, 91.0, 90.5, 89.5, 90.0]


def changed(result: Result, name: str, /, variant: str = "pruned", **changes: Any) -> Result:
    """The result with one figure changed."""
    figures = [
        figure.model_copy(update=changes)
        if (figure.name, figure.variant) == (name, variant)
        else figure
        for figure in result.figures
    ]
    return result.model_copy(update={"figures": figures})


def with_rates(rates: Rates, **changes: Any) -> Result:
    """A result whose pruned variant ran at these rates."""
    value = sum(rates) / len(rates)
    return changed(make_result(**changes), "throughput", value=value, samples=rates, n=len(rates))


def judged(text: str, a: Result, b: Result, *, strict: bool = False, **how: Any) -> Outcome:
    (condition,) = parse_conditions(text)
    matches = match([a], [b], **how)
    (outcome,) = evaluate(condition, changes_of(matches.pairs), matches, strict=strict)
    return outcome


def names(matches: Matches) -> set[tuple[str, str]]:
    return {(pair.figure, pair.variant) for pair in matches.pairs}


def test_a_result_against_itself_shows_nothing() -> None:
    matches = match([make_result()], [make_result(id="00000002")])
    changes = changes_of(matches.pairs)
    assert {change.found.verdict for change in changes} <= {"no difference shown", "not judged"}
    assert matches.refused == {}
    assert matches.notes == []
    known = [change for change in changes if change.found.difference is not None]
    assert known
    assert all(change.found.difference == 0 for change in known)


def test_a_slower_candidate_is_found_and_a_faster_one_is_none() -> None:
    slower = judged("throughput<-5%", with_rates(_FAST), with_rates(_SLOW))
    assert slower.holds is True
    assert slower.value == pytest.approx(-10)
    assert slower.low is not None
    assert slower.high is not None
    assert slower.low < -10 < slower.high < -5
    assert judged("throughput<-5%", with_rates(_SLOW), with_rates(_FAST)).holds is False


def test_a_bound_inside_the_interval_is_not_shown_but_strict_fails_it() -> None:
    noisy_a = [100.0, 110.0, 90.0, 105.0, 95.0, 100.0]
    noisy_b = [92.0, 82.0, 102.0, 97.0, 87.0, 92.0]
    a, b = with_rates(noisy_a), with_rates(noisy_b)
    assert judged("throughput<-5%", a, b).holds is False
    assert judged("throughput<-5%", a, b, strict=True).holds is True


def test_too_few_runs_cannot_close_a_gate_nor_pass_it() -> None:
    a, b = with_rates([100.0, 100.0]), with_rates([80.0, 81.0])
    outcome = judged("throughput<-5%", a, b)
    assert outcome.holds is None
    assert "at least 5" in outcome.why
    # where the value itself is inside the bound no number of runs is missed
    assert judged("throughput<-50%", a, b).holds is False
    assert judged("throughput<-5%", a, b, strict=True).holds is True


def test_exact_counts_are_judged_by_their_value() -> None:
    a, b = make_result(), changed(make_result(), "total_macs", value=31.2e9 + 1)
    more = judged("total_macs>0", a, b)
    assert (more.holds, more.value, more.low) == (True, 1.0, None)
    assert judged("total_macs>0", a, a).holds is False
    assert judged("total_macs>1%", a, b).holds is False


def test_a_bound_in_the_figures_own_unit_is_the_bound_in_per_cent_of_a() -> None:
    a, b = with_rates(_FAST), with_rates(_SLOW)
    own, relative = judged("throughput<-5", a, b), judged("throughput<-5%", a, b)
    assert own.value == pytest.approx(-10)
    assert (own.low, own.high) == (pytest.approx(relative.low), pytest.approx(relative.high))


def test_predictions_of_the_same_samples_are_tested_as_pairs() -> None:
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 2, 100)
    good = np.where(draw.random(100) < 0.95, labels, 1 - labels)
    bad = np.where(draw.random(100) < 0.7, labels, 1 - labels)

    def result(predicted: np.ndarray, id_: str) -> Result:
        digits = "".join(map(str, predicted))
        saved = Predictions(labels="".join(map(str, labels)), predicted={"pruned": digits})
        value = float((predicted == labels).mean())
        return changed(make_result(id=id_, predictions=saved), "accuracy", value=value)

    a, b = result(good, "0000000a"), result(bad, "0000000b")
    (found,) = [
        change.found
        for change in changes_of(match([a], [b]).pairs)
        if (change.pair.figure, change.pair.variant) == ("accuracy", "pruned")
    ]
    _, expected = compare_predictions("candidate", "baseline", labels, bad, good)
    assert found == expected[0]
    assert found.verdict == "worse"
    assert judged("accuracy<-5pts", a, b).holds is True
    assert judged("accuracy<-0.05", a, b).holds is True


def test_shares_without_predictions_get_the_joined_interval() -> None:
    def result(value: float, low: float, high: float) -> Result:
        interval = Interval(low=low, high=high, method="bootstrap")
        return changed(make_result(), "accuracy", value=value, interval=interval)

    outcome = judged("accuracy<-1pts", result(0.9, 0.87, 0.93), result(0.8, 0.76, 0.84))
    assert outcome.value == pytest.approx(-10)
    assert (outcome.low, outcome.high) == (pytest.approx(-15), pytest.approx(-5))  # 3-4-5
    assert outcome.holds is True


@pytest.mark.parametrize("unit", ["accuracy<-5%", "throughput<-5pts"])
def test_a_unit_that_does_not_fit_is_refused(unit: str) -> None:
    with pytest.raises(ConfigError, match="say"):
        judged(unit, make_result(), make_result())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed<-5%", "'speed' is not in both"),
        ("throughput.ghost<-5%", "no variant 'ghost'"),
        ("energy_gross>5%", "no counter"),
    ],
)
def test_a_condition_on_nothing_never_passes(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        judged(text, make_result(), make_result())


def test_without_a_variant_pruned_is_meant_and_else_every_variant() -> None:
    (condition,) = parse_conditions("total_macs>0")
    a = make_result()
    worse_stock = changed(a, "total_macs", "stock", value=1e12)
    matches = match([a], [worse_stock])
    outcomes = evaluate(condition, changes_of(matches.pairs), matches)
    assert [(o.change.pair.variant, o.holds) for o in outcomes] == [("pruned", False)]
    unpruned = [pair for pair in matches.pairs if pair.variant != "pruned"]
    outcomes = evaluate(condition, changes_of(unpruned), matches)
    assert {o.change.pair.variant: o.holds for o in outcomes} == {"stock": True, "unpruned": False}


OTHERS: dict[str, Callable[[Result], Result]] = {
    "cpu": lambda r: r.model_copy(
        update={"environment": r.environment.model_copy(update={"cpu_model": "other"})}
    ),
    "threads": lambda r: r.model_copy(
        update={"environment": r.environment.model_copy(update={"threads": 9})}
    ),
    "gpu": lambda r: r.model_copy(
        update={"environment": r.environment.model_copy(update={"gpus": [Gpu(name="G", uuid="u")]})}
    ),
    "device": lambda r: r.model_copy(update={"settings": {**r.settings, "device": "cuda"}}),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_times_of_another_machine_are_refused_unless_asked_for(kind: str) -> None:
    a, b = with_rates(_FAST), OTHERS[kind](with_rates(_SLOW))
    matches = match([a], [b])
    assert ("accuracy", "pruned") in names(matches)
    assert ("total_macs", "pruned") in names(matches)
    assert ("throughput", "pruned") not in names(matches)
    with pytest.raises(DataError, match="allow-other-machine"):
        judged("throughput<-5%", a, b)
    assert judged("throughput<-5%", a, b, allow_other_machine=True).holds is True
    assert judged("total_macs>0", a, b).holds is False


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("task", "defect-detection", "other task: A has clone-detection, B has defect-detection"),
        ("model", "big", "other model: A has tiny, B has big"),
        ("head", "standard", "other head"),
        ("split", "valid", "other split"),
        ("data_sha256", "1" * 64, "same samples"),
    ],
)
def test_what_cannot_be_compared_is_named(field: str, value: str, message: str) -> None:
    a = make_result()
    b = make_result(subject=a.subject.model_copy(update={field: value}))
    with pytest.raises(DataError, match=message):
        match([a], [b])


def test_other_batch_sizes_leave_times_out_and_accuracy_in() -> None:
    a, b = make_result(), make_result(settings={"device": "cpu", "batch_size": 1})
    matches = match([a], [b])
    assert ("accuracy", "pruned") in names(matches)
    assert "batch size" in matches.refused["throughput", "pruned"]
    with pytest.raises(DataError, match="batch size"):
        judged("throughput<-5%", a, b)


def test_the_newest_of_several_results_counts() -> None:
    old, new = with_rates(_SLOW, id="0000000a"), with_rates(_FAST, id="0000000b")
    matches = match([old, new], [with_rates(_FAST, id="0000000c")])
    used = {pair.baseline.result.id for pair in matches.pairs if pair.figure == "throughput"}
    assert used == {"0000000b"}


def with_pruning(id_: str, layers: str) -> Result:
    made = make_result(id=id_)
    pruned = made.variants["pruned"].model_copy(update={"pruning": {"layers": layers}})
    return made.model_copy(update={"variants": {**made.variants, "pruned": pruned}})


def test_settings_are_paired_with_their_like() -> None:
    a = [with_pruning("0000000a", "even"), with_pruning("0000000b", "all")]
    b = [with_pruning("0000000c", "all"), with_pruning("0000000d", "even")]
    pairs = [p for p in match(a, b).pairs if (p.figure, p.variant) == ("accuracy", "pruned")]
    found = {(pair.baseline.result.id, pair.candidate.result.id) for pair in pairs}
    assert found == {("0000000a", "0000000d"), ("0000000b", "0000000c")}
    assert all(pair.notes == () for pair in pairs)


def test_one_setting_each_is_compared_with_a_note() -> None:
    matches = match([with_pruning("0000000a", "even")], [with_pruning("0000000b", "all")])
    (pair,) = [p for p in matches.pairs if (p.figure, p.variant) == ("accuracy", "pruned")]
    assert pair.notes == ("other pruning: layers even → layers all",)


def test_settings_without_their_like_are_left_out_and_told() -> None:
    a = [with_pruning("0000000a", "even"), with_pruning("0000000b", "all")]
    matches = match(a, [with_pruning("0000000c", "odd")])
    assert ("accuracy", "pruned") not in names(matches)
    assert any("no partner" in note for note in matches.notes)


def test_families() -> None:
    def figure(name: str, provenance: str) -> Figure:
        fields = {"name": name, "variant": "v", "unit": "1", "value": 1.0, "method": "m"}
        return Figure.model_validate({**fields, "provenance": provenance})

    assert family_of(figure("f1", "measured")) == "metric"
    assert family_of(figure("total_macs", "analytic")) == "exact"
    assert family_of(figure("dispatcher_macs", "counted")) == "exact"
    assert family_of(figure("co2", "modelled")) == "machine"


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("accuracy<-1", "'accuracy<-1pts' or 'accuracy<-0.01'"),
        ("f1.pruned<=-2.5", "'f1.pruned<=-2.5pts' or 'f1.pruned<=-0.025'"),
        ("mcc<-3", "'mcc<-3pts' or 'mcc<-0.03'"),
        ("accuracy<-100pts", "more than 100pts"),
        ("accuracy>1", "'accuracy>1pts'"),
    ],
)
def test_a_bound_that_no_share_can_pass_is_refused(text: str, meant: str) -> None:
    """`accuracy<-1` was taken, and the gate could never close."""
    with pytest.raises(ConfigError) as caught:
        judged(text, *called(text))
    assert meant in str(caught.value)


@pytest.mark.parametrize("text", ["accuracy<-0.5", "accuracy<-99pts", "mcc<-1", "mcc<-150 points"])
def test_a_bound_that_can_be_passed_is_judged(text: str) -> None:
    assert judged(text, *called(text)).holds is False


def called(text: str) -> tuple[Result, Result]:
    """Two results whose accuracy goes by the name of the metric that a condition speaks of."""
    name = parse_conditions(text)[0].figure
    a, b = (changed(make_result(id=i), "accuracy", name=name) for i in ("00000001", "00000002"))
    return a, b
