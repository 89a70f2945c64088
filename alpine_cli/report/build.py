"""`build_report`: read a directory of results, write everything that can be made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from alpine_cli.errors import OutputExistsError
from alpine_cli.files import refuse_existing, write_atomic
from alpine_cli.report.excel import write_workbook
from alpine_cli.report.figures import draw_changes, draw_lengths
from alpine_cli.report.markdown import to_markdown
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
        files: every file, in the order it was written.
        results: what it was made of, oldest first.
        problems: one line per result file that could not be read.
    """

    directory: Path
    files: list[Path] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def build_report(results_dir: Path, output: Path, *, force: bool = False) -> Report:
    """Write report.md, report.xlsx, CSV files and pictures from the result files of a directory.

    Args:
        results_dir: searched with its subdirectories.
        output: directory of the report; files of an earlier report are replaced with `force`.
        force: accept an output directory that is not empty.

    Raises:
        DataError: no readable result file.
        OutputExistsError: `output` is a file, or not empty and `force` is false.
    """
    results, problems = read_results(results_dir)
    refuse_existing(output, force)
    if output.is_file():
        raise OutputExistsError(f"{output}: is a file; a report is a directory, choose another")
    report = Report(output, results=results, problems=problems)
    tables = {
        "figures.csv": figure_rows(results),
        "comparisons.csv": comparison_rows(results),
        "curves.csv": series_rows(results),
        "environment.csv": environment_rows(results),
    }
    for name, rows in tables.items():
        write_atomic(output / name, to_csv(rows))
        report.files.append(output / name)
    pictures = _draw(results, report)
    write_atomic(output / "report.md", to_markdown(results, pictures, problems))
    report.files.append(output / "report.md")
    write_workbook(results, output / "report.xlsx")
    report.files.append(output / "report.xlsx")
    return report


def _draw(results: list[Result], report: Report) -> dict[str, list[str]]:
    pictures: dict[str, list[str]] = {}
    for result in results:
        stem = f"{result.subject.task}-{result.id}"
        for name, draw in (("changes", draw_changes), ("lengths", draw_lengths)):
            path = report.directory / f"{name}-{stem}.png"
            if draw(result, path):
                report.files.append(path)
                pictures.setdefault(result.id, []).append(path.name)
    return pictures
