"""Conditions of `alpine compare --fail-if`, from text.

    conditions = condition { "," condition }
    condition  = FIGURE [ "." VARIANT ] ( "<" | "<=" | ">" | ">=" ) NUMBER [ "%" | "pts" ]

"pt", "point" and "points" are read as "pts".

A condition speaks of the *change* of the candidate B against the baseline A:

    throughput<-5%           relative change, B / A - 1
    accuracy<-0.5pts         difference of a share or of MCC, in points of 0.01
    total_macs>0             difference in the figure's own unit
    latency.unpruned>+3%     of this variant; without one, see `judge.evaluate`

A variant's name runs up to the operator, so it may hold blanks, points and commas ("0,2 α=0.5").
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal, NoReturn, cast

from alpine_cli.errors import ConfigError

__all__ = ["Condition", "Operator", "Unit", "parse_conditions"]

Operator = Literal["<", "<=", ">", ">="]
Unit = Literal["", "%", "pts"]

_BLANKS = re.compile(r"\s*")
_FIGURE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_VARIANT = re.compile(r"[^<>]+")
_OPERATOR = re.compile(r"<=|>=|<|>")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_UNIT = re.compile(r"%|p(?:oin)?ts?\b")


@dataclass(frozen=True)
class Condition:
    """One condition: the gate closes where it holds.

    Attributes:
        text: as typed.
        figure: name of the figure.
        variant: name of the variant, or None.
        operator: how the change is set against the bound.
        bound: in `unit`.
        unit: "%" of A's value, "pts" (0.01 of a share or of MCC), "" the figure's own unit.
    """

    text: str
    figure: str
    variant: str | None
    operator: Operator
    bound: float
    unit: Unit

    def met_by(self, change: float) -> bool:
        """Whether a change, in `unit`, is beyond the bound."""
        match self.operator:
            case "<":
                return change < self.bound
            case "<=":
                return change <= self.bound
            case ">":
                return change > self.bound
            case ">=":
                return change >= self.bound


def parse_conditions(text: str) -> list[Condition]:
    """Read one or several conditions joined by commas.

    Raises:
        ConfigError: `text` is none; the message points at the place.
    """
    scanner = _Scanner(text)
    conditions = [_condition(scanner)]
    while not scanner.at_end:
        scanner.take(re.compile(","), "a comma and another condition, or the end")
        conditions.append(_condition(scanner))
    return conditions


def _condition(scanner: _Scanner) -> Condition:
    scanner.skip_blanks()
    start = scanner.at
    figure = scanner.take(_FIGURE, "the name of a figure, e.g. throughput")
    variant = None
    if scanner.peek("."):
        scanner.at += 1
        variant = scanner.take(_VARIANT, "the name of a variant, e.g. pruned").strip()
        if not variant:
            scanner.fail("the name of a variant, e.g. pruned")
    operator = scanner.take(_OPERATOR, "one of < <= > >=")
    before = scanner.at
    bound = float(scanner.take(_NUMBER, "a number, e.g. -5%"))
    if not math.isfinite(bound):
        scanner.at = before
        scanner.fail("a finite number")
    unit = scanner.take_if(_UNIT)
    return Condition(
        text=scanner.text[start : scanner.at].strip(),
        figure=figure,
        variant=variant,
        operator=cast(Operator, operator),
        bound=bound,
        unit="pts" if unit.startswith("p") else cast(Unit, unit),
    )


class _Scanner:
    """Takes pieces off a text from left to right and knows where it stands."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    @property
    def at_end(self) -> bool:
        self.skip_blanks()
        return self.at == len(self.text)

    def skip_blanks(self) -> None:
        found = _BLANKS.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def peek(self, character: str) -> bool:
        self.skip_blanks()
        return self.text.startswith(character, self.at)

    def take_if(self, pattern: re.Pattern[str]) -> str:
        self.skip_blanks()
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def take(self, pattern: re.Pattern[str], expected: str) -> str:
        return self.take_if(pattern) or self.fail(expected)

    def fail(self, expected: str) -> NoReturn:
        shown = self.text.replace("\t", " ").replace("\n", " ")
        raise ConfigError(
            f"--fail-if: expected {expected} at position {self.at + 1}:\n"
            f"  {shown}\n  {' ' * self.at}^"
        )
