"""Which results are averaged over seeds, and that the mean and its interval are right."""

from __future__ import annotations

import math
import statistics as plain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from alpine_cli.report.aggregate import group_seeds, pool, pool_comparison, pool_figure
from alpine_cli.results import Result
from tests.report.made import make_result

RATIOS = st.lists(st.floats(0.05, 20), min_size=2, max_size=8)


def seeded(seed: int | None, speed: float = 1.0, **changes: Any) -> Result:
    """A result of a checkpoint of its own, whose pruned variant is `speed` times as fast."""
    base = make_result(id=f"{(seed or 0) + 1:08x}", **changes)
    sha = f"{(seed if seed is not None else 77):064x}"
    variants = {
        name: variant.model_copy(update={"training_seed": seed, "checkpoint_sha256": sha})
        for name, variant in base.variants.items()
    }
    figures = [
        f.model_copy(update={"value": (f.value or 0) * speed})
        if (f.name, f.variant) == ("throughput", "pruned")
        else f
        for f in base.figures
    ]
    comparisons = [
        c.model_copy(update={"ratio": (c.ratio or 0) * speed})
        if (c.figure, c.variant, c.baseline) == ("throughput", "pruned", "unpruned")
        else c
        for c in base.comparisons
    ]
    return base.model_copy(
        update={"variants": variants, "figures": figures, "comparisons": comparisons}
    )


@given(RATIOS)
def test_the_interval_of_ratios_is_students_on_the_log(ratios: list[float]) -> None:
    logs = [math.log(ratio) for ratio in ratios]
    mean, error = plain.fmean(logs), plain.stdev(logs) / math.sqrt(len(logs))
    pooled = pool(ratios, on_log=True)
    assert pooled.value == pytest.approx(plain.geometric_mean(ratios))
    assert pooled.interval is not None
    if error > 1e-9:
        low, high = stats.t.interval(0.95, len(logs) - 1, loc=mean, scale=error)
        assert pooled.interval.low == pytest.approx(math.exp(low), rel=1e-6)
        assert pooled.interval.high == pytest.approx(math.exp(high), rel=1e-6)


@given(RATIOS)
def test_swapping_variant_and_baseline_only_turns_the_result_over(ratios: list[float]) -> None:
    there = pool(ratios, on_log=True)
    back = pool([1 / ratio for ratio in ratios], on_log=True)
    assert there.value is not None
    assert there.interval is not None
    assert back.interval is not None
    assert back.value == pytest.approx(1 / there.value, rel=1e-9)
    assert back.interval.low == pytest.approx(1 / there.interval.high, rel=1e-6)


def test_plain_values_have_the_textbook_interval() -> None:
    # mean 90, s = 1, n = 3: 4.3027 / sqrt(3) = 2.4841
    pooled = pool([89.0, 90.0, 91.0])
    assert pooled.value == 90.0
    assert pooled.interval is not None
    assert pooled.interval.low == pytest.approx(90 - 2.4841, abs=1e-4)
    assert pooled.interval.method == "t interval over 3 fine-tuning seeds"


def test_one_seed_has_a_value_but_no_interval() -> None:
    pooled = pool([1.5], on_log=True)
    assert (pooled.value, pooled.interval) == (pytest.approx(1.5), None)
    assert pooled.reason == "one seed: no interval"


def test_ratios_must_be_positive() -> None:
    with pytest.raises(ValueError, match="positive"):
        pool([0.0, 1.0], on_log=True)
    with pytest.raises(ValueError, match="no values"):
        pool([])


def test_seeds_of_one_setting_form_a_group_with_a_verdict() -> None:
    results = [seeded(1, 1.00), seeded(2, 1.04), seeded(3, 0.97)]
    (group,), remarks = group_seeds(results)
    assert list(group.by_seed) == [1, 2, 3]
    assert remarks == []
    speed = pool_comparison(group, "throughput")
    assert speed.value == pytest.approx(1.5 * (1.00 * 1.04 * 0.97) ** (1 / 3))
    assert (speed.verdict, speed.n, speed.provenance) == ("better", 3, "measured")
    accuracy = pool_comparison(group, "accuracy")
    assert accuracy.value == pytest.approx(-0.02)  # a difference, not a ratio
    rate = pool_figure(group, "throughput", "pruned")
    assert rate.value == pytest.approx(90 * (1.00 + 1.04 + 0.97) / 3)


def test_a_seed_measured_twice_counts_once() -> None:
    again = seeded(1, 4.0).model_copy(update={"id": "000000ff"})
    (group,), _ = group_seeds([seeded(1, 1.0), again, seeded(2, 2.0)])
    speed = pool_comparison(group, "throughput")
    assert speed.n == 2
    assert speed.value == pytest.approx(1.5 * 2.0)  # both seeds: geometric mean 2


def test_what_differs_in_more_than_the_seed_is_told_apart() -> None:
    other_batch = seeded(2, settings={"device": "cpu", "batch_size": 8})
    groups, remarks = group_seeds([seeded(1), other_batch])
    assert groups == []
    assert remarks == ["tiny, clone-detection: 2 settings, told apart by batch size"]


@pytest.mark.parametrize(
    "field", ["model", "task", "data_sha256", "split"], ids=lambda field: str(field)
)
def test_mixed_subjects_are_never_averaged(field: str) -> None:
    second = seeded(2)
    changed = second.subject.model_copy(update={field: "f" * 64})
    groups, _ = group_seeds([seeded(1), second.model_copy(update={"subject": changed})])
    assert groups == []


def test_unknown_and_ambiguous_seeds_are_named() -> None:
    groups, remarks = group_seeds([seeded(None), seeded(1)])
    assert groups == []
    assert "the seed of at least one fine-tuning is unknown" in remarks[0]
    twin = seeded(1)
    other = {
        name: variant.model_copy(update={"checkpoint_sha256": "e" * 64})
        for name, variant in twin.variants.items()
    }
    twin = twin.model_copy(update={"variants": other, "id": "000000ee"})
    groups, remarks = group_seeds([seeded(1), twin])
    assert groups == []
    assert remarks == [
        "tiny, clone-detection, even, α 1: not averaged: seed 1 stands for 2 different checkpoints"
    ]


def test_measured_and_modelled_energy_are_not_mixed() -> None:
    def with_energy(result: Result, provenance: str) -> Result:
        figures = [
            f.model_copy(update={"value": 2.0, "reason": None, "provenance": provenance})
            if f.name == "energy_gross"
            else f
            for f in result.figures
        ]
        return result.model_copy(update={"figures": figures})

    (group,), _ = group_seeds(
        [with_energy(seeded(1), "measured"), with_energy(seeded(2), "modelled")]
    )
    pooled = pool_figure(group, "energy_gross", "pruned")
    assert pooled.value is None
    assert pooled.reason == "measured and modelled are not averaged"
    assert pool_figure(group, "nonsense", "pruned").reason == "not in any of these results"


def test_a_figure_missing_in_some_seeds_says_so() -> None:
    second = seeded(2)
    lacking = second.model_copy(
        update={"comparisons": [c for c in second.comparisons if c.figure != "throughput"]}
    )
    (group,), _ = group_seeds([seeded(1), lacking, seeded(3)])
    assert pool_comparison(group, "throughput").reason == "in 2 of 3 seeds only"
