"""The layouts of data directories, and how each becomes samples.

    one function per sample (defect detection)
        {train,valid,test}.jsonl            objects with `func`, `target`, perhaps `idx`
        function.json + {train,valid,test}.txt
                                            Devign: an array of such objects, and per split a file
                                            of row numbers into it
    a pair per sample (clone detection)
        data.jsonl + {train,valid,test}.txt BigCloneBench: functions as `idx`, `func`, and per split
                                            a file of lines `idx1 TAB idx2 TAB label`
        {train,valid,test}.jsonl            objects with `func1`, `func2`, `label`
    one's own data
        {train,valid,test}.{jsonl,csv,parquet} with any column names, given as `Columns`

Each file may be gzipped (`.gz`). Both an entry and its gzipped twin in one place is an error,
because they may differ. Where a directory holds tables *and* the two-part layout, pairs come from
the two-part layout and single functions from the tables, unless columns were named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpine_cli.errors import DataError
from alpine_cli.tasks.data import Columns, Sample, Split
from alpine_cli.tasks.reading import TABLE_SUFFIXES, read_json, read_lines, read_rows
from alpine_cli.tasks.registry import TaskSpec

__all__ = ["describe_missing", "read_directory", "read_single_file"]

_SPLIT_FILE_NAMES = {"train": ("train",), "valid": ("valid", "validation", "val", "dev")}


@dataclass(frozen=True)
class _Function:
    """One entry of a function store: its text and where it stands."""

    text: str
    label: Any
    id: str
    where: str


def read_directory(
    spec: TaskSpec, root: Path, columns: Columns, wanted: list[str]
) -> dict[str, Split]:
    """Read the wanted splits of a directory; a split without a file is left out.

    Raises:
        DataError: a file is malformed or a layout is ambiguous.
    """
    pairs = spec.functions_per_sample == 2
    store = _one_of(root, ("data.jsonl",) if pairs else ("function.json",))
    listed = {name: _split_file(root, name, (".txt",)) for name in wanted} if store else {}
    tables = {name: _split_file(root, name, TABLE_SUFFIXES) for name in wanted}
    prefer_tables = not pairs or columns != Columns()

    found: dict[str, Split] = {}
    functions: list[_Function] | dict[str, _Function] | None = None
    for name in wanted:
        table, listing = tables[name], listed.get(name)
        if table and (prefer_tables or not listing):
            found[name] = _read_table(spec, table, columns)
        elif listing and store:
            if functions is None:  # read once, and only if some split needs it
                functions = _read_functions_by_id(store) if pairs else _read_function_array(store)
            if isinstance(functions, dict):
                found[name] = _read_pairs(listing, functions, store)
            else:
                found[name] = _read_row_numbers(listing, functions, store)
    return found


def read_single_file(
    spec: TaskSpec, path: Path, columns: Columns, wanted: list[str]
) -> dict[str, Split]:
    """Read one table file as the test split."""
    return {"test": _read_table(spec, path, columns)} if "test" in wanted else {}


def describe_missing(spec: TaskSpec, root: Path, wanted: list[str]) -> str:
    """The message for a place where no split was found: what was looked for, and what is there."""
    store = "data.jsonl" if spec.functions_per_sample == 2 else "function.json"
    names = sorted(entry.name for entry in root.iterdir())[:8] if root.is_dir() else []
    return (
        f"{root}: no data of a known layout for {spec.name}. Looked for SPLIT.jsonl, SPLIT.csv, "
        f"SPLIT.parquet or {store} + SPLIT.txt (SPLIT: {', '.join(wanted)}; each may end in .gz); "
        f"the directory holds: {', '.join(names) or 'nothing'}"
    )


def _read_table(spec: TaskSpec, path: Path, columns: Columns) -> Split:
    pairs = spec.functions_per_sample == 2
    names = [columns.code or ("func1" if pairs else "func")]
    if pairs:
        names.append(columns.code2 or "func2")
    label_name = columns.label or ("label" if pairs else "target")
    samples: list[Sample] = []
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        code = tuple(_text(_field(row, name, where), f"{where}: {name}") for name in names)
        label = _label(_field(row, label_name, where), f"{where}: {label_name}")
        if columns.id is not None:
            identity = str(_field(row, columns.id, where))
        else:
            identity = str(row.get("idx", len(samples)))
        samples.append(Sample(code, label, identity, where))
    return Split(samples, path)


def _read_function_array(path: Path) -> list[_Function]:
    """Devign's function.json. Texts and labels are checked when a split refers to them."""
    array = read_json(path)
    if not isinstance(array, list):
        raise DataError(f"{path}: expected a JSON array of functions")
    functions = []
    for number, entry in enumerate(array):
        where = f"{path}: entry {number}"
        if not isinstance(entry, dict):
            raise DataError(f"{where}: expected a JSON object")
        functions.append(
            _Function(
                text=_field(entry, "func", where),
                label=_field(entry, "target", where),
                id=str(number),
                where=where,
            )
        )
    return functions


def _read_row_numbers(listing: Path, functions: list[_Function], store: Path) -> Split:
    samples = []
    for number, line in read_lines(listing):
        if not (entry := line.strip()):
            continue
        where = f"{listing}:{number}"
        if not (entry.isascii() and entry.isdigit()):
            raise DataError(f"{where}: expected a row number of {store.name} (got {entry[:40]!r})")
        if int(entry) >= len(functions):
            raise DataError(
                f"{where}: row {entry} does not exist; {store.name} has {len(functions)} rows"
            )
        function = functions[int(entry)]
        text = _text(function.text, f"{function.where}: func")
        label = _label(function.label, f"{function.where}: target")
        samples.append(Sample((text,), label, function.id, where))
    return Split(samples, listing)


def _read_functions_by_id(path: Path) -> dict[str, _Function]:
    functions: dict[str, _Function] = {}
    for number, row in read_rows(path):
        where = f"{path}:{number}"
        function = _Function(
            _field(row, "func", where), None, str(_field(row, "idx", where)), where
        )
        earlier = functions.setdefault(function.id, function)
        if earlier.text != function.text:
            raise DataError(
                f"{where}: function {function.id} was already defined at {earlier.where}"
            )
    return functions


def _read_pairs(listing: Path, functions: dict[str, _Function], store: Path) -> Split:
    samples = []
    for number, line in read_lines(listing):
        if not line.strip():
            continue
        where = f"{listing}:{number}"
        parts = line.split()
        if len(parts) != 3:
            raise DataError(
                f"{where}: expected `idx1 TAB idx2 TAB label` (got {line.strip()[:60]!r})"
            )
        for identity in parts[:2]:
            if identity not in functions:
                raise DataError(f"{where}: function {identity} is not in {store.name}")
        pair = [functions[identity] for identity in parts[:2]]
        code = tuple(_text(function.text, f"{function.where}: func") for function in pair)
        samples.append(Sample(code, _label(parts[2], where), "-".join(parts[:2]), where))
    return Split(samples, listing)


def _field(row: dict[str, Any], name: str, where: str) -> Any:
    if name not in row:
        present = ", ".join(str(key) for key in list(row)[:10])
        raise DataError(
            f"{where}: no column {name!r}; present: {present}. "
            "Name yours with --columns code=NAME,label=NAME"
        )
    return row[name]


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: expected the code as text (got {type(value).__name__})")
    if not value.strip():
        raise DataError(f"{where}: the function is empty; remove the sample")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # a lone surrogate, legal in JSON but not text
        raise DataError(f"{where}: not text: lone surrogate at character {error.start}") from error
    return value


def _label(value: object, where: str) -> int:
    number: object = value
    if isinstance(value, str):
        number = {"0": 0, "1": 1}.get(value.strip(), value)
    elif isinstance(value, float) and math.isfinite(value) and value == int(value):
        number = int(value)  # what pandas writes for an integer column that once had a gap
    if isinstance(number, int) and number in (0, 1):
        return int(number)
    raise DataError(f"{where}: label must be 0 or 1 (got {value!r})")


def _split_file(root: Path, split: str, suffixes: tuple[str, ...]) -> Path | None:
    stems = _SPLIT_FILE_NAMES.get(split, (split,))
    return _one_of(root, tuple(stem + suffix for stem in stems for suffix in suffixes))


def _one_of(root: Path, names: tuple[str, ...]) -> Path | None:
    candidates = [root / (name + ending) for name in names for ending in ("", ".gz")]
    present = [path for path in candidates if path.is_file()]
    if len(present) > 1:
        raise DataError(
            f"{root}: {' and '.join(path.name for path in present)} both exist and may differ; "
            "keep one of them"
        )
    return present[0] if present else None
