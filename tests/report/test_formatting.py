"""Numbers as people read them."""

from __future__ import annotations

import pytest

from alpine_cli.report.formatting import Scale, format_ratio, format_value, scale_for
from alpine_cli.results import Comparison, Interval


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1234567, "1,234,567"),
        (48.32, "48.3"),
        (999.6, "1000"),
        (0.0198, "0.0198"),
        (-0.5, "-0.500"),
        (3e-7, "3.00e-07"),
    ],
)
def test_format_value(value: float, text: str) -> None:
    assert format_value(value) == text


@pytest.mark.parametrize(
    ("unit", "values", "name", "text"),
    [
        ("MACs", [48.32e9, 31e9], "GMACs", "48.3"),
        ("bytes", [3 * 2**20], "MiB", "3.00"),
        ("share", [0.944], "%", "94.4"),
        ("1", [0.83], "", "0.830"),
        ("J", [0.0123], "mJ", "12.3"),
        ("J", [5.0], "J", "5.00"),
        ("samples/s", [69.3], "samples/s", "69.3"),
        ("FLOPs", [0.0, None], "FLOPs", "0"),
    ],
)
def test_one_scale_for_a_row(unit: str, values: list[float | None], name: str, text: str) -> None:
    scale = scale_for(unit, values)
    assert scale.unit == name
    assert scale.text(values[0]) == text


def test_nothing_known_is_a_dash() -> None:
    assert scale_for("MACs", [None]).text(None) == "-"


def compare(**fields: object) -> Comparison:
    common = {"figure": "f", "variant": "a", "baseline": "b", "verdict": "better", "method": "m"}
    return Comparison.model_validate(common | fields)


def test_ratios_and_differences() -> None:
    interval = Interval(low=0.6, high=0.63, method="x")
    assert (
        format_ratio(compare(ratio=0.62, interval=interval), Scale(1, "s")) == "0.62 [0.60, 0.63]"
    )
    assert format_ratio(compare(ratio=0.001), Scale(1, "s")) == "0.001"
    assert format_ratio(compare(), Scale(1, "s")) == "-"
    between = Interval(low=-0.08, high=0.03, method="x")
    change = compare(difference=-0.02, difference_interval=between)
    assert format_ratio(change, Scale(0.01, "%")) == "-2.0 pts [-8.0, +3.0]"
    assert format_ratio(change, Scale(1, "")) == "-0.02 [-0.08, +0.03]"
