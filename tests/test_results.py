"""The result schema: what it refuses, what it keeps, and that files are never replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from alpine_cli.errors import DataError, OutputExistsError
from alpine_cli.result_files import read_result, read_results, write_result
from alpine_cli.results import (
    SCHEMA_VERSION,
    Caution,
    Figure,
    Interval,
    Part,
    Predictions,
    Series,
    json_schema,
    like_cautions,
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
    (tmp_path / "notes.json").write_text("{}", encoding="utf-8")  # sound, and no result
    results, problems = read_results(tmp_path)
    assert len(results) == 1
    assert len(problems) == 1
    assert "bench-broken.json" in problems[0]


@pytest.mark.parametrize("kept", [0, 40])
def test_a_renamed_result_that_was_cut_short_is_named(tmp_path: Path, kept: int) -> None:
    """Its name does not give it away, nor what is left of it; it was passed over in silence."""
    path = write_result(make_result(), tmp_path)
    (tmp_path / "of-the-server.json").write_bytes(path.read_bytes()[:kept])
    results, problems = read_results(tmp_path)
    assert len(results) == 1
    assert len(problems) == 1
    assert "of-the-server.json: not valid JSON" in problems[0]


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
    busy, hot = Caution(code="busy", text="busy"), Caution(code="hot", text="hot")
    merged = Part(cautions=[busy]).merged(Part(cautions=[busy, hot]))
    assert merged.cautions == [busy, hot]


def test_cautions_of_one_effect_and_remedy_are_said_together() -> None:
    def outlier(text: str) -> Caution:
        return Caution(code="outliers", text=text, effect="wider", remedy="again")

    first, second, other = outlier("a"), outlier("b"), Caution(code="note", text="c")
    assert like_cautions([first, other, second, first]) == [[first, second], [other]]


def test_the_json_schema_describes_every_field() -> None:
    schema = json_schema()
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"figures", "comparisons", "series", "environment"} <= set(schema["properties"])
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION


def test_a_file_of_version_1_is_read_with_its_warnings_as_cautions() -> None:
    path = Path(__file__).parent / "data" / "result-v1.json"
    old = json.loads(path.read_text())
    assert old["schema_version"] == 1
    result = read_result(path)
    assert result.schema_version == SCHEMA_VERSION
    assert [(c.code, c.text) for c in result.cautions] == [("note", "the machine was busy")]
    # the file's own words: nothing that changes how results are made may change what is read
    kept = {
        name: value for name, value in old.items() if name not in ("schema_version", "warnings")
    }
    dumped = result.model_dump(mode="json", exclude_unset=True)
    assert {name: dumped[name] for name in kept} == kept
    throughput = result.figure("throughput", "pruned")
    assert throughput is not None
    assert (throughput.value, throughput.n, throughput.unit) == (90.0, 6, "samples/s")


def test_a_broken_file_of_version_1_names_the_field(tmp_path: Path) -> None:
    path = tmp_path / "bench-old.json"
    path.write_text(json.dumps({"schema_version": 1, "warnings": 5}))
    with pytest.raises(DataError, match="cautions"):
        read_result(path)


def test_a_caution_reads_as_a_sentence() -> None:
    caution = Caution(code="hot", text="the GPU was hot", effect="times are long", remedy="Wait")
    assert str(caution) == "the GPU was hot: times are long. Wait"
    assert str(Caution(code="hot", text="the GPU was hot")) == "the GPU was hot"


def test_figures_of_a_variant_nobody_described_are_refused() -> None:
    figure = make_result().figures[0].model_copy(update={"variant": "ghost"})
    with pytest.raises(ValidationError, match="ghost"):
        make_result(figures=[figure])


@pytest.mark.parametrize("digits", ["01", "0x1", "", "0²1"])
def test_predictions_are_one_digit_per_sample(digits: str) -> None:
    with pytest.raises(ValidationError, match="not 3 digits"):
        Predictions(labels="010", predicted={"pruned": digits})


def test_a_renamed_result_is_found_a_copy_is_read_once_and_other_json_is_passed_over(
    tmp_path: Path,
) -> None:
    path = write_result(make_result(), tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "list.json").write_text("[1]")
    path.rename(tmp_path / "nice name.json")
    (tmp_path / "z-copy.json").write_bytes((tmp_path / "nice name.json").read_bytes())
    results, problems = read_results(tmp_path)
    assert [result.id for result in results] == ["0badcafe"]
    assert len(problems) == 1
    assert "z-copy.json: the same result" in problems[0]
