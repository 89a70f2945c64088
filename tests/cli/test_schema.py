"""The exported schema accepts what alpine writes, refuses what is broken, and is documented."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.results import Predictions, json_schema
from alpine_cli.schema_reference import reference
from tests.report.made import make_result

Run = Callable[..., Any]
DOCUMENT = Path(__file__).parents[2] / "docs" / "results.md"


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def written() -> dict[str, Any]:
    predictions = Predictions(labels="0101", predicted={"pruned": "0111"})
    content: dict[str, Any] = json.loads(make_result(predictions=predictions).model_dump_json())
    return content


def test_what_alpine_writes_is_valid(validator: Any) -> None:
    validator.validate(written())


BROKEN: dict[str, Callable[[dict[str, Any]], None]] = {
    "no version": lambda r: r.pop("schema_version"),
    "another version": lambda r: r.update(schema_version=1),
    "no subject": lambda r: r.pop("subject"),
    "an unknown field": lambda r: r.update(surprise=1),
    "an unknown kind": lambda r: r.update(kind="guess"),
    "an id that is none": lambda r: r.update(id="xyz"),
    "a figure without a unit": lambda r: r["figures"][0].pop("unit"),
    "a value as text": lambda r: r["figures"][0].update(value="90"),
    "an unknown provenance": lambda r: r["figures"][0].update(provenance="felt"),
    "an unknown verdict": lambda r: r["comparisons"][0].update(verdict="great"),
    "a p-value above 1": lambda r: r["comparisons"][0].update(p_value=1.5),
    "predictions that are no digits": lambda r: r["predictions"].update(labels="ab"),
    "no samples": lambda r: r["subject"].update(samples=0),
    "a caution without text": lambda r: r["cautions"].append({"code": "hot"}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_invalid(validator: Any, name: str) -> None:
    content = copy.deepcopy(written())
    BROKEN[name](content)
    assert not validator.is_valid(content)


def test_it_is_printed_and_written(run_alpine: Run, tmp_path: Path) -> None:
    printed = run_alpine("schema")
    assert printed.exit_code == 0
    assert json.loads(printed.stdout) == json_schema()
    path = tmp_path / "schema.json"
    assert run_alpine("schema", "--output", path).exit_code == 0
    assert json.loads(path.read_text("utf-8")) == json_schema()
    again = run_alpine("schema", "--output", path)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert run_alpine("schema", "--output", path, "--force").exit_code == 0


def test_the_documentation_is_that_of_this_schema(run_alpine: Run) -> None:
    """After a change of the schema: `alpine schema --markdown`, below the mark in the document."""
    _, _, tables = DOCUMENT.read_text("utf-8").partition("a test compares -->\n\n")
    assert tables.strip() == reference().strip()
    assert run_alpine("schema", "--markdown").stdout.strip() == reference().strip()


def test_every_record_and_field_is_documented() -> None:
    schema = json_schema()
    text = reference()
    for name, record in {"Result": schema, **schema["$defs"]}.items():
        section = text.partition(f"### {name}\n")[2].partition("\n### ")[0]
        for field in record["properties"]:
            assert f"| `{field}` |" in section, f"{name}.{field}"


def test_the_table_of_versions_ends_with_this_one() -> None:
    head = DOCUMENT.read_text("utf-8").partition("## Fields")[0]
    versions = [line.split("|")[1].strip() for line in head.splitlines() if line.startswith("| ")]
    assert versions[-1] == str(json_schema()["properties"]["schema_version"]["const"])
