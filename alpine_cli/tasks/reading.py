"""Reading data files strictly: every complaint names the file and the line.

Text is UTF-8 (a leading byte order mark is dropped), plain or gzipped (`.gz`); a byte that is not
UTF-8, a damaged gzip stream, a broken JSON line or a ragged CSV row is an error, never a guess.
Readers are generators of `(line number, value)`, so that large files are not held in memory.
Nothing here knows about tasks; `layouts` gives the rows their meaning.
"""

from __future__ import annotations

import csv
import gzip
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from alpine_cli.errors import DataError

__all__ = ["TABLE_SUFFIXES", "read_json", "read_lines", "read_rows"]

Row = dict[str, Any]


TABLE_SUFFIXES = (".jsonl", ".csv", ".parquet")
"""File name endings that `read_rows` understands; `.jsonl` and `.csv` may be followed by `.gz`."""


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text with its line end) of a UTF-8 file, gunzipped if `.gz`.

    Raises:
        DataError: missing, unreadable, not UTF-8, or a damaged gzip stream.
    """
    number = 0
    try:
        opener = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rb") as file:
            for number, raw in enumerate(file, start=1):
                if number == 1:
                    raw = raw.removeprefix(b"\xef\xbb\xbf")
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError as error:
                    raise DataError(
                        f"{path}:{number}: not UTF-8 (byte 0x{raw[error.start]:02x} at position "
                        f"{error.start + 1} of the line); save the file as UTF-8"
                    ) from error
                yield number, text
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(
            f"{path}:{number + 1}: damaged gzip stream ({error}); fetch or compress the file again"
        ) from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        DataError: as `read_lines`, or the text is not JSON.
    """
    text = "".join(line for _, line in read_lines(path))
    return _parse_json(text, path, first_line=1)


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line number, row as a dict) of a `.jsonl`, `.csv` (either may be `.gz`) or `.parquet`.

    Blank lines are skipped. A CSV file starts with a row of column names; its values are text.

    Raises:
        DataError: as `read_lines`, or a line is malformed.
    """
    name = path.name.removesuffix(".gz")
    if name.endswith(".jsonl"):
        return _read_jsonl(path)
    if name.endswith(".csv"):
        return _read_csv(path)
    if name.endswith(".parquet"):
        return _read_parquet(path)
    raise DataError(f"{path}: unknown kind of file; expected one of {', '.join(TABLE_SUFFIXES)}")


def _read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        row = _parse_json(line.rstrip(), path, first_line=number)
        if not isinstance(row, dict):
            raise DataError(f"{path}:{number}: expected a JSON object, found {_kind(row)}")
        yield number, row


def _read_csv(path: Path) -> Iterator[tuple[int, Row]]:
    # A function can be longer than the csv module's default limit of 131,072 characters. The
    # limit is a setting of the process, so it is put back whatever happens in between.
    previous = csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader((line for _, line in read_lines(path)), strict=True)
        names = next(reader, None)
        if names is None:
            raise DataError(f"{path}:1: empty; expected a row of column names")
        if len(set(names)) != len(names):
            raise DataError(f"{path}:1: a column name occurs twice in {', '.join(names)}")
        start = reader.line_num + 1
        for values in reader:
            if values:
                if len(values) != len(names):
                    raise DataError(
                        f"{path}:{start}: {len(values)} fields where the header names {len(names)}"
                    )
                yield start, dict(zip(names, values, strict=True))
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}:{reader.line_num}: malformed CSV: {error}") from error
    finally:
        csv.field_size_limit(previous)


def _read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    try:
        import pyarrow.parquet  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise DataError(
            f"{path}: reading parquet needs an extra: pip install 'alpine-cli[parquet]'"
        ) from error
    try:
        batches = pyarrow.parquet.ParquetFile(path).iter_batches()
        number = 0
        for batch in batches:
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (OSError, ValueError) as error:  # pyarrow.ArrowInvalid is a ValueError
        raise DataError(f"{path}: not a readable parquet file: {error}") from error


def _parse_json(text: str, path: Path, *, first_line: int) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = first_line + error.lineno - 1
        raise DataError(f"{path}:{line}: not JSON: {error.msg} (column {error.colno})") from error
    except (ValueError, RecursionError) as error:
        # json.loads lets a number of thousands of digits and bottomless nesting through to here.
        raise DataError(f"{path}:{first_line}: not usable JSON: {error}") from error


def _kind(value: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
