"""`alpine report`: rebuild tables, pages, spreadsheets and pictures from result files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alpine_cli.cli._common import JsonOption, console, error_console, print_json

__all__ = ["report"]

_DEFAULT = Path("results")


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[RESULTS_DIR]...",
            help="Directories of result files, searched with their subdirectories.",
            show_default="results",
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory to write the report to.")
    ] = Path("report"),
    country: Annotated[
        str | None,
        typer.Option(
            "--country", help="Recompute CO2 for the grid of a country, by three letters: FRA."
        ),
    ] = None,
    carbon_intensity: Annotated[
        float | None,
        typer.Option("--carbon-intensity", help="Recompute CO2 for so many g CO2e per kWh."),
    ] = None,
    pue: Annotated[
        float | None,
        typer.Option(
            "--pue", help="Recompute CO2 with this overhead of the site (1: none; 1.58: typical)."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Replace an earlier report; files that are not its stay."),
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Rebuild HTML, Excel, CSV, Markdown, LaTeX and pictures from result files
    alone; nothing is measured.

    Results over several fine-tuning seeds are averaged with their interval;
    whatever differs otherwise is told apart. A result file that cannot be read
    is named and left out; the others are still reported.

        alpine report results --output report --force

        alpine report laptop server --country FRA --pue 1.2
    """
    from alpine_cli.measure.carbon import grid_intensity
    from alpine_cli.report.build import build_report

    grid = None
    if country is not None or carbon_intensity is not None:
        grid = grid_intensity(country, carbon_intensity)
    directories = results or [_DEFAULT]
    built = build_report(directories, output, force=force, grid=grid, pue=pue)
    for problem in built.problems:
        error_console().print(f"left out: {problem}", style="yellow", markup=False, soft_wrap=True)
    if json_:
        print_json(
            {
                "directory": built.directory,
                "files": built.files,
                "results": [result.id for result in built.results],
                "problems": built.problems,
                "remarks": built.remarks,
                "removed": built.removed,
            }
        )
        return
    out = console()
    named = ", ".join(map(str, directories))
    out.print(f"{len(built.results)} result(s) from {named}:", markup=False, highlight=False)
    for remark in built.remarks:
        out.print(remark, markup=False, highlight=False, soft_wrap=True)
    shown = [path for path in built.files if path.parent == output]
    for path in shown:
        out.print(f"  {path}", markup=False, highlight=False, soft_wrap=True)
    for folder in dict.fromkeys(path.parent for path in built.files if path not in shown):
        count = sum(path.parent == folder for path in built.files)
        out.print(f"  {folder}/ ({count} files)", markup=False, highlight=False, soft_wrap=True)
