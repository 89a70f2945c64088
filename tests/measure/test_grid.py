"""Grids of settings: their names, order and chains, and what cannot be read."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from alpine_cli.errors import ConfigError
from alpine_cli.measure.grid import TRUNCATE, Family, GridOptions, chains_of, make_grid, sizes_of
from alpine_cli.measure.grid_options import (
    SWEEP,
    TUNE,
    choose_grid,
    parse_alphas,
    parse_choices,
    parse_keeps,
    parse_layers,
    parse_lengths,
)
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.sweep import plan_unpruned
from alpine_cli.measure.trials import TrialRunner
from alpine_cli.measure.workload import load_workload
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError
from alpine_cli.tasks.batching import BatchLimit


def grid(*families: Family, protects: tuple[str, ...] = ("special",), **how: Any) -> list[Any]:
    base = PruningConfig(engine="padded")
    return make_grid(base, GridOptions(families, protects), **{"num_layers": 4} | how)


def names(*families: Family, **how: Any) -> list[str]:
    return [setting.name for setting in grid(*families, **how)]


def test_every_combination_once_with_the_gentlest_of_a_chain_first() -> None:
    settings = grid(Family("band", (0.5, 1.0, 0.5), ("even", "0,2"), ("mean", "none")))
    assert [setting.name for setting in settings] == [
        "even α=1 mean",
        "even α=0.5 mean",
        "even α=1 none",
        "even α=0.5 none",
        "0,2 α=1 mean",
        "0,2 α=0.5 mean",
        "0,2 α=1 none",
        "0,2 α=0.5 none",
    ]
    assert {setting.pruning.engine for setting in settings} == {"padded"}
    assert [len(chain) for chain in chains_of(settings)] == [2, 2, 2, 2]
    assert sizes_of(settings) == "8 settings in 4 chains: band 8"


def test_names_say_what_departs_from_the_published_rule() -> None:
    assert names(
        Family("floor", (0.5,), scores=("received", "cls")),
        Family("top", (0.6, "0.9,0.7,0.5,0.3"), merges=("nearest",), scores=("cls",)),
        Family("bipartite", (0.625,), merges=("nearest",)),
        Family("random", (0.6,), ("0",)),
        Family("first", (0.6,), merges=("none",)),
        Family(TRUNCATE, (64, 128)),
    ) == [
        "all floor α=0.5 mean",
        "all floor-cls α=0.5 mean",
        "all top-cls 90/70/50/30% nearest",
        "all top-cls 60% nearest",
        "all bipartite 62.5%",
        "0 random 60% mean",
        "all first 60% none",
        "truncate 128",
        "truncate 64",
    ]
    assert "even α=1 mean ends" in names(Family("band", (1.0,), ("even",)), protects=("ends",))


RULES = st.sampled_from(["band", "floor", "top", "bipartite", "random", "first", TRUNCATE])
SHARES = st.floats(0.05, 1.0)


@st.composite
def families(draw: st.DrawFn) -> Family:
    rule = draw(RULES)
    several = {"min_size": 1, "max_size": 3}
    if rule == TRUNCATE:
        return Family(rule, tuple(draw(st.lists(st.integers(3, 511), **several))))
    strengths = SHARES if rule in ("top", "bipartite", "random", "first") else st.floats(0.01, 5)
    merges = ["nearest"] if rule == "bipartite" else ["mean", "none", "nearest"]
    return Family(
        rule,
        tuple(draw(st.lists(strengths, **several))),
        tuple(draw(st.lists(st.sampled_from(["all", "odd", "0", "0,1"]), **several))),
        tuple(draw(st.lists(st.sampled_from(merges), **several))),
        tuple(draw(st.lists(st.sampled_from(["received", "cls"]), **several))),
    )


@given(
    st.lists(families(), min_size=1, max_size=4),
    st.sampled_from([("special",), ("special", "ends")]),
)
def test_names_tell_all_settings_apart(rows: list[Family], protects: tuple[str, ...]) -> None:
    settings = grid(*rows, protects=protects)
    assert len({setting.name for setting in settings}) == len(settings)
    for chain in chains_of(settings):
        assert len({(one.rule, one.pruning.layers, one.pruning.merge) for one in chain}) == 1
    wanted = sum(
        len(set(row.strengths))
        if row.rule == TRUNCATE
        else len(protects)
        * np.prod([len(set(part)) for part in (row.strengths, row.layers, row.merges, row.scores)])
        for row in rows
    )
    assert len(settings) <= wanted


@pytest.fixture(scope="module")
def runner(subject: tuple[Path, Path]) -> TrialRunner:
    options = MeasureOptions(subject[0], batch_size=24, device="cpu", threads=1)
    return TrialRunner(load_workload(plan_unpruned(options).request), BatchLimit(1), None)


SCHEDULES = st.tuples(SHARES, SHARES).map(sorted)


@given(
    rule=RULES,
    shares=SCHEDULES,
    first=SCHEDULES,
    alphas=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)).map(sorted),
    merge=st.sampled_from(["mean", "none", "nearest"]),
    layers=st.sampled_from(["all", "odd", "0,2"]),
    lengths=st.tuples(st.integers(3, 63), st.integers(3, 63)),
)
@examples(max_examples=25, deadline=None)
def test_a_chain_runs_from_the_gentlest_on(
    runner: TrialRunner,
    rule: str,
    shares: list[float],
    first: list[float],
    alphas: list[float],
    merge: str,
    layers: str,
    lengths: tuple[int, int],
) -> None:
    """Measured multiply-adds never rise along a chain.

    Where tokens stay by their scores this holds for one pruned layer: what a second one judges
    depends on what the first one left.
    """
    if rule == TRUNCATE:
        row = Family(rule, lengths)
    elif rule in ("band", "floor"):
        row = Family(rule, tuple(alphas), ("1",), (merge,))
    else:
        keeps: list[float | str] = [*shares]
        if layers != "all":  # two layers: schedules of which one is below the other
            keeps = [f"{first[at]},{shares[at]}" for at in (0, 1)]
        row = Family(rule, tuple(keeps), (layers,), ("nearest" if rule == "bipartite" else merge,))
    settings = grid(row, max_length=64)
    assert len(chains_of(settings)) == 1
    costs = [sum(runner.run(setting).macs) for setting in settings]
    assert costs == sorted(costs, reverse=True)


@pytest.mark.parametrize(
    "family",
    [
        Family("band", (0.0,)),
        Family("floor", (float("nan"),)),
        Family("top", (0.0,)),
        Family("top", (1.5,)),
        Family("bipartite", (0.5,)),
    ],
    ids=str,
)
def test_a_setting_that_does_not_fit_the_model_is_refused(family: Family) -> None:
    with pytest.raises(PruningError):
        grid(family)


@pytest.mark.parametrize(
    ("family", "message"),
    [
        (Family("band", (1.0,), ("0,9",)), "--layers: index 9 is out of range"),
        (Family("top", ("0.9,0.8",)), "--keeps: 0.9/0.8 has 2 shares, but --layers all prunes 4"),
        (Family("top", ("0.9,0.8",), ("0",)), "--layers 0 prunes 1"),
    ],
    ids=str,
)
def test_layers_that_do_not_fit_are_told_as_they_were_typed(family: Family, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        grid(family)


@pytest.mark.parametrize("length", [2, 512, 600])
def test_a_truncation_that_cuts_nothing_or_all_is_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=f"--lengths.*{length}"):
        grid(Family(TRUNCATE, (length,)))
    assert names(Family(TRUNCATE, (length, 64), optional=True)) == ["truncate 64"]


def test_options_are_read() -> None:
    assert parse_alphas("0.5, 1,1.5") == [0.5, 1.0, 1.5]
    assert parse_keeps("0.9, 0.9/0.5") == [0.9, "0.9,0.5"]
    assert parse_lengths("64, 128") == [64, 128]
    assert parse_layers(["odd,even", " 0, 2", "all"]) == ["odd", "even", "0,2", "all"]
    assert parse_choices("mean, none", "--merges") == ["mean", "none"]
    assert parse_choices("received,cls", "--scores") == ["received", "cls"]
    assert parse_choices("ends", "--protect") == ["ends"]


@pytest.mark.parametrize(
    ("read", "text", "named"),
    [
        (parse_alphas, "0.5,,1", "a number is missing"),
        (parse_alphas, "half", "'half'"),
        (parse_keeps, "0.9/", "a number is missing"),
        (parse_keeps, "most", "'most'"),
        (parse_lengths, "64,1e2", "'1e2'"),
        (lambda text: parse_layers([text]), "all,0", "'all,0'"),
        (lambda text: parse_layers([text]), "none", "'none'"),
        (lambda text: parse_layers([text]), "", "''"),
        (lambda text: parse_choices(text, "--merges"), "mean,sum", "'sum'"),
        (lambda text: parse_choices(text, "--protect"), "first", "'first'"),
        (lambda text: choose_grid(SWEEP, rules=text), "band,best", "'best'"),
        (lambda text: choose_grid(TUNE, rules=text), "truncate", "'truncate'"),
        (lambda text: choose_grid(SWEEP, rules="top,truncate", alphas=text), "1", "--alphas"),
        (lambda text: choose_grid(SWEEP, rules="band", keeps=text), "0.5", "--keeps"),
        (lambda text: choose_grid(SWEEP, rules="bipartite", merges=text), "none", "--merges"),
        (lambda text: choose_grid(SWEEP, rules="random", scores=text), "cls", "--scores"),
    ],
)
def test_what_cannot_be_read_is_named(read: Any, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read(text)


def test_an_option_changes_the_rows_it_has_a_meaning_for() -> None:
    chosen = choose_grid(SWEEP, keeps="0.7", layers=["even"], merges="mean")
    by_rule = {family.rule: family for family in chosen.families}
    default = {family.rule: family for family in SWEEP}
    assert set(by_rule) == set(default)
    assert by_rule["top"] == Family("top", (0.7,), ("even",), ("mean",))
    assert by_rule["bipartite"].merges == ("nearest",)
    assert by_rule["band"].strengths == default["band"].strengths
    assert by_rule[TRUNCATE] == default[TRUNCATE]
    assert chosen.protects is None


def test_defaults_fit_small_and_large_models_and_controls_run_only_when_named() -> None:
    for defaults, layers, length in ((SWEEP, 4, 64), (SWEEP, 12, 512), (TUNE, 12, 512)):
        settings = grid(*choose_grid(defaults).families, num_layers=layers, max_length=length)
        assert len({setting.name for setting in settings}) == len(settings)
    asked = choose_grid(TUNE, without=("random", "first"))
    assert not {family.rule for family in asked.families} & {"random", "first"}
    named = choose_grid(TUNE, rules="random", without=("random", "first"))
    assert [family.rule for family in named.families] == ["random"]
