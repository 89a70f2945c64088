"""`alpine doctor`: what this machine can measure or only model, and how to enable the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from alpine_cli.cli._common import JsonOption, console, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from alpine_cli.measure.doctor import Finding

__all__ = ["doctor"]

# Colour never carries the meaning: every state has a sign and a word of its own.
_SIGNS = {
    "good": ("✓", "good", "green"),
    "modelled": ("~", "modelled", "yellow"),
    "absent": ("–", "absent", "dim"),
    "mind": ("!", "mind", "yellow"),
    "broken": ("✗", "broken", "bold red"),
}
_TITLES = {
    "energy": "Energy and CO2",
    "machine": "The machine",
    "software": "Software",
}


def doctor(json_: JsonOption = False) -> None:
    """Tell what this machine can measure, what it can only model, and how to
    enable the rest.

    Looks at energy meters (NVML, RAPL, codecarbon), processor, clocks and
    load, GPUs, and the versions of what alpine needs. Changes nothing and
    asks no network. Exits with 1 only if something is broken that alpine
    needs.

        alpine doctor

        alpine doctor --json | jq '.findings[] | select(.state != "good")'
    """
    from alpine_cli.measure.doctor import examine

    findings = examine()
    broken = sum(found.state == "broken" for found in findings)
    if json_:
        print_json({"findings": [asdict(found) for found in findings], "broken": broken})
    else:
        _show(findings)
    if broken:
        raise typer.Exit(1)


def _show(findings: Sequence[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    out = console()
    for topic, title in _TITLES.items():
        table = Table(
            title=title,
            title_justify="left",
            title_style="bold",
            box=None,
            show_header=False,
            pad_edge=False,
        )
        table.add_column(no_wrap=True)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for found in (one for one in findings if one.topic == topic):
            sign, word, style = _SIGNS[found.state]
            told = Text(found.text)
            if found.remedy is not None:
                told.append(f"\n→ {found.remedy}", style="cyan")
            table.add_row(Text(f"{sign} {word}", style=style), Text(found.name), told)
        out.print(table)
        out.print()
