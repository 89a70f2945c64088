"""Grids of settings: their names, order and chains, and what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from alpine_cli.errors import ConfigError
from alpine_cli.measure.grid import (
    chains_of,
    make_grid,
    parse_alphas,
    parse_choices,
    parse_layers,
)
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError


def grid(**changes: Any) -> list[Any]:
    how: dict[str, Any] = {
        "alphas": [0.5, 1.0],
        "layers": ["even", "0,2"],
        "merges": ["mean"],
        "protects": ["special"],
        "num_layers": 4,
    }
    return make_grid(PruningConfig(engine="padded"), **how | changes)


def test_every_combination_once_with_the_gentlest_of_a_chain_first() -> None:
    settings = grid(alphas=[0.5, 1.0, 0.5], merges=["mean", "none"])
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
    chains = chains_of(settings)
    assert [len(chain) for chain in chains] == [2, 2, 2, 2]
    assert all(chain[0].pruning.alpha > chain[1].pruning.alpha for chain in chains)


def test_names_tell_all_settings_apart() -> None:
    settings = grid(protects=["special", "ends"], merges=["mean", "none"])
    assert len({setting.name for setting in settings}) == len(settings) == 16
    assert "even α=1 mean ends" in {setting.name for setting in settings}


@pytest.mark.parametrize(
    "changes", [{"layers": ["0,9"]}, {"alphas": [0.0]}, {"alphas": [float("nan")]}], ids=str
)
def test_a_setting_that_does_not_fit_the_model_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(PruningError):
        grid(**changes)


def test_options_are_read() -> None:
    assert parse_alphas("0.5, 1,1.5") == [0.5, 1.0, 1.5]
    assert parse_layers(["odd,even", " 0, 2", "all"]) == ["odd", "even", "0,2", "all"]
    assert parse_choices("mean, none", "--merges") == ["mean", "none"]
    assert parse_choices("ends", "--protect") == ["ends"]


@pytest.mark.parametrize(
    ("read", "text", "named"),
    [
        (parse_alphas, "0.5,,1", "''"),
        (parse_alphas, "half", "'half'"),
        (lambda text: parse_layers([text]), "all,0", "'all,0'"),
        (lambda text: parse_layers([text]), "none", "'none'"),
        (lambda text: parse_layers([text]), "", "''"),
        (lambda text: parse_choices(text, "--merges"), "mean,sum", "'sum'"),
        (lambda text: parse_choices(text, "--protect"), "first", "'first'"),
    ],
)
def test_what_cannot_be_read_is_named(read: Any, text: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        read(text)
