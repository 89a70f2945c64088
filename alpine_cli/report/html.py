"""The report as one self-contained HTML page: tables that sort, figures in the page's colours."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from markupsafe import Markup

from alpine_cli.report.cell_text import parted
from alpine_cli.report.document import Document
from alpine_cli.report.inline_svg import inline_svg
from alpine_cli.report.page import asset, page, template_environment
from alpine_cli.report.pictures import Picture, slug
from alpine_cli.report.summary import title_of
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.report.tidy import environment_rows
from alpine_cli.results import Provenance, Result, like_cautions

__all__ = ["to_html"]

_NBSP = "\N{NO-BREAK SPACE}"
_LONG_WORD = 14
_JOINT = re.compile(r"(?<=[A-Za-z0-9][_:/.\-])(?=[A-Za-z0-9])")
_TITLE = "Results of alpine"
# A sign before the word that says how a figure was taken; the word stays.
_MARKS: dict[Provenance, tuple[str, str]] = {
    "measured": ("●", "measured on this machine"),
    "counted": ("◆", "counted from operators that ran"),
    "analytic": ("▲", "analytic: a formula of actual lengths"),
    "modelled": ("◐", "modelled: estimated without a sensor"),
    "absent": ("○", "not taken"),
}


def to_html(document: Document, directory: Path) -> str:
    """The page.

    Args:
        document: what to show.
        directory: where the SVG files of its pictures are.
    """
    environment = template_environment().overlay()
    environment.filters = {
        **environment.filters,
        "unbroken": _unbroken,
        "anchor": slug,
        "marked": _marked,
        "breakable": _breakable,
        "alike": like_cautions,
    }
    sections = document.sections
    body = environment.get_template("report.html").render(
        document=document,
        marks=list(_MARKS.values()),
        span=_span([section.result for section in sections]),
        drawings={(p.name, p.about): _drawing(p, directory) for p in document.pictures},
        facts={section.result.id: _facts(section.result) for section in sections},
        titles={section.result.id: title_of(section.result) for section in sections},
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


def _marked(text: str) -> str:
    """The sign of a provenance, where a cell's text is one."""
    found = next((mark for word, (mark, _) in _MARKS.items() if text.startswith(word)), None)
    if text == "not taken":
        found = _MARKS["absent"][0]
    return f"{found}{_NBSP}{text}" if found is not None else text


def _breakable(text: str) -> Markup:
    """A text whose long words, names of models mostly, may go on in the next line at a joint."""
    parts = re.split(r"(\s+)", text)
    return Markup("").join(
        Markup("<wbr>").join(_JOINT.split(part)) if len(part) > _LONG_WORD else part
        for part in parts
    )


def _unbroken(text: str) -> str:
    """A number stays on one line with its interval; only words may go to the next."""
    number, words = parted(text)
    return f"{number.replace(' ', _NBSP)} {words}".strip()
