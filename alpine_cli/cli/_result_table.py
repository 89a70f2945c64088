"""A result as people read it in a terminal: one table, what it means in sentences, what to mind.

On a narrow terminal columns are left out rather than figures cut: how a figure was taken, what the
engine alone gains over stock transformers. The result file and `alpine report` have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from alpine_cli.cli._common import console, error_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from alpine_cli.report.summary import SummaryRow
    from alpine_cli.results import Caution, Result

__all__ = ["print_cautions", "print_cells", "print_result"]

_VERDICT_STYLE = {"better": "green", "worse": "red"}
_SHORT_VERDICT = {"no difference shown": "undecided"}
_WIDE = 110  # columns from which on all of the table fits


def print_result(result: Result) -> None:
    """The one table, what it says in words, the lengths, and what the reader must mind."""
    from alpine_cli.report.summary import headlines, summarise

    out = console()
    rows = summarise(result)
    out.print(_summary_table(result, rows, wide=out.width >= _WIDE))
    for row in rows:
        for reason in row.reasons:
            _plain(out, f"{row.label.strip()}: n/a, {reason.splitlines()[0]}", style="dim")
    told = headlines(result)
    if told:
        _plain(out, "Pruned against unpruned:", style="bold")
        width = max(len(what) for what, _ in told)
        for what, said in told:
            _plain(out, f"  {what:<{width}}  {said}")
        _plain(
            out,
            "undecided: the interval covers no difference;"
            " not judged: too few runs for one, or modelled",
            style="dim",
        )
    for series in result.series:
        if series.name == "mean_length" and series.variant == "pruned":
            lengths = "  ".join("-" if y is None else f"{y:.0f}" for y in series.y)
            _plain(out, f"mean tokens entering each layer, and left: {lengths}")
    for name, described in result.variants.items():
        _plain(out, f"{name}: {described.description}", style="dim")
    print_cautions(result.cautions)


def print_cautions(cautions: Iterable[Caution]) -> None:
    """On stderr: what was seen, its effect, and what to do; said once where several share them."""
    from alpine_cli.results import like_cautions

    out = error_console()
    for like in like_cautions(cautions):
        for caution in like:
            _plain(out, f"mind: {caution.text}", style="yellow")
        if like[0].effect:
            _plain(out, f"      effect: {like[0].effect}", style="yellow")
        if like[0].remedy:
            _plain(out, f"      remedy: {like[0].remedy}", style="yellow")


def print_cells(results: Sequence[Result]) -> None:
    """Several results of one session: a row per cell, and over seeds where there are several."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    from alpine_cli.report.session_tables import session_tables

    out = console()
    for table in session_tables(results, narrow=out.width < _WIDE):
        drawn = RichTable(
            title=table.title,
            title_justify="left",
            title_style="bold",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for column in table.columns:
            title = f"{column.title}\n{column.unit}" if column.unit else column.title
            side: Literal["left", "right"] = "right" if column.numeric else "left"
            drawn.add_column(title, justify=side, overflow="fold")
        for row in table.rows:
            drawn.add_row(
                *(
                    Text(
                        # Broken before the interval, never inside it.
                        cell.text.replace(" [", "\n["),
                        style=_VERDICT_STYLE.get(cell.style, ""),
                    )
                    for cell in row
                )
            )
        out.print(drawn)
        for note in table.notes:
            _plain(out, note, style="dim")


def _summary_table(result: Result, rows: Sequence[SummaryRow], *, wide: bool) -> object:
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    from alpine_cli.report.summary import title_of

    has_pruned = "pruned" in result.variants
    variants = [name for name in result.variants if wide or not has_pruned or name != "stock"]
    table = RichTable(
        title=title_of(result),
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("", no_wrap=True)
    for variant in variants:
        table.add_column(variant, justify="right", no_wrap=True)
    if has_pruned:
        head = "pruned / unpruned\nmetrics: difference" if wide else "pruned / unpruned"
        table.add_column(Text(head), justify="right", no_wrap=True)
        table.add_column("pruning is", no_wrap=True)
    if wide:
        table.add_column("unpruned\n/ stock", justify="right", no_wrap=True)
        table.add_column("how", style="dim", no_wrap=True)
    for row in rows:
        # "CO2, g CO2e" says it twice.
        unit = row.scale.unit.replace(" CO2e", "") if "CO2" in row.label else row.scale.unit
        cells: list[str | Text] = [f"{row.label}, {unit}".rstrip(", ")]
        cells += [row.cell(variant) for variant in variants]
        if has_pruned:
            cells += [Text(row.ratio.replace(" pts", "")), _verdict(row.verdict)]
        if wide:
            cells += [row.engine_ratio.partition(" ")[0], row.method]
        table.add_row(*cells)
    return table


def _verdict(verdict: str) -> Text:
    from rich.text import Text

    return Text(_SHORT_VERDICT.get(verdict, verdict), style=_VERDICT_STYLE.get(verdict, ""))


def _plain(out: Console, line: str, style: str | None = None) -> None:
    out.print(line, style=style, markup=False, highlight=False)
