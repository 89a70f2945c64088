"""`build_report`: read directories of results, write everything that can be made of them.

The report is made whole in a temporary folder and moved to its place file by file, so that
a failure leaves the earlier report as it was.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alpine_cli.errors import DataError
from alpine_cli.files import write_atomic
from alpine_cli.measure.carbon import GridIntensity
from alpine_cli.report import manifest
from alpine_cli.report.document import Document, make_document
from alpine_cli.report.excel import write_workbook
from alpine_cli.report.html import to_html
from alpine_cli.report.latex import latex_document, to_latex
from alpine_cli.report.markdown import to_markdown
from alpine_cli.report.pictures import draw_all
from alpine_cli.report.recompute import recompute_carbon
from alpine_cli.report.soundness import unsound
from alpine_cli.report.tidy import (
    comparison_rows,
    environment_rows,
    figure_rows,
    series_rows,
    to_csv,
)
from alpine_cli.result_files import read_results
from alpine_cli.results import Result

__all__ = ["Report", "build_report"]


@dataclass(frozen=True)
class Report:
    """What was written.

    Attributes:
        directory: where.
        files: every file, sorted by name within the kinds a reader opens first.
        results: what it was made of, oldest first.
        problems: one line per result file or directory that could not be read.
        remarks: what holds for all of it, e.g. that CO2 was recomputed.
        removed: files of an earlier report that this one does not have.
    """

    directory: Path
    files: list[Path] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    removed: list[Path] = field(default_factory=list)


def build_report(
    results_dirs: Sequence[Path],
    output: Path,
    *,
    force: bool = False,
    grid: GridIntensity | None = None,
    pue: float | None = None,
) -> Report:
    """Write the report as HTML, Markdown, Excel, CSV, LaTeX, PNG and SVG from result files.

    Args:
        results_dirs: searched with their subdirectories; a result found twice is read once.
        output: directory of the report.
        force: replace an earlier report there; files that are not a report's stay.
        grid: recompute CO2 for this grid; None keeps each result's own.
        pue: recompute CO2 with this overhead factor of the site; None keeps each result's own.

    Raises:
        DataError: a directory does not exist, or there is no readable result file in any.
        OutputExistsError: `output` is a file, not empty without `force`, or not a report's.
        ConfigError: `pue` is below 1.
    """
    earlier = manifest.begin(output, force=force)
    results, problems = _read(results_dirs)
    results, remarks = recompute_carbon(results, grid, pue)
    # Inside the output: a rename must not cross file systems, and the output may be a mount.
    output.mkdir(parents=True, exist_ok=True)
    manifest.claim(output, earlier, ())
    with tempfile.TemporaryDirectory(dir=output, prefix=manifest.WORKSHOP) as folder:
        made = Path(folder)
        named = [_short(problem, results_dirs) for problem in problems]
        _write_all(results, named, remarks, made)
        names = sorted(p.relative_to(made).as_posix() for p in made.rglob("*") if p.is_file())
        manifest.claim(output, earlier, names)
        for name in names:
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(made / name, output / name)
    removed = manifest.finish(output, earlier, names)
    files = [output / name for name in sorted(names, key=_by_interest)]
    return Report(output, files, results, problems, remarks, removed)


_FIRST = (".html", ".md", ".xlsx", ".csv", ".tex")


def _by_interest(name: str) -> tuple[int, int, str]:
    suffix = Path(name).suffix
    return name.count("/"), _FIRST.index(suffix) if suffix in _FIRST else len(_FIRST), name


def _read(directories: Sequence[Path]) -> tuple[list[Result], list[str]]:
    results: dict[str, Result] = {}
    problems: list[str] = []
    empty: list[str] = []
    for directory in dict.fromkeys(directories):
        try:
            found, left_out = read_results(directory)
        except DataError as error:
            if not directory.is_dir():
                raise
            empty.append(str(error))
            continue
        problems += left_out
        for result in found:
            wrong = unsound(result)
            if wrong is None:
                results.setdefault(result.id, result)
            else:
                problems.append(f"{directory}: result {result.id}: {wrong}")
    if not results:
        raise DataError("; ".join([*empty, *problems]) or "no directory of results was given")
    ordered = sorted(results.values(), key=lambda result: (result.created, result.id))
    return ordered, [*problems, *empty]


def _short(problem: str, directories: Sequence[Path]) -> str:
    """A problem as a report names it: it may be published, and no folder of its maker with it."""
    for directory in directories:
        problem = problem.replace(str(directory), directory.name or str(directory))
    return problem


def _write_all(
    results: list[Result], problems: list[str], remarks: list[str], folder: Path
) -> None:
    """Every file of the report, into an empty folder."""
    pictures = draw_all(results, folder)
    document = make_document(results, pictures, problems=problems, remarks=remarks)
    write_atomic(folder / "report.html", to_html(document, folder))
    write_atomic(folder / "report.md", to_markdown(document))
    write_workbook(document, folder / "report.xlsx")
    for name, rows in {
        "figures.csv": figure_rows(results),
        "comparisons.csv": comparison_rows(results),
        "curves.csv": series_rows(results),
        "environment.csv": environment_rows(results),
    }.items():
        write_atomic(folder / name, to_csv(rows))
    _write_latex(document, folder / "latex")


def _write_latex(document: Document, folder: Path) -> None:
    for table in document.tables:
        write_atomic(folder / f"{table.key}.tex", to_latex(table))
    write_atomic(folder / "all-tables.tex", latex_document(document.tables))
