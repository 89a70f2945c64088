"""What `alpine sweep` and `alpine tune` share: options of the grid, progress, the printed table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alpine_cli.cli._common import error_console
from alpine_cli.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from alpine_cli.measure.isolation import OnProgress
    from alpine_cli.report.tables import Table

__all__ = [
    "PLAIN_SECONDS",
    "AlphasOption",
    "KeepsOption",
    "LayersListOption",
    "MergesOption",
    "MetricOption",
    "PlainLines",
    "ProtectsOption",
    "RulesOption",
    "ScoresOption",
    "check_metric",
    "print_table",
    "show_progress",
    "tell_size",
]

RulesOption = Annotated[
    str | None,
    typer.Option(
        "--rules",
        help="Of band (the published one), floor, top, bipartite and the controls random and first,"
        " joined by commas.",
    ),
]
AlphasOption = Annotated[
    str | None,
    typer.Option(
        "--alphas",
        help="Strengths of band and floor, joined by commas: how many standard deviations from the"
        " mean score a token may lie.",
    ),
]
KeepsOption = Annotated[
    str | None,
    typer.Option(
        "--keeps",
        help="Strengths of top, bipartite, random and first, joined by commas: the share of tokens"
        " that stays in a pruned layer, 0.75, or one share per pruned layer, 0.9/0.75/0.6.",
    ),
]
ScoresOption = Annotated[
    str | None,
    typer.Option(
        "--scores",
        help="What band, floor and top judge by: received, cls or both, joined by a comma.",
    ),
]
LayersListOption = Annotated[
    list[str] | None,
    typer.Option(
        "--layers",
        help="odd, even, all joined by commas, or one list of indices such as 0,2,4; may be"
        " repeated. Default: all three for band, all for the others.",
    ),
]
MergesOption = Annotated[
    str | None,
    typer.Option(
        "--merges",
        help="mean, none, nearest, joined by commas; bipartite has its own.",
    ),
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

PLAIN_SECONDS = 20.0
_METRICS = ("accuracy", "f1", "mcc")
_STYLES = {"better": "green", "worse": "red", "absent": "dim"}


def check_metric(metric: str) -> None:
    """Stop unless it is one that is printed.

    Raises:
        ConfigError: it is not.
    """
    if metric not in _METRICS:
        raise ConfigError(f"--metric: must be {', '.join(_METRICS)} (got {metric!r})")


def tell_size(text: str) -> None:
    """How much there is to run, on stderr."""
    error_console().print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


class PlainLines:
    """Progress for a pipe or a log: the first step, then a line every `PLAIN_SECONDS` at most."""

    def __init__(
        self, name: str, console: Console, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._console, self._clock = name, console, clock
        self._told = -math.inf

    def show(self, done: int, total: int, text: str) -> None:
        """Say how far it is, if it has not been said a moment ago."""
        now = self._clock()
        if now - self._told < PLAIN_SECONDS:
            return
        self._told = now
        # Timing counts per mille of its work, all else what it is through with.
        far = f"{done / 10:.0f} %" if total == 1000 else f"{done} of {total} done"
        line = f"{self._name}: {far}, now {text}"
        self._console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def show_progress(name: str, output: Path) -> Iterator[OnProgress]:
    """One bar on stderr; a plain line now and then where that is no terminal.

    Ctrl-C is told what is kept.

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
        lines = PlainLines(name, terminal)

        def show(done: int, total: int, text: str) -> None:
            if bars.disable:
                lines.show(done, total, text)
            else:
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
