"""What the two pages of `alpine show` share: their assets, and the geometry of small charts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from markupsafe import Markup

from alpine_cli.report.page import template_environment

__all__ = ["Bar", "asset", "bars", "render"]


@cache
def asset(name: str) -> str:
    """The text of a file in `show/assets`."""
    return resources.files("alpine_cli.show").joinpath("assets", name).read_text("utf-8")


def render(name: str, **values: Any) -> Markup:
    """Fill a template of `show/assets`; everything that is not Markup is escaped."""
    return Markup(template_environment().from_string(asset(name)).render(**values))


@dataclass(frozen=True)
class Bar:
    """An upright bar in the units of a chart's viewBox; `label` stands below, `value` above."""

    x: float
    y: float
    width: float
    height: float
    label: str
    value: str
    marked: bool


def bars(
    values: Sequence[int], labels: Sequence[str], marked: Sequence[bool], height: float, step: float
) -> list[Bar]:
    """Bars on a common base line at y = `height`, from 0 to the largest value."""
    most = max([*values, 1])
    return [
        Bar(
            x=at * step,
            y=round(height * (1 - value / most), 2),
            width=step - 4,
            height=round(height * value / most, 2),
            label=label,
            value=f"{value:,}",
            marked=mark,
        )
        for at, (value, label, mark) in enumerate(zip(values, labels, marked, strict=True))
    ]
