"""The report as one Markdown page: a section per result, nothing that is not in its file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from alpine_cli.report.summary import summarise, title_of
from alpine_cli.results import Result

__all__ = ["markdown_table", "to_markdown"]


def to_markdown(
    results: Iterable[Result],
    pictures: Mapping[str, Sequence[str]],
    problems: Sequence[str] = (),
) -> str:
    """The page.

    Args:
        results: in the order of the sections.
        pictures: for each result id the picture files to show, relative to the page.
        problems: files that could not be read, one line each.
    """
    lines = ["# Results", ""]
    if problems:
        lines += ["Left out:", "", *[f"- {_cell(problem)}" for problem in problems], ""]
    for result in results:
        lines += _section(result, pictures.get(result.id, ()))
    return "\n".join(lines)


def _section(result: Result, pictures: Sequence[str]) -> list[str]:
    variants = list(result.variants)
    header = [
        "",
        *variants,
        "pruned / unpruned [95 % CI]",
        "verdict on pruning",
        "unpruned / stock",
        "how",
    ]
    rows = [
        [
            f"{row.label} [{row.scale.unit}]".replace("[]", ""),
            *[row.cell(variant) for variant in variants],
            row.ratio,
            row.verdict,
            row.engine_ratio,
            row.method,
        ]
        for row in summarise(result)
    ]
    environment = result.environment
    gpus = ", ".join(gpu.name for gpu in environment.gpus) or "no GPU"
    lines = [
        f"## {_cell(title_of(result))}",
        "",
        f"{result.kind} {result.id}, {result.created:%Y-%m-%d %H:%M} UTC,"
        f" {environment.cpu_model}, {environment.threads} threads, {gpus},"
        f" torch {environment.versions.get('torch', '?')},"
        f" device {result.settings.get('device', '?')}",
        "",
        markdown_table(header, rows, left=(0, len(variants) + 2, len(variants) + 4)),
        "",
    ]
    for name, variant in result.variants.items():
        lines.append(f"- **{name}**: {_cell(variant.description)} (`{_cell(variant.checkpoint)}`)")
    lines.append("")
    lines += _lengths(result)
    lines += [f"![{_cell(name)}]({name})" for name in pictures]
    if pictures:
        lines.append("")
    if result.cautions:
        lines += ["Mind:", "", *[f"- {_cell(str(caution))}" for caution in result.cautions], ""]
    return lines


def _lengths(result: Result) -> list[str]:
    curves = [s for s in result.series if s.name == "mean_length" and s.variant != "stock"]
    if not curves:
        return []
    header = ["mean tokens after layer", *[f"{x:.0f}" for x in curves[0].x]]
    rows = [[c.variant, *["-" if y is None else f"{y:.1f}" for y in c.y]] for c in curves]
    return [markdown_table(header, rows), ""]


def markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[int] = (0,)
) -> str:
    """A table; columns named in `left` are aligned left, numbers right."""
    rule = [":---" if at in left else "---:" for at in range(len(header))]
    lines = [[_cell(text) for text in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [[*header], rule, *lines])


def _cell(text: str) -> str:
    """Text that cannot break out of a cell or a line."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
