"""The workbook, read back with another library: numbers, words, colours, charts, no formulas."""

from __future__ import annotations

import re
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from alpine_cli.report.document import make_document
from alpine_cli.report.excel import write_workbook
from alpine_cli.report.figures import drawable, ratio_of
from alpine_cli.report.summary import summarise
from alpine_cli.results import Result, Series
from tests.report.made import by_length, make_result


def anatomy() -> Series:
    return Series(
        name="speedup_anatomy",
        variant="pruned",
        baseline="unpruned",
        unit="ms",
        x_name="step",
        x=[0, 1, 2, 3],
        y=[30.0, -10.0, 4.0, 24.0],
        labels=["unpruned", "saved", "scoring", "pruned"],
        method="made by hand",
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_result()
    result = made.model_copy(update={"series": [*made.series, anatomy()]})
    other = make_result(id="0badcaf0", series=[], settings={"device": "cpu", "batch_size": 8})
    written = tmp_path_factory.mktemp("book") / "report.xlsx"
    write_workbook(make_document([result, other], problems=["a.json: broken"]), written)
    return written


@pytest.fixture(scope="module")
def book(path: Path) -> Any:
    return openpyxl.load_workbook(path)


def rows_of(sheet: Any) -> dict[str, list[Any]]:
    return {row[0].value: [cell.value for cell in row] for row in sheet.iter_rows() if row[0].value}


def test_there_is_a_sheet_per_table_and_contents_that_link_to_them(book: Any) -> None:
    assert book.sheetnames[:2] == ["Contents", "Overview"]
    assert {"Summary-0badcafe", "Lengths-0badcafe", "By-length-0badcafe"} <= set(book.sheetnames)
    assert "Batch-sizes-0badcaf0" in book.sheetnames
    assert {"Figures", "Comparisons", "Curves", "Environment"} <= set(book.sheetnames)
    contents = book["Contents"]
    links = {cell.value: cell.hyperlink for row in contents.iter_rows() for cell in row}
    for name in book.sheetnames[1:]:
        assert links[name].location == f"'{name}'!A1"
    assert rows_of(contents)["Left out"][1] == "a.json: broken"
    # Of several results each is told by what it was measured at, not by its id alone.
    assert rows_of(contents)["Mind, batch 32, 0badcafe"][1] == "the machine was busy"
    assert rows_of(contents)["Mind, batch 8, 0badcaf0"][1] == "the machine was busy"


def test_numbers_are_numbers_with_their_interval_and_verdict(book: Any) -> None:
    rows = rows_of(book["Summary-0badcafe"])
    head = rows["figure"]
    throughput = dict(zip(head, rows["throughput [samples/s]"], strict=True))
    assert (throughput["stock"], throughput["pruned"]) == (50.0, 90.0)
    assert throughput["pruned / unpruned"] == pytest.approx(1.5)
    low, high = (throughput[f"pruned / unpruned: 95 % CI {end}"] for end in ("low", "high"))
    assert low < 1.5 < high
    assert throughput["pruning is"] == "better"
    accuracy = dict(zip(head, rows["accuracy [%]"], strict=True))
    assert accuracy["pruned / unpruned"] == pytest.approx(-2.0)  # points, as the text says
    energy = next(value for name, value in rows.items() if name.startswith("energy per sample"))
    assert energy[1] == "n/a"


def test_an_overview_cell_is_taken_apart(book: Any) -> None:
    head, *lines = [
        [cell.value for cell in row] for row in book["Overview"].iter_rows(min_row=3, max_row=5)
    ]
    for line in lines:
        row = dict(zip(head, line, strict=True))
        assert row["throughput"] == pytest.approx(1.5)
        assert row["throughput: verdict"] == "better"
        assert row["accuracy: verdict"] == "no difference shown"


def test_tables_are_frozen_filtered_and_coloured_by_their_words(book: Any) -> None:
    sheet = book["Summary-0badcafe"]
    assert sheet.freeze_panes == "B4"
    assert sheet.auto_filter.ref is not None
    rules = [rule for found in sheet.conditional_formatting for rule in found.rules]
    assert {rule.text for rule in rules} >= {"better", "worse"}
    assert book["Figures"].freeze_panes == "B2"


def test_charts_are_native_and_read_cells(book: Any, path: Path) -> None:
    assert len(book["Summary-0badcafe"]._charts) == 2  # ratios and anatomy
    assert len(book["Lengths-0badcafe"]._charts) == 1
    assert len(book["By-length-0badcafe"]._charts) == 1
    with zipfile.ZipFile(path) as packed:
        charts = [packed.read(n).decode() for n in packed.namelist() if "charts/chart" in n]
    assert sum("<c:errBars>" in chart for chart in charts) >= 2
    assert all("<c:f>" in chart for chart in charts)


def test_a_figure_without_interval_has_no_whisker_and_the_axis_holds_the_others(
    book: Any, path: Path
) -> None:
    """Lengths of 0 drew caps on bars, and Excel cut the axis at the bars' own ends."""
    lines = [[c.value for c in row[:4]] for row in book["Summary-0badcafe"].iter_rows()]
    at = next(i for i, line in enumerate(lines) if line[0] == "chart: figure")
    result = make_result()
    drawn = [row for row in summarise(result) if drawable(row)]
    for line, row in zip(lines[at + 1 :], drawn, strict=False):
        ratio, interval = ratio_of(row)
        expected = None if interval is None else interval.high - ratio
        assert line[3] == (expected if expected is None else pytest.approx(expected))
    assert any(ratio_of(row)[1] is None for row in drawn)
    with zipfile.ZipFile(path) as packed:
        charts = [packed.read(n).decode() for n in packed.namelist() if "charts/chart" in n]
    with_bars = [chart for chart in charts if "<c:errBars>" in chart]
    assert all('<c:noEndCap val="1"/>' in chart for chart in with_bars)
    highest = max(i.high for _, i in map(ratio_of, drawn) if i is not None)
    for bars in (chart for chart in with_bars if "What pruning changes" in chart):
        assert float(bars.partition('<c:max val="')[2].partition('"')[0]) >= highest


def test_without_any_interval_there_are_no_error_bars(tmp_path: Path) -> None:
    bare = [c.model_copy(update={"low": None, "high": None}) for c in by_length()]
    result = make_result(series=bare, comparisons=[])
    write_workbook(make_document([result]), tmp_path / "x.xlsx")
    with zipfile.ZipFile(tmp_path / "x.xlsx") as packed:
        charts = [packed.read(n).decode() for n in packed.namelist() if "charts/chart" in n]
    assert charts
    assert not any("errBars" in chart for chart in charts)


def test_heads_fit_names_are_whole_and_notes_speak_of_columns(tmp_path: Path) -> None:
    """Heads were cut at two lines, names at 44 characters; notes spoke of brackets."""
    result = make_result()
    name = "compressor:compressor_codebert_clone_detection_3mb.model.bin"
    subject = result.subject.model_copy(update={"model": name})
    other = result.model_copy(update={"subject": subject, "id": "0badcaf0"})
    write_workbook(make_document([result, other]), tmp_path / "x.xlsx")
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    for sheet in (book["Overview"], book["Summary-0badcafe"], book["By-length-0badcafe"]):
        for cell in sheet[3]:
            if cell.value is None:
                continue
            width = sheet.column_dimensions[cell.column_letter].width
            assert max(map(len, re.split(r"[\s-]+", cell.value))) < width
            lines = textwrap.wrap(cell.value, int(width) - 1)
            assert 15 * len(lines) <= sheet.row_dimensions[3].height
        assert sheet.page_setup.orientation == "landscape"
        assert (sheet.page_setup.fitToWidth or 1, sheet.page_setup.fitToHeight) == (1, 0)
        words = [c.value for row in sheet.iter_rows() for c in row if isinstance(c.value, str)]
        assert not any("rackets" in word for word in words)
    overview = book["Overview"]
    assert overview.column_dimensions["A"].width > len(name)


def test_the_anatomy_stands_on_its_steps(book: Any) -> None:
    lines = [[c.value for c in row[:5]] for row in book["Summary-0badcafe"].iter_rows()]
    at = next(i for i, line in enumerate(lines) if line[0] == "chart: step")
    assert lines[at] == ["chart: step", "base", "time", "saved", "lost"]
    assert lines[at + 1] == ["unpruned", 0, 30, 0, 0]
    assert lines[at + 2] == ["saved", 20, 0, 10, 0]
    assert lines[at + 3] == ["scoring", 20, 0, 0, 4]
    assert lines[at + 4] == ["pruned", 0, 24, 0, 0]


def test_sheet_names_are_those_excel_takes(tmp_path: Path) -> None:
    result: Result = make_result(series=[])
    evil = result.subject.model_copy(update={"model": "a'b[c]:*?/\\" * 9, "task": "=1+1"})
    results = [
        result.model_copy(update={"subject": evil}),
        result.model_copy(update={"subject": evil, "id": "0badcaf0"}),
    ]
    write_workbook(make_document(results), tmp_path / "x.xlsx")
    book = openpyxl.load_workbook(tmp_path / "x.xlsx")
    assert len({name.lower() for name in book.sheetnames}) == len(book.sheetnames)
    assert all(len(name) <= 31 and not set(name) & set("[]:*?/\\'") for name in book.sheetnames)
    cells = [cell for sheet in book for row in sheet.iter_rows() for cell in row]
    assert [cell for cell in cells if cell.data_type == "f"] == []
    outside = [c.hyperlink.target for c in cells if c.hyperlink is not None and c.hyperlink.target]
    assert outside == []
