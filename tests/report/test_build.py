"""The whole report from result files alone; workbook, pages and CSV read back."""

from __future__ import annotations

import csv
import struct
from pathlib import Path

import openpyxl
import pytest

from alpine_cli.errors import DataError
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.report.build import Report, build_report
from alpine_cli.report.markdown import markdown_table
from alpine_cli.report.summary import summarise
from alpine_cli.report.tidy import to_csv
from alpine_cli.result_files import write_result
from tests.report.made import make_result, with_energy


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    folder = tmp_path_factory.mktemp("report")
    write_result(make_result(), folder / "results")
    second = make_result(id="0badcaf0", kind="throughput")
    write_result(second, folder / "more")
    (folder / "results" / "bench-broken.json").write_text("{", encoding="utf-8")
    return build_report([folder / "results", folder / "more"], folder / "out")


def page_of(report: Report, name: str) -> str:
    return (report.directory / name).read_text(encoding="utf-8")


def test_everything_is_written_and_the_broken_file_is_named(report: Report) -> None:
    names = {path.relative_to(report.directory).as_posix() for path in report.files}
    assert {"report.html", "report.md", "report.xlsx", "latex/all-tables.tex"} <= names
    assert {"figures.csv", "comparisons.csv", "curves.csv", "environment.csv"} <= names
    assert {path for path in report.directory.rglob("*") if path.is_file()} == {
        *report.files,
        report.directory / ".alpine-report",
    }
    assert all(path.stat().st_size > 0 for path in report.files)
    assert len(report.results) == 2
    (problem,) = report.problems
    assert "bench-broken.json" in problem
    for page in ("report.md", "report.html"):
        assert "results/bench-broken.json: not valid JSON" in page_of(report, page)
        assert str(report.directory.parent) not in page_of(report, page)


def test_the_page_shows_figures_verdicts_warnings_and_pictures(report: Report) -> None:
    page = page_of(report, "report.md")
    assert "| throughput [samples/s] | 50.0 | 60.0 | 90.0 | 1.50 [" in page
    assert "| multiply-adds [GMACs] | 48.3 | 48.3 | 31.2 | 0.65 ² | better ² |" in page
    assert "² deterministic: no interval" in page
    assert "-2.0 pts [-8.0, +3.0]" in page
    assert "the machine was busy" in page
    assert "- throughput: 1.50× faster (95 % CI " in page
    for picture in ("changes", "lengths"):
        name = f"figures/{picture}-clone-detection-0badcafe.png"
        assert f"({name})" in page
        assert (report.directory / name).is_file()


def test_tables_have_as_many_cells_in_every_line(report: Report) -> None:
    blocks = page_of(report, "report.md").split("\n\n")
    tables = [block for block in blocks if block.startswith("|")]
    assert len(tables) >= 5  # overview, and summary and lengths of both
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


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
    assert (row["batch_size"], row["device"]) == ("32", "cpu")
    absent = next(row for row in rows if row["figure"] == "energy_gross")
    assert (absent["value"], absent["reason"]) == ("", "no counter")
    with open(report.directory / "curves.csv", encoding="utf-8", newline="") as file:
        points = list(csv.DictReader(file))
    (point,) = [
        p
        for p in points
        if (p["result"], p["series"], p["variant"], p["label"])
        == ("0badcafe", "throughput_by_length", "pruned", "65–128 tokens")
    ]
    assert (point["y"], point["ci_low"], point["ci_high"]) == ("80.0", "76.0", "84.0")


def test_pictures_come_as_png_and_svg_of_a_sensible_size(report: Report) -> None:
    folder = report.directory / "figures"
    assert {path.stem for path in folder.glob("*.png")} == {p.stem for p in folder.glob("*.svg")}
    for path in folder.glob("*.png"):
        head = path.read_bytes()[:24]
        assert head.startswith(b"\x89PNG\r\n")
        width, height = struct.unpack(">II", head[16:])
        assert 600 <= width <= 2000
        assert 300 <= height <= 2500


def test_the_same_files_give_the_same_page(tmp_path: Path) -> None:
    write_result(make_result(series=[]), tmp_path / "results")
    once, twice = (build_report([tmp_path / "results"], tmp_path / name) for name in "ab")
    for name in ("report.html", "report.md", "figures.csv", "latex/overview.tex"):
        assert page_of(once, name) == page_of(twice, name)


def test_without_results_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        build_report([tmp_path], tmp_path / "out")
    with pytest.raises(DataError, match="no such directory"):
        build_report([tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_empty_directory_among_good_ones_is_named(tmp_path: Path) -> None:
    write_result(make_result(series=[]), tmp_path / "good")
    (tmp_path / "empty").mkdir()
    built = build_report([tmp_path / "empty", tmp_path / "good"], tmp_path / "out")
    assert len(built.results) == 1
    assert "empty: holds no readable result file" in built.problems[0]


@pytest.mark.parametrize(
    ("settings", "alpha", "named"),
    [
        ({"batch_size": "many"}, 1.0, "settings.batch_size: must be a whole number from 1"),
        ({"batch_size": 0}, 1.0, "settings.batch_size: must be a whole number from 1"),
        ({"pue": "high"}, 1.0, "settings.pue: must be a number (got 'high')"),
        ({}, "wide", "variants.pruned.pruning.alpha: must be a number (got 'wide')"),
    ],
)
def test_a_result_with_a_word_for_a_number_is_named(
    settings: dict[str, object], alpha: object, named: str, tmp_path: Path
) -> None:
    result = make_result(series=[], settings=settings)
    variants = dict(result.variants)
    pruning = {"layers": "even", "alpha": alpha}
    variants["pruned"] = variants["pruned"].model_copy(update={"pruning": pruning})
    write_result(result.model_copy(update={"variants": variants}), tmp_path / "results")
    with pytest.raises(DataError) as refused:
        build_report([tmp_path / "results"], tmp_path / "out")
    assert named in str(refused.value)
    assert "0badcafe" in str(refused.value)


def test_co2_is_recomputed_and_said_so(tmp_path: Path) -> None:
    write_result(with_energy(make_result(series=[]), joules=3.6, grams=1.0), tmp_path / "results")
    grid = grid_intensity(g_per_kwh=100.0)
    built = build_report([tmp_path / "results"], tmp_path / "out", grid=grid, pue=1.5)
    (result,) = built.results
    figure = result.figure("co2", "pruned")
    assert figure is not None
    # 3.6 J x 1000 samples = 1e-3 kWh; x 100 g/kWh x 1.5
    assert figure.value == pytest.approx(0.15)
    for page in ("report.md", "report.html"):
        assert "CO2 of 1 of 1 result(s) was recomputed" in page_of(built, page)
    assert openpyxl.load_workbook(tmp_path / "out" / "report.xlsx").sheetnames[0] == "Contents"


def test_formulas_in_names_stay_text(tmp_path: Path) -> None:
    """A model called =cmd|'...' must not run anything when the table is opened."""
    evil = "=HYPERLINK(1)"
    result = make_result()
    result = result.model_copy(
        update={"subject": result.subject.model_copy(update={"model": evil})}
    )
    write_result(result, tmp_path / "results")
    build_report([tmp_path / "results"], tmp_path / "out")
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
    table = markdown_table(["a"], [["x | y\nz <b>"], ["\\| [t](http://x)"]])
    assert table.splitlines()[2] == "| x \\| y z &lt;b> |"
    assert table.splitlines()[3] == "| \\\\\\| [t]\\(http://x) |"


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
