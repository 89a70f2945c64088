"""`alpine show --kinds`: which syntactic kinds of token survive over a data set.

Parses, calls, prints; the work is in `alpine_cli.show.survival`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alpine_cli.cli._common import console, error_console, print_json
from alpine_cli.files import write_atomic

if TYPE_CHECKING:
    from alpine_cli.report.tables import Table
    from alpine_cli.show.subject import ShowSubject
    from alpine_cli.show.survival import OnProgress, Survival

__all__ = ["show_kinds"]


def show_kinds(
    subject: ShowSubject,
    *,
    data: Path | None,
    split: str,
    limit: int | None,
    language: str | None,
    device: str | None,
    html: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Count, then print, write the page, or both as asked."""
    from alpine_cli.devices import resolve_device
    from alpine_cli.show.kinds import guess_language, lexer_for
    from alpine_cli.show.survival import count_survival, summarise_survival
    from alpine_cli.show.survival_views import survival_record

    samples, where = subject.samples(data, split, limit)
    reason = "--language"
    if language is None:
        texts = [sample.code[0] for sample in samples]
        language, reason = guess_language(subject.checkpoint.task, texts)
    lexer = lexer_for(language)
    with _progress() as on_progress:
        counts = count_survival(
            subject.checkpoint,
            samples,
            subject.pruning,
            lexer,
            resolve_device(device),
            on_progress,
        )
    taken = f"{where}, {len(samples):,} samples" + (f" (--limit {limit})" if limit else "")
    survival = summarise_survival(counts, language, reason, subject.about() | {"data": taken})
    if html is not None:
        from alpine_cli.show.survival_page import survival_page

        write_atomic(html, survival_page(survival), force=force)
        error_console().print(f"written: {html}", markup=False, highlight=False, soft_wrap=True)
    if as_json:
        print_json(survival_record(survival))
    else:
        _print(survival)


@contextmanager
def _progress() -> Iterator[OnProgress]:
    """A bar on stderr; nothing where stderr is no terminal."""
    from rich.progress import Progress

    terminal = error_console()
    with Progress(console=terminal, transient=True, disable=not terminal.is_terminal) as bars:
        task = bars.add_task("functions", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def _print(survival: Survival) -> None:
    from alpine_cli.show.survival_views import curve_table, finding, survival_table

    out = console()
    for table in (survival_table(survival), curve_table(survival)):
        _print_table(table)
    out.print(finding(survival), style="bold", markup=False, highlight=False)
    for note in survival_table(survival).notes:
        out.print(note, markup=False, highlight=False)
    cited = "; ".join(f"{name} {value}" for name, value in survival.about.items())
    out.print(f"\n{cited}", style="dim", markup=False, highlight=False, soft_wrap=True)


def _print_table(table: Table) -> None:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in table.columns:
        title = f"{column.title}, {column.unit}" if column.unit else column.title
        shown.add_column(title, justify="right" if column.numeric else "left")
    for row in table.rows:
        shown.add_row(*(Text(cell.text) for cell in row))
    console().print(shown)
