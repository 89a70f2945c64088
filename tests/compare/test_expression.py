"""The grammar of --fail-if: what it reads, and where it points when it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.compare.expression import Condition, parse_conditions
from alpine_cli.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "figure", "variant", "operator", "bound", "unit"),
    [
        ("throughput<-5%", "throughput", None, "<", -5.0, "%"),
        (" latency > +3 % ", "latency", None, ">", 3.0, "%"),
        ("accuracy<-0.5pts", "accuracy", None, "<", -0.5, "pts"),
        ("accuracy<=-1pt", "accuracy", None, "<=", -1.0, "pts"),
        ("total_macs>0", "total_macs", None, ">", 0.0, ""),
        ("latency.unpruned >= 1e-3", "latency", "unpruned", ">=", 0.001, ""),
        ("f1.0,2 α=0.5 mean<-.5pts", "f1", "0,2 α=0.5 mean", "<", -0.5, "pts"),
    ],
)
def test_one_condition(
    text: str, figure: str, variant: str | None, operator: str, bound: float, unit: str
) -> None:
    assert parse_conditions(text) == [
        Condition(text.strip(), figure, variant, operator, bound, unit)  # type: ignore[arg-type]
    ]


def test_several_conditions_joined_by_commas() -> None:
    found = parse_conditions("throughput<-5%, latency.a b>+3%,total_macs>0")
    assert [c.text for c in found] == ["throughput<-5%", "latency.a b>+3%", "total_macs>0"]


@pytest.mark.parametrize(
    ("text", "position", "expected"),
    [
        ("", 1, "the name of a figure"),
        ("5<throughput", 1, "the name of a figure"),
        ("throughput", 11, "< <= > >="),
        ("throughput -5%", 12, "< <= > >="),
        ("throughput=-5%", 11, "< <= > >="),
        ("throughput<", 12, "a number"),
        ("throughput<five", 12, "a number"),
        ("throughput<1e999", 12, "a finite number"),
        ("throughput.<-5%", 12, "the name of a variant"),
        ("throughput.  <-5%", 14, "the name of a variant"),
        ("throughput<-5%,", 16, "the name of a figure"),
        ("throughput<-5% latency>3%", 16, "a comma"),
        ("throughput<-5ms", 14, "a comma"),
    ],
)
def test_an_error_points_at_its_place(text: str, position: int, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_conditions(text)
    message, shown, arrow = str(caught.value).split("\n")
    assert expected in message
    assert message.endswith(f"at position {position}:")
    assert shown == f"  {text}"
    assert arrow.index("^") == position + 1  # two blanks before both lines


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        conditions = parse_conditions(text)
    except ConfigError:
        return
    for condition in conditions:
        assert parse_conditions(condition.text) == [condition]


@pytest.mark.parametrize(
    ("operator", "met"), [("<", [-6]), ("<=", [-6, -5]), (">", [-4]), (">=", [-5, -4])]
)
def test_operators(operator: str, met: list[float]) -> None:
    (condition,) = parse_conditions(f"throughput{operator}-5%")
    assert [change for change in (-6, -5, -4) if condition.met_by(change)] == met


def test_the_documented_conditions_are_read() -> None:
    text = (Path(__file__).parents[2] / "docs" / "compare.md").read_text("utf-8")
    expressions = re.findall(r"--fail-if '([^']+)'", text)
    assert expressions
    for expression in expressions:
        assert len(parse_conditions(expression)) == 3
