"""`--force` replaces an earlier report and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from alpine_cli.errors import OutputExistsError
from alpine_cli.report import manifest
from alpine_cli.report.build import build_report
from alpine_cli.result_files import write_result
from tests.report.made import make_result


@pytest.fixture
def results(tmp_path: Path) -> list[Path]:
    write_result(make_result(series=[], figures=[], comparisons=[]), tmp_path / "results")
    return [tmp_path / "results"]


def test_an_earlier_report_is_replaced_only_with_force(results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_report(results, out)
    before = (out / "report.md").read_bytes()
    with pytest.raises(OutputExistsError, match="--force"):
        build_report(results, out)
    (out / "report.md").write_text("edited", encoding="utf-8")
    build_report(results, out, force=True)
    assert (out / "report.md").read_bytes() == before


def test_stale_files_go_and_foreign_files_stay(results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_result(make_result(id="0badcaf0"), tmp_path / "more")
    build_report([*results, tmp_path / "more"], out)
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    (out / "latex" / "mine.tex").write_text("mine", encoding="utf-8")
    stale = list((out / "figures").iterdir())
    assert stale
    built = build_report(results, out, force=True)
    assert set(stale) <= set(built.removed)
    assert not (out / "figures").exists()
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert (out / "latex" / "mine.tex").read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in out.iterdir() if path.name.startswith(".")) == [
        ".alpine-report"
    ]


def test_a_folder_of_somebody_else_is_refused_even_with_force(
    results: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "report.md").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="no report of alpine"):
        build_report(results, out, force=True)
    assert [path.name for path in out.iterdir()] == ["report.md"]
    assert (out / "report.md").read_text(encoding="utf-8") == "mine"


def test_a_foreign_file_in_the_way_stops_before_anything_is_written(
    results: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    build_report(results, out)
    manifest.finish(out, {"report.md"}, [])  # as if the report had never had it
    (out / "report.md").write_text("mine", encoding="utf-8")
    (out / "report.html").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="not from an earlier report"):
        build_report(results, out, force=True)
    assert (out / "report.md").read_text(encoding="utf-8") == "mine"


def test_a_file_is_no_place_for_a_report(results: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputExistsError, match="is a file; a report is a directory"):
        build_report(results, tmp_path / "notes.txt", force=True)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_list_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside.txt"
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "kept.txt").write_text("mine", encoding="utf-8")
    outside.write_text("mine", encoding="utf-8")
    out.mkdir()
    (out / "link").symlink_to(tmp_path / "elsewhere")
    listed = ["../outside.txt", str(outside), "link/kept.txt", "a\\b", "", 7]
    (out / manifest.NAME).write_text(json.dumps({"files": listed}), encoding="utf-8")
    earlier = manifest.begin(out, force=True)
    assert earlier == set()
    assert manifest.finish(out, earlier, []) == []
    assert outside.exists()
    assert (tmp_path / "elsewhere" / "kept.txt").exists()


def test_a_linked_folder_is_not_written_through(results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    build_report(results, out)
    for path in (out / "latex").iterdir():
        path.unlink()
    (out / "latex").rmdir()
    (tmp_path / "elsewhere").mkdir()
    (out / "latex").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputExistsError, match="leads out of"):
        build_report(results, out, force=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 3}', "\x00"])
def test_a_broken_list_is_no_list(content: str, tmp_path: Path) -> None:
    (tmp_path / manifest.NAME).write_text(content, encoding="utf-8")
    assert manifest.earlier_files(tmp_path) is None


def test_a_report_that_was_killed_can_be_made_again(results: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    manifest.claim(out, manifest.begin(out, force=False), ())
    workshop = out / f"{manifest.WORKSHOP}abc"
    workshop.mkdir()
    (workshop / "half.html").write_text("<", encoding="utf-8")
    build_report(results, out, force=True)
    assert not workshop.exists()
