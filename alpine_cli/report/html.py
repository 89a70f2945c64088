"""The report as one self-contained HTML page: tables that sort, figures in the page's colours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from markupsafe import Markup

from alpine_cli.report.document import Document
from alpine_cli.report.inline_svg import inline_svg
from alpine_cli.report.page import asset, page, template_environment
from alpine_cli.report.pictures import Picture, slug
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.report.tidy import environment_rows
from alpine_cli.results import Result

__all__ = ["to_html"]

_TITLE = "Results of alpine"


def to_html(document: Document, directory: Path) -> str:
    """The page.

    Args:
        document: what to show.
        directory: where the SVG files of its pictures are.
    """
    environment = template_environment().overlay()
    environment.filters = {**environment.filters, "unbroken": _unbroken, "anchor": slug}
    sections = document.sections
    pictures = [p for chapter in document.chapters for p in chapter.pictures]
    pictures += [p for section in sections for p in section.pictures]
    body = environment.get_template("report.html").render(
        document=document,
        span=_span([section.result for section in sections]),
        drawings={(p.name, p.about): _drawing(p, directory) for p in pictures},
        facts={section.result.id: _facts(section.result) for section in sections},
        commands={s.result.id: shlex.join(s.result.command) for s in sections},
    )
    return page(_TITLE, Markup(body), script=asset("report.js"), style=asset("report.css"))


def _span(results: list[Result]) -> str:
    days = sorted({f"{result.created:%Y-%m-%d}" for result in results})
    if not days:
        return "never"
    return f"on {days[0]}" if len(days) == 1 else f"between {days[0]} and {days[-1]}"


def _drawing(picture: Picture, directory: Path) -> Markup:
    text = (directory / picture.svg).read_text(encoding="utf-8")
    return inline_svg(text, f"{slug(picture.name)}-{picture.about or 'all'}-", picture.caption)


def _facts(result: Result) -> Table:
    columns = [Column("fact", numeric=False), Column("value", numeric=False)]
    rows = [
        [Cell(row["fact"]), Cell("" if row["value"] is None else str(row["value"]))]
        for row in environment_rows([result])
        if not row["fact"].startswith(("caution ", "command"))
    ]
    return Table(f"facts-{result.id}", "Environment and settings", columns, rows)


def _unbroken(text: str) -> str:
    """A number stays on one line with its interval; only the verdict may go to the next."""
    found = re.match(r"[^\[\]A-Za-z]*(pts)?( ?\[[^\]]*\])?", text)
    number = found[0] if found else ""
    return (
        number.rstrip().replace(" ", "\N{NO-BREAK SPACE}")
        + (" " if number.endswith(" ") else "")
        + text[len(number) :]
    )
