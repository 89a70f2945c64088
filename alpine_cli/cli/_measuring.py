"""What the measuring commands share: their options, progress, the printed table, the result file.

A command builds `MeasureOptions` and calls `measure`; results go to a directory that only grows,
so there is no --force here: no result is ever overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from alpine_cli.cli._common import console, error_console, print_json
from alpine_cli.errors import OutputExistsError
from alpine_cli.files import refuse_existing

if TYPE_CHECKING:
    from rich.text import Text

    from alpine_cli.measure.bench import OnProgress
    from alpine_cli.results import Result

__all__ = [
    "BaselineOption",
    "BatchSizeOption",
    "CarbonIntensityOption",
    "CountryOption",
    "EngineOption",
    "MergeOption",
    "MinSecondsOption",
    "ProtectOption",
    "PueOption",
    "ReferenceOption",
    "ResultsOption",
    "RunsOption",
    "SeedOption",
    "SplitOption",
    "ThreadsOption",
    "TimedSamplesOption",
    "measure",
    "print_result",
]

BaselineOption = Annotated[
    Path | None,
    typer.Option(
        "--baseline",
        help="Another ckpt.pt that stands for stock and unpruned, e.g. one trained without"
        " pruning; default: the same weights.",
        metavar="FILE",
    ),
]
SplitOption = Annotated[str, typer.Option("--split", help="train, valid or test.")]
BatchSizeOption = Annotated[
    int, typer.Option("--batch-size", min=1, help="Samples per forward pass.")
]
MergeOption = Annotated[
    str | None, typer.Option("--merge", help="Override the checkpoint: mean or none.")
]
ProtectOption = Annotated[
    str | None, typer.Option("--protect", help="Override the checkpoint: special or ends.")
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="Override the checkpoint: packed, padded, reference.")
]
ReferenceOption = Annotated[
    bool, typer.Option("--reference", help="Measure the published algorithm's engine, too (slow).")
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="Threads of each worker; default: all usable cores."),
]
RunsOption = Annotated[
    int, typer.Option("--runs", min=1, help="At least so many runs of each variant.")
]
MinSecondsOption = Annotated[
    float, typer.Option("--min-seconds", min=0, help="And at least so many seconds of each.")
]
TimedSamplesOption = Annotated[
    int,
    typer.Option(
        "--timed-samples",
        min=0,
        help="One run passes over about so many samples, evenly spaced over the lengths of the"
        " split; 0: over all.",
    ),
]
SeedOption = Annotated[
    int, typer.Option("--seed", min=0, help="Of batch order, interleaving and resampling.")
]
ResultsOption = Annotated[
    Path,
    typer.Option(
        "--output", "-o", help="Directory of result files; one is added, none is replaced."
    ),
]
CountryOption = Annotated[
    str | None,
    typer.Option("--country", help="Grid of this country, as a three-letter ISO code, e.g. FRA."),
]
CarbonIntensityOption = Annotated[
    float | None,
    typer.Option("--carbon-intensity", min=0, help="Grid intensity in g CO2e/kWh."),
]
PueOption = Annotated[
    float, typer.Option("--pue", help="Power usage effectiveness of the site, 1 or more.")
]

_VERDICT_STYLE = {"better": "green", "worse": "red"}
_SHORT_VERDICT = {"no difference shown": "undecided"}


def measure(kinds: Sequence[str], *, output: Path, as_json: bool, **options: Any) -> None:
    """Measure, write the result file, print the result.

    Args:
        kinds: names of `measure.bench.KINDS`.
        output: directory of result files.
        as_json: print the result file instead of the table.
        options: fields of `measure.plan.MeasureOptions`.

    Raises:
        OutputExistsError: `output` or a parent of it is a file.
    """
    if output.exists() and not output.is_dir():
        raise OutputExistsError(
            f"{output}: is a file; --output names the directory of result files"
        )
    refuse_existing(output, force=True)  # before hours of measuring, not after
    from alpine_cli.measure.bench import run_measures
    from alpine_cli.measure.plan import MeasureOptions
    from alpine_cli.result_files import write_result

    if "timed_samples" in options:
        options["timed_samples"] = options["timed_samples"] or None
    with _progress(kinds) as on_progress:
        result = run_measures(MeasureOptions(**options), kinds, on_progress)
    path = write_result(result, output)
    if as_json:
        print_json(result)
    else:
        print_result(result)
    error_console().print(f"\nwritten: {path}", markup=False, highlight=False, soft_wrap=True)


@contextmanager
def _progress(kinds: Sequence[str]) -> Iterator[OnProgress]:
    """A bar per measure on stderr; nothing where stderr is no terminal."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.fields[kind]:<11}"),
        BarColumn(bar_width=30),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.description}"),
    )
    terminal = error_console()
    with Progress(
        *columns, console=terminal, transient=True, disable=not terminal.is_terminal
    ) as bars:
        tasks = {
            kind: bars.add_task("waiting", total=None, start=False, kind=kind) for kind in kinds
        }

        def show(kind: str, done: int, total: int, text: str) -> None:
            for earlier in kinds[: kinds.index(kind)]:
                bars.update(tasks[earlier], total=1, completed=1, description="done")
                bars.stop_task(tasks[earlier])
            if not bars.tasks[tasks[kind]].started:
                bars.start_task(tasks[kind])
            bars.update(tasks[kind], completed=done, total=total, description=text)

        yield show


def print_result(result: Result) -> None:
    """The one table, the lengths, and what the reader must mind."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from alpine_cli.report.summary import summarise, title_of

    variants = list(result.variants)
    has_pruned = "pruned" in variants
    table = Table(
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
        table.add_column(
            Text("pruned / unpruned\nmetrics: difference"), justify="right", no_wrap=True
        )
        table.add_column("pruning is", no_wrap=True)
    table.add_column("unpruned\n/ stock", justify="right", no_wrap=True)
    table.add_column("how", style="dim", no_wrap=True)
    for row in summarise(result):
        cells: list[str | Text] = [f"{row.label}, {row.scale.unit}".rstrip(", ")]
        cells += [row.cell(variant) for variant in variants]
        if has_pruned:
            cells += [Text(row.ratio.replace(" pts", "")), _verdict(row.verdict)]
        cells += [row.engine_ratio.partition(" ")[0], row.method]
        table.add_row(*cells)
    out = console()
    out.print(table)
    if has_pruned:
        out.print(
            "In brackets: 95 % confidence intervals. undecided: the interval covers no difference;"
            " not judged: too few runs.",
            markup=False,
            highlight=False,
        )
    for series in result.series:
        if series.name == "mean_length" and series.variant == "pruned":
            lengths = "  ".join("-" if y is None else f"{y:.0f}" for y in series.y)
            out.print(f"mean tokens entering each layer, and left: {lengths}", highlight=False)
    for name, described in result.variants.items():
        out.print(f"{name}: {described.description}", style="dim", markup=False, highlight=False)
    for caution in result.cautions:
        error_console().print(f"mind: {caution}", style="yellow", markup=False, highlight=False)


def _verdict(verdict: str) -> Text:
    from rich.text import Text

    return Text(_SHORT_VERDICT.get(verdict, verdict), style=_VERDICT_STYLE.get(verdict, ""))
