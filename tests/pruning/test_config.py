"""PruningConfig: what it accepts, how it resolves, and that it says which field is wrong."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.pruning.config import PruningConfig, laid_over
from alpine_cli.pruning.errors import PruningError


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        ("none", 12, ()),
        ("none", 0, ()),
        ("all", 3, (0, 1, 2)),
        ("even", 12, (0, 2, 4, 6, 8, 10)),
        ("odd", 12, (1, 3, 5, 7, 9, 11)),
        ("even", 1, (0,)),
        ("5, 0,2", 6, (0, 2, 5)),
    ],
)
def test_layers_resolve(layers: str, depth: int, expected: tuple[int, ...]) -> None:
    assert PruningConfig(layers=layers).resolve(depth) == expected


@pytest.mark.parametrize(
    ("layers", "depth", "message"),
    [
        ("0,12", 12, "index 12 is out of range: the encoder has 12"),
        ("even", 0, "selects no layer of an encoder with 0 layer"),
        ("odd", 1, "selects no layer of an encoder with 1 layer"),
        ("all", 0, "selects no layer"),
    ],
)
def test_layers_that_do_not_fit_the_encoder(layers: str, depth: int, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        PruningConfig(layers=layers).resolve(depth)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("layers", "2,2", "2 is listed more than once"),
        ("layers", "evn", "'evn' is neither a layer index nor one of"),
        ("layers", "", "neither a layer index"),
        ("layers", "-1", "neither a layer index"),
        ("layers", "0,٣", "neither a layer index"),
        ("layers", None, "layers: must be"),
        ("alpha", 0.0, "alpha: must be finite and > 0"),
        ("alpha", -1.0, "alpha: must be finite and > 0"),
        ("alpha", math.nan, "alpha: must be finite and > 0"),
        ("alpha", math.inf, "alpha: must be finite and > 0"),
        ("alpha", "1", "alpha: must be a number"),
        ("alpha", True, "alpha: must be a number"),
        ("merge", "max", "merge: must be one of mean, none"),
        ("protect", "cls", "protect: must be one of special, ends"),
        ("engine", "fast", "engine: must be one of packed, padded, reference"),
    ],
)
def test_bad_fields_are_named(field: str, value: object, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        PruningConfig(**{field: value})  # type: ignore[arg-type]


@given(
    layers=st.sampled_from(["none", "all", "odd", "even", "0,3"]),
    alpha=st.floats(1e-3, 10),
    merge=st.sampled_from(["mean", "none"]),
    protect=st.sampled_from(["special", "ends"]),
)
def test_round_trip(layers: str, alpha: float, merge: str, protect: str) -> None:
    config = PruningConfig(layers, alpha, merge, protect)  # type: ignore[arg-type]
    assert PruningConfig.from_dict(config.to_dict()) == config


def test_older_files_take_defaults_and_unknown_settings_are_refused() -> None:
    assert PruningConfig.from_dict({"layers": "all"}) == PruningConfig(layers="all")
    with pytest.raises(PruningError, match="unknown pruning setting 'beta'"):
        PruningConfig.from_dict({"beta": 1})


def test_a_stored_share_goes_where_the_rule_laid_over_it_takes_none() -> None:
    stored = PruningConfig(layers="all", rule="top", keep=0.6).to_dict()
    assert PruningConfig.from_dict(laid_over(stored, {"rule": "floor"})).keep == 1.0
    assert laid_over(stored, {"rule": "random"})["keep"] == 0.6
    assert laid_over(stored, {"layers": "odd"}) == {**stored, "layers": "odd"}
    with pytest.raises(PruningError, match="takes no share"):
        PruningConfig.from_dict(laid_over(stored, {"rule": "floor", "keep": 0.5}))


def test_the_configuration_imports_no_torch() -> None:
    code = (
        "import sys; import alpine_cli; alpine_cli.PruningConfig(layers='even');"
        "assert 'torch' not in sys.modules and 'transformers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
