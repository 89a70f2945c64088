"""The result schema: what it refuses, what it keeps, and that files are never replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from alpine_cli.errors import DataError, OutputExistsError
from alpine_cli.results import (
    SCHEMA_VERSION,
    Figure,
    Interval,
    Part,
    Series,
    json_schema,
    read_result,
    read_results,
    write_result,
)
from tests.report.made import make_result


def test_a_result_reads_back_as_it_was_written(tmp_path: Path) -> None:
    result = make_result()
    path = write_result(result, tmp_path)
    assert path.name.startswith(f"bench-20261121T070000Z-{result.id}")
    assert read_result(path) == result


def test_a_result_file_is_never_replaced(tmp_path: Path) -> None:
    result = make_result()
    path = write_result(result, tmp_path)
    before = path.read_bytes()
    with pytest.raises(OutputExistsError):
        write_result(result, tmp_path)
    assert path.read_bytes() == before


def test_two_results_of_one_second_get_two_files(tmp_path: Path) -> None:
    first, second = make_result(id="00000001"), make_result(id="00000002")
    assert write_result(first, tmp_path) != write_result(second, tmp_path)
    results, problems = read_results(tmp_path)
    assert [result.id for result in results] == ["00000001", "00000002"]
    assert problems == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, "later alpine"),
        ({"schema_version": None}, "no schema_version"),
        ({"schema_version": True}, "no schema_version"),
        ({"kind": "guess"}, "kind"),
        ({"surprise": 1}, "surprise"),
    ],
    ids=["later version", "no version", "boolean version", "unknown kind", "unknown field"],
)
def test_a_wrong_file_is_refused_by_name_and_field(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    content = json.loads(make_result().model_dump_json()) | change
    path = tmp_path / "bench-x.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=message) as caught:
        read_result(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "NaN", '{"schema_version": 1, "a": NaN}'])
def test_what_is_no_json_object_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bench-x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        read_result(path)


def test_a_broken_file_among_good_ones_is_named_and_left_out(tmp_path: Path) -> None:
    write_result(make_result(), tmp_path)
    (tmp_path / "bench-broken.json").write_text("{", encoding="utf-8")
    (tmp_path / "notes.json").write_text("{", encoding="utf-8")  # not named like a result
    results, problems = read_results(tmp_path)
    assert len(results) == 1
    assert len(problems) == 1
    assert "bench-broken.json" in problems[0]


def test_an_empty_or_missing_directory_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="alpine bench"):
        read_results(tmp_path)
    with pytest.raises(DataError, match="no such directory"):
        read_results(tmp_path / "none")


def _figure(**changes: object) -> dict[str, object]:
    fields = {
        "name": "latency",
        "variant": "pruned",
        "unit": "ms",
        "value": 1.0,
        "provenance": "measured",
        "method": "a clock",
    }
    return fields | changes


@pytest.mark.parametrize(
    "changes",
    [
        {"value": None, "provenance": "absent"},
        {"value": None, "reason": "no counter"},
        {"value": 1.0, "reason": "no counter"},
        {"value": 1.0, "provenance": "absent"},
        {"value": float("nan")},
        {"value": float("inf")},
        {"samples": [1.0, float("nan")]},
    ],
    ids=[
        "null without reason",
        "null but measured",
        "value with reason",
        "value but absent",
        "nan",
        "infinity",
        "nan sample",
    ],
)
def test_a_figure_is_a_number_or_a_reason(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Figure.model_validate(_figure(**changes))


def test_an_absent_figure_keeps_its_reason() -> None:
    figure = Figure.model_validate(_figure(value=None, reason="no GPU", provenance="absent"))
    assert (figure.value, figure.reason) == (None, "no GPU")


def test_intervals_and_series_are_checked() -> None:
    with pytest.raises(ValidationError, match="above"):
        Interval(low=2, high=1, method="x")
    with pytest.raises(ValidationError, match="2 x values, 1 y"):
        Series(name="s", variant="v", unit="u", x_name="l", x=[0, 1], y=[1], method="m")


def test_merging_keeps_a_warning_once() -> None:
    merged = Part(warnings=["busy"]).merged(Part(warnings=["busy", "hot"]))
    assert merged.warnings == ["busy", "hot"]


def test_the_json_schema_describes_every_field() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"figures", "comparisons", "series", "environment"} <= set(schema["properties"])
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
