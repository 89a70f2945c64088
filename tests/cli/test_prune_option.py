"""--prune FIELD=VALUE: any field of the pruning, typed, and what is no field is told."""

from __future__ import annotations

import pytest

from alpine_cli.cli._measuring import pruning_fields
from alpine_cli.errors import ConfigError


def test_values_are_typed() -> None:
    given = ["rule=top", "keep=0.6", "layers=none", "output=first"]
    expected = {"rule": "top", "keep": 0.6, "layers": "none", "output": "first"}
    assert pruning_fields(given) == expected
    assert pruning_fields(["keep=0.9,0.5"]) == {"keep": "0.9,0.5"}
    assert pruning_fields([]) is None
    assert pruning_fields(None) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["keep"], "--prune keep: must be FIELD=VALUE"),
        (["colour=red"], "with a field of layers, alpha"),
        (["keep=1", "keep=0.5"], "keep is given twice"),
        (["keep=["], "not a YAML value"),
    ],
)
def test_bad_assignments(given: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        pruning_fields(given)
    assert message in str(caught.value)
