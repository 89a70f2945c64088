"""The whole report from result files alone; workbook and CSV read back."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import openpyxl
import pytest

from alpine_cli.errors import DataError, OutputExistsError
from alpine_cli.report.build import Report, build_report
from alpine_cli.report.markdown import markdown_table
from alpine_cli.report.summary import summarise
from alpine_cli.report.tidy import to_csv
from alpine_cli.result_files import write_result
from tests.report.made import make_result


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    write_result(make_result(), folder / "results")
    second = make_result(id="0badcaf0", kind="throughput")
    write_result(second, folder / "results" / "more")
    (folder / "results" / "bench-broken.json").write_text("{", encoding="utf-8")
    return build_report(folder / "results", folder / "out")


def test_everything_is_written_and_the_broken_file_is_named(report: Report) -> None:
    names = {path.name for path in report.files}
    assert {"report.md", "report.xlsx", "figures.csv", "comparisons.csv", "curves.csv"} <= names
    assert all(path.stat().st_size > 0 for path in report.files)
    assert len(report.results) == 2
    (problem,) = report.problems
    assert "bench-broken.json" in problem
    assert "bench-broken.json" in (report.directory / "report.md").read_text(encoding="utf-8")


def test_the_page_shows_figures_verdicts_warnings_and_pictures(report: Report) -> None:
    page = (report.directory / "report.md").read_text(encoding="utf-8")
    assert "| throughput [samples/s] | 50.0 | 60.0 | 90.0 | 1.50 [" in page
    assert "| multiply-adds [GMACs] | 48.3 | 48.3 | 31.2 | 0.65 | better |" in page
    assert "-2.0 pts [-8.0, +3.0]" in page
    assert "the machine was busy" in page
    for picture in ("changes", "lengths"):
        name = f"{picture}-clone-detection-0badcafe.png"
        assert f"({name})" in page
        assert (report.directory / name).is_file()


def test_tables_have_as_many_cells_in_every_line(report: Report) -> None:
    page = (report.directory / "report.md").read_text(encoding="utf-8")
    tables = [block for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_csv_is_tidy_exact_and_complete(report: Report) -> None:
    with open(report.directory / "figures.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(result.figures) for result in report.results)
    (row,) = [
        row
        for row in rows
        if (row["result"], row["figure"], row["variant"]) == ("0badcafe", "total_macs", "pruned")
    ]
    assert float(row["value"]) == 31.2e9
    assert (row["unit"], row["per"], row["layers"]) == ("MACs", "sample", "even")
    absent = next(row for row in rows if row["figure"] == "energy_gross")
    assert (absent["value"], absent["reason"]) == ("", "no counter")


def test_the_workbook_has_its_sheets_numbers_and_a_native_chart(report: Report) -> None:
    book = openpyxl.load_workbook(report.directory / "report.xlsx")
    assert book.sheetnames == [
        "Summary",
        "Lengths",
        "Figures",
        "Comparisons",
        "Curves",
        "Environment",
    ]
    cells = {
        row[0].value: [cell.value for cell in row] for row in book["Summary"].iter_rows(max_row=12)
    }
    assert cells["throughput"][2:5] == [50.0, 60.0, 90.0]  # numbers, not text
    assert cells["energy per sample"][2] == "n/a"
    assert len(book["Lengths"]._charts) == 2
    facts = {row[1].value: row[2].value for row in book["Environment"].iter_rows(min_row=2)}
    assert facts["cpu_model"] == "CPU"
    assert facts["versions.torch"] == "2.13"


def test_pictures_are_pngs_of_a_sensible_size(report: Report) -> None:
    for path in report.files:
        if path.suffix == ".png":
            head = path.read_bytes()[:24]
            assert head.startswith(b"\x89PNG\r\n")
            width, height = struct.unpack(">II", head[16:])
            assert 600 <= width <= 2000
            assert 300 <= height <= 2500


def test_an_earlier_report_is_replaced_only_with_force(tmp_path: Path) -> None:
    write_result(make_result(), tmp_path / "results")
    build_report(tmp_path / "results", tmp_path / "out")
    before = (tmp_path / "out" / "report.md").read_bytes()
    with pytest.raises(OutputExistsError, match="--force"):
        build_report(tmp_path / "results", tmp_path / "out")
    build_report(tmp_path / "results", tmp_path / "out", force=True)
    assert (tmp_path / "out" / "report.md").read_bytes() == before


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        build_report(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_formulas_in_names_stay_text(tmp_path: Path) -> None:
    """A model called =cmd|'...' must not run anything when the table is opened."""
    evil = "=HYPERLINK(1)"
    result = make_result()
    result = result.model_copy(
        update={"subject": result.subject.model_copy(update={"model": evil})}
    )
    write_result(result, tmp_path / "results")
    build_report(tmp_path / "results", tmp_path / "out")
    text = (tmp_path / "out" / "figures.csv").read_text(encoding="utf-8")
    assert f"'{evil}" in text
    assert f",{evil}" not in text
    book = openpyxl.load_workbook(tmp_path / "out" / "report.xlsx")
    formulas = [
        cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.data_type == "f"
    ]
    assert formulas == []


def test_negative_numbers_are_no_formulas() -> None:
    assert to_csv([{"a": -1.5, "b": None}]) == "a,b\n-1.5,\n"
    assert to_csv([]) == ""


def test_cells_cannot_break_a_markdown_table() -> None:
    table = markdown_table(["a"], [["x | y\nz <b>"]])
    assert table.splitlines()[2] == "| x \\| y z &lt;b> |"


def test_a_bench_shows_only_what_was_taken_and_in_order() -> None:
    rows = summarise(make_result())
    assert [row.figure for row in rows] == [
        "accuracy",
        "total_macs",
        "throughput",
        "energy_gross",
    ]
    assert rows[1].verdict == "better"
    assert rows[3].cell("pruned") == "n/a"
    assert rows[3].method == "not taken"


def test_a_file_is_no_place_for_a_report(tmp_path: Path) -> None:
    write_result(make_result(), tmp_path / "results")
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="is a file; a report is a directory"):
        build_report(tmp_path / "results", tmp_path / "notes.txt", force=True)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
