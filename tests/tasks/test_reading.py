"""Every complaint about a data file names the file and the line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.errors import DataError
from alpine_cli.tasks.reading import read_json, read_lines, read_rows


def _complaint(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_rows(path))
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_lines_are_numbered_from_one_and_a_byte_order_mark_is_dropped(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffé\nb\r\n".encode())
    assert list(read_lines(path)) == [(1, "é\n"), (2, "b\r\n")]


def test_missing_file(tmp_path: Path):
    assert "nothing.jsonl: no such file" in _complaint(tmp_path / "nothing.jsonl")


def test_a_directory_in_place_of_a_file(tmp_path: Path):
    (tmp_path / "x.jsonl").mkdir()
    assert "x.jsonl: cannot be read" in _complaint(tmp_path / "x.jsonl")


def test_not_utf8_names_the_byte(tmp_path: Path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"func": "ok"}\n{"func": "caf\xe9"}\n')
    assert "a.jsonl:2: not UTF-8 (byte 0xe9 at position 14 of the line)" in _complaint(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"func": "a"', "not JSON"),
        ("[1]", "expected a JSON object, found an array"),
        ('"text"', "found a string"),
        ("null", "found null"),
        ("3", "found a number"),
        ("[" * 200_000, "not usable JSON"),
        ('{"a": ' + "9" * 5000 + "}", "not usable JSON"),
    ],
    ids=["cut", "array", "string", "null", "number", "bottomless", "huge-number"],
)
def test_malformed_json_line(tmp_path: Path, line: str, message: str):
    path = tmp_path / "a.jsonl"
    path.write_text('{"func": "a"}\n\n' + line + "\n")
    complaint = _complaint(path)
    assert "a.jsonl:3: " in complaint
    assert message in complaint


def test_malformed_json_document_names_the_line(tmp_path: Path):
    path = tmp_path / "function.json"
    path.write_text('[\n {"func": "a"},\n {"func" "b"}\n]')
    with pytest.raises(DataError, match=r"function\.json:3: not JSON"):
        read_json(path)


def _gzipped(rows: int) -> bytes:
    return gzip.compress(
        b"".join(json.dumps({"func": f"f{i}" * 50}).encode() + b"\n" for i in range(rows))
    )


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-6],
        lambda data: data[:40] + bytes(20) + data[60:],
        lambda data: b"plain text, not gzip\n",
        lambda data: b"",
    ],
    ids=["half", "no-checksum", "zeroed", "not-gzip", "empty"],
)
def test_damaged_gzip(tmp_path: Path, damage):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(damage(_gzipped(500)))
    if path.stat().st_size == 0:
        assert list(read_rows(path)) == []  # gzip itself takes no bytes for no data
    else:
        assert "a.jsonl.gz:" in (complaint := _complaint(path))
        assert "damaged gzip" in complaint


def test_csv_counts_physical_lines(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text('func,target\n"int f() {\n return 1;\n}",1\n\ng(),0\nh(),0,9\n')
    rows = read_rows(path)
    assert next(rows) == (2, {"func": "int f() {\n return 1;\n}", "target": "1"})
    assert next(rows) == (6, {"func": "g()", "target": "0"})
    with pytest.raises(DataError, match=r"a\.csv:7: 3 fields where the header names 2"):
        next(rows)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv:1: empty"),
        ("func,func\n", "a.csv:1: a column name occurs twice"),
        ('func\n"never closed\n', "a.csv:2: malformed CSV"),
    ],
    ids=["empty", "twice", "open-quote"],
)
def test_malformed_csv(tmp_path: Path, text: str, message: str):
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert message in _complaint(path)


def test_csv_reads_functions_longer_than_the_csv_modules_limit_and_restores_it(tmp_path: Path):
    limit = csv.field_size_limit()
    path = tmp_path / "a.csv"
    path.write_text("func\n" + "x" * (limit + 1) + "\n")
    assert len(next(iter(read_rows(path)))[1]["func"]) == limit + 1
    list(read_rows(path))
    assert csv.field_size_limit() == limit


def test_unknown_suffix(tmp_path: Path):
    with pytest.raises(DataError, match="expected one of"):
        read_rows(tmp_path / "a.xml")


def test_parquet_is_an_extra(tmp_path: Path):
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        path = tmp_path / "a.parquet"
        path.write_bytes(b"PAR1")
        assert "alpine-cli[parquet]" in _complaint(path)
    else:
        path = tmp_path / "a.parquet"
        path.write_bytes(b"not parquet at all")
        assert "not a readable parquet file" in _complaint(path)


@settings(deadline=None)  # files on a busy disk
@given(
    rows=st.lists(
        st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.integers(0, 9)), max_size=8
    ),
    packed=st.booleans(),
)
def test_jsonl_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict], packed: bool):
    """Whatever text json.dumps can write is read back, line by line, gzipped or not."""
    folder = tmp_path_factory.mktemp("rows")
    path = folder / ("a.jsonl.gz" if packed else "a.jsonl")
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_rows(path)) == list(enumerate(rows, start=1))
