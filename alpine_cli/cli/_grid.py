"""What `alpine sweep` and `alpine tune` share: options of the grid, progress, the printed table."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alpine_cli.cli._common import error_console
from alpine_cli.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from alpine_cli.measure.isolation import OnProgress
    from alpine_cli.measure.sweep import GridOptions
    from alpine_cli.report.tables import Table

__all__ = [
    "AlphasOption",
    "LayersListOption",
    "MergesOption",
    "MetricOption",
    "ProtectsOption",
    "check_metric",
    "parse_grid",
    "print_table",
    "show_progress",
]

AlphasOption = Annotated[
    str, typer.Option("--alphas", help="Half-widths of the kept score band, joined by commas.")
]
LayersListOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        help="odd, even, all joined by commas (default: all three), or one list of indices such as"
        " 0,2,4; may be repeated.",
    ),
]
MergesOption = Annotated[
    str, typer.Option("--merges", help="mean, none or both, joined by a comma.")
]
ProtectsOption = Annotated[
    str | None,
    typer.Option(
        "--protect", help="special, ends or both, joined by a comma; default: the checkpoint's."
    ),
]
MetricOption = Annotated[
    str, typer.Option("--metric", help="What is set against cost: accuracy, f1 or mcc.")
]

_METRICS = ("accuracy", "f1", "mcc")
_STYLES = {"better": "green", "worse": "red", "absent": "dim"}


def parse_grid(
    alphas: str, layers: list[str] | None, merges: str, protect: str | None
) -> GridOptions:
    """The grid that the options ask for.

    Raises:
        ConfigError: an option that cannot be read.
    """
    from alpine_cli.measure.grid import parse_alphas, parse_choices, parse_layers
    from alpine_cli.measure.sweep import GridOptions

    return GridOptions(
        alphas=parse_alphas(alphas),
        layers=parse_layers(layers or ["odd,even,all"]),
        merges=parse_choices(merges, "--merges"),
        protects=parse_choices(protect, "--protect") if protect else None,
    )


def check_metric(metric: str) -> None:
    """Stop unless it is one that is printed.

    Raises:
        ConfigError: it is not.
    """
    if metric not in _METRICS:
        raise ConfigError(f"--metric: must be {', '.join(_METRICS)} (got {metric!r})")


@contextmanager
def show_progress(name: str, output: Path) -> Iterator[OnProgress]:
    """One bar on stderr; nothing where stderr is no terminal. Ctrl-C is told what is kept.

    Args:
        name: of the command.
        output: directory of results, under which finished settings are kept.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    terminal = error_console()
    columns = (
        TextColumn(f"{name:<9}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as bars:
        task = bars.add_task("starting", total=None)

        def show(done: int, total: int, text: str) -> None:
            bars.update(task, completed=done, total=total, description=text)

        try:
            yield show
        except KeyboardInterrupt:
            kept = len(list((output / ".partial").glob("*/trial-*.part")))
            if kept:
                text = f"{kept} finished setting(s) are kept; the same command goes on from them"
                terminal.print(text, markup=False, highlight=False)
            raise


def print_table(table: Table, out: Console) -> None:
    """A table of the report on the terminal, its notes below it."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    shown = RichTable(
        title=table.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for column in table.columns:
        words = column.title.replace(" ", "\n")
        title = f"{words},\n{column.unit}" if column.unit else words
        shown.add_column(title, justify="right" if column.numeric else "left", no_wrap=True)
    for row in table.rows:
        shown.add_row(*[Text(cell.text, style=_STYLES.get(cell.style, "")) for cell in row])
    out.print(shown)
    for note in table.notes:
        out.print(note, style="dim", markup=False, highlight=False)
