"""`alpine demo`: data, model, fine-tuning with and without pruning, bench and report, offline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alpine_cli.cli._common import ForceOption, JsonOption, console, error_console, print_json

if TYPE_CHECKING:
    from alpine_cli.demo.run import DemoOutcome

__all__ = ["demo"]


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory to write to; must not exist yet.")
    ] = Path("demo-output"),
    layers: Annotated[
        str, typer.Option(help="The pruning that is set against none: even, odd, all or a list.")
    ] = "even",
    alpha: Annotated[
        float, typer.Option(help="Half-width of the kept score band in standard deviations.")
    ] = 0.5,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs of each fine-tuning.")] = 1,
    functions: Annotated[
        int | None,
        typer.Option(min=1, help="Use at most N functions; few are quick and teach nothing."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of weights and batches.")] = 1,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Show everything on a small model and real code, offline, in about three minutes.

    Functions of Python's own standard library, half of them with one bug
    put in, a tokenizer and a small RoBERTa trained on the spot without and
    with pruning, then `bench` and `report`. Exits with 1 if a model is not
    clearly better than always guessing the commoner label.

        alpine demo

        alpine demo --layers all --output demo-all
    """
    from alpine_cli.demo.run import DemoSettings, run_demo

    settings = DemoSettings(
        layers=layers, alpha=alpha, epochs=epochs, functions=functions, seed=seed
    )
    terminal = error_console()

    def say(line: str) -> None:
        terminal.print(line, markup=False, highlight=False, soft_wrap=True)

    outcome = run_demo(output, settings, force=force, say=say)
    if json_:
        print_json(
            {
                "directory": outcome.directory,
                "files": outcome.files,
                "seconds": outcome.seconds,
                "patterns": [asdict(row) for row in outcome.patterns],
                "result": outcome.result,
            }
        )
    else:
        _show(outcome)


def _show(outcome: DemoOutcome) -> None:
    from rich import box
    from rich.table import Table

    from alpine_cli.cli._measuring import print_result

    out = console()
    print_result(outcome.result)
    table = Table(
        title="Accuracy by injected bug, %",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
    )
    for name in ("bug", "rule", "sound -> spoilt"):
        table.add_column(name, no_wrap=True)
    for name in ("test functions", "unpruned", "pruned"):
        table.add_column(name, justify="right")
    for row in outcome.patterns:
        shares = ("-" if s is None else f"{100 * s:.0f}" for s in (row.unpruned, row.pruned))
        table.add_row(row.name, row.rule, row.example, str(row.functions), *shares)
    out.print(table)
    spent = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())
    out.print(f"took {sum(outcome.seconds.values()):.0f} s: {spent}", highlight=False)
    out.print("written:", highlight=False)
    for path in outcome.files:
        out.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
