"""The report as one Markdown page: the same tables and sentences as the HTML page."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence

from alpine_cli.report.document import Chapter, Document, Section
from alpine_cli.report.pictures import Picture
from alpine_cli.report.summary import title_of
from alpine_cli.report.tables import Table

__all__ = ["markdown_table", "table_to_markdown", "to_markdown"]


def to_markdown(document: Document) -> str:
    """The page; pictures are linked by their path relative to it."""
    lines = ["# Results", ""]
    for remark in document.remarks:
        lines += [_text(remark), ""]
    if document.problems:
        lines += ["Left out:", "", *[f"- {_text(problem)}" for problem in document.problems], ""]
    for chapter in document.chapters:
        lines += _chapter(chapter)
    for section in document.sections:
        lines += _section(section)
    for chapter in document.closing:
        lines += _chapter(chapter)
    return "\n".join(lines)


def _chapter(chapter: Chapter) -> list[str]:
    lines = [f"## {_text(chapter.title)}", ""]
    for table in chapter.tables:
        lines += [f"### {_text(table.title)}", "", table_to_markdown(table), ""]
    lines += [f"{_text(remark)}.\n" for remark in chapter.remarks]
    return [*lines, *_pictures(chapter.pictures)]


def _section(section: Section) -> list[str]:
    result, environment = section.result, section.result.environment
    gpus = ", ".join(gpu.name for gpu in environment.gpus) or "no GPU"
    lines = [
        f"## {_text(section.title)}",
        "",
        _text(
            f"{title_of(result)}; {result.kind} {result.id}, {result.created:%Y-%m-%d %H:%M} UTC,"
            f" {environment.cpu_model}, torch threads {environment.threads}, {gpus},"
            f" torch {environment.versions.get('torch', '?')},"
            f" device {result.settings.get('device', '?')}"
        ),
        "",
    ]
    if section.findings:
        lines += ["Pruned against unpruned, on the same engine:", ""]
        lines += [f"- {_text(str(finding))}" for finding in section.findings]
        lines.append("")
    if result.cautions:
        lines += ["Mind:", "", *[f"- {_text(str(caution))}" for caution in result.cautions], ""]
    for table in section.tables:
        if not table.key.startswith("summary-"):
            lines += [f"### {_text(table.title)}", ""]
        lines += [table_to_markdown(table), ""]
    lines += _pictures(section.pictures)
    for name, variant in result.variants.items():
        lines.append(
            f"- **{_text(name)}**: {_text(variant.description)} ({_text(variant.checkpoint)})"
        )
    command = shlex.join(result.command).replace("\n", " ")
    return [*lines, "", "Made by:", "", f"    {command}", ""]


def _pictures(pictures: Sequence[Picture]) -> list[str]:
    lines = []
    for picture in pictures:
        lines += [f"![{_text(picture.caption)}]({picture.png})", ""]
    return lines


def table_to_markdown(table: Table) -> str:
    """A table with its notes below it; remarks on single cells become numbered notes."""
    notes: dict[str, int] = {}
    rows = []
    for row in table.rows:
        shown = []
        for cell in row:
            text = cell.text
            if cell.note is not None and text:
                text += f" {_mark(notes.setdefault(cell.note, len(notes) + 1))}"
            shown.append(text)
        rows.append(shown)
    header = [f"{c.title} [{c.unit}]" if c.unit else c.title for c in table.columns]
    left = [at for at, column in enumerate(table.columns) if not column.numeric]
    lines = [markdown_table(header, rows, left), ""]
    lines += [f"{_mark(number)} {_text(note)}\n" for note, number in notes.items()]
    lines += [f"{_text(note)}\n" for note in table.notes]
    return "\n".join(lines).rstrip("\n")


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)
) -> str:
    """A table; columns named in `left` are aligned left, numbers right."""
    rule = [":---" if at in left else "---:" for at in range(len(header))]
    lines = [[_text(text) for text in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*map(_text, header)], rule, *lines])


_HARMLESS = str.maketrans({"\\": "\\\\", "|": "\\|", "<": "&lt;", "`": "\\`"})
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def _text(text: str) -> str:
    """Text that cannot break out of a cell or a line, nor become HTML, code, a link or an image."""
    return " ".join(text.translate(_HARMLESS).replace("](", "]\\(").split())


def _mark(number: int) -> str:
    return str(number).translate(_RAISED)
