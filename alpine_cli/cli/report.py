"""`alpine report`: rebuild tables, CSV, Excel and pictures from result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alpine_cli.cli._common import ForceOption, JsonOption, console, error_console, print_json

__all__ = ["report"]


def report(
    results: Annotated[
        Path, typer.Argument(metavar="[RESULTS_DIR]", help="Directory of result files.")
    ] = Path("results"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory to write the report to.")
    ] = Path("report"),
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Rebuild Markdown, CSV, Excel and pictures from result files alone;
    nothing is measured.

    A result file that cannot be read is named and left out; the others are
    still reported.

        alpine report results --output report --force
    """
    from alpine_cli.report.build import build_report

    built = build_report(results, output, force=force)
    for problem in built.problems:
        error_console().print(f"left out: {problem}", style="yellow", markup=False, soft_wrap=True)
    if json_:
        print_json(
            {
                "directory": built.directory,
                "files": built.files,
                "results": [result.id for result in built.results],
                "problems": built.problems,
            }
        )
        return
    out = console()
    out.print(f"{len(built.results)} result(s) from {results}:", highlight=False)
    for path in built.files:
        out.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
