"""--prune FIELD=VALUE: any field of the pruning, typed, and what is no field is told."""

from __future__ import annotations

import pytest

from alpine_cli.cli._measuring import pruning_fields
from alpine_cli.errors import ConfigError
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.presets import preset_fields


def test_values_are_typed() -> None:
    given = ["rule=top", "keep=0.6", "layers=none", "output=first"]
    expected = {"rule": "top", "keep": 0.6, "layers": "none", "output": "first"}
    assert pruning_fields(given) == expected
    assert pruning_fields(["keep=0.9,0.5"]) == {"keep": "0.9,0.5"}
    assert pruning_fields([]) is None
    assert pruning_fields(None) is None


def test_a_preset_is_spelt_out_beneath_what_else_is_said() -> None:
    found = pruning_fields(["keep=0.8", "preset=alpine-plus"])
    assert found == {**preset_fields("alpine-plus"), "keep": 0.8}
    assert PruningConfig.from_dict(found).rule == "bipartite"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["keep"], "--prune keep: must be FIELD=VALUE"),
        (["colour=red"], "with a field of layers, alpha"),
        (["keep=1", "keep=0.5"], "keep is given twice"),
        (["keep=["], "not a YAML value"),
        (["preset=alpine+"], "--prune preset: must be one of alpine, alpine-plus (got 'alpine+')"),
    ],
)
def test_bad_assignments(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pruning_fields(given)
    assert message in str(caught.value)
