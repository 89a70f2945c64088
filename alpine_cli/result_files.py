"""Result files: written once, never replaced; read back with every older version of the schema.

A file of an older version is brought up to the present one step at a time (`_UPGRADES`) before it
is checked; a file of a later version is refused, never guessed at.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import from_json

from alpine_cli.errors import DataError
from alpine_cli.files import write_atomic
from alpine_cli.results import SCHEMA_VERSION, Kind, Result

__all__ = ["read_result", "read_results", "write_result"]


def write_result(result: Result, directory: Path) -> Path:
    """Add `result` to a directory of results; the file is named after kind, time and id.

    Raises:
        OutputExistsError: a file of that very name exists; results are never overwritten.
    """
    stamp = result.created.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    path = Path(directory) / f"{result.kind}-{stamp}-{result.id}.json"
    write_atomic(path, result.model_dump_json(indent=1) + "\n", force=False)
    return path


def read_result(path: Path) -> Result:
    """Read one result file.

    Raises:
        DataError: unreadable, not JSON, not a result file, of a later schema version, or broken
            (the message names the file and the field).
    """
    try:
        content = from_json(Path(path).read_bytes(), allow_inf_nan=False)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool):
        raise DataError(f"{path}: not a result file of alpine (no schema_version)")
    if version > SCHEMA_VERSION:
        raise DataError(
            f"{path}: written by a later alpine (schema version {version}; this one reads up to"
            f" {SCHEMA_VERSION}). Update alpine-cli to read it"
        )
    if version < 1:
        raise DataError(f"{path}: schema version {version} never was")
    try:
        while version < SCHEMA_VERSION:
            content = _UPGRADES[version](content)
            version += 1
        return Result.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "top level"
        raise DataError(f"{path}: {where}: {first['msg']}") from error


def _from_1(content: dict[str, Any]) -> dict[str, Any]:
    """Version 2 tells cautions apart (code, effect, remedy); version 1 had `warnings`, as text."""
    kept = {name: value for name, value in content.items() if name != "warnings"}
    warnings = content.get("warnings", [])
    if isinstance(warnings, list):
        warnings = [{"code": "note", "text": text} for text in warnings]
    return {**kept, "schema_version": 2, "cautions": warnings}


_UPGRADES: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _from_1}

_RESULT_NAME = re.compile(rf"^({'|'.join(get_args(Kind))})-.*\.json$")


def read_results(directory: Path) -> tuple[list[Result], list[str]]:
    """All result files of a directory, oldest first, and one line per file that was left out.

    A file is taken for a result by its name or, renamed, by what it holds; other JSON is passed
    over, unless it is damaged: it may have been a result. A result that occurs twice (a copied
    file) is read once.

    Raises:
        DataError: no such directory, or it holds no readable result file.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory of results. `alpine bench` makes one")
    results: list[Result] = []
    problems: list[str] = []
    seen: dict[str, Path] = {}
    for path in sorted(directory.rglob("*.json")):
        if not (_RESULT_NAME.match(path.name) or _may_be_result(path)):
            continue
        try:
            result = read_result(path)
        except DataError as error:
            problems.append(str(error))
            continue
        if result.id in seen:
            problems.append(f"{path}: the same result as {seen[result.id]}, read once")
            continue
        seen[result.id] = path
        results.append(result)
    if not results:
        detail = "; ".join(problems) or "run `alpine bench` first"
        raise DataError(f"{directory}: holds no readable result file: {detail}")
    results.sort(key=lambda result: (result.created, result.id))
    return results, problems


def _may_be_result(path: Path) -> bool:
    """Whether it holds a result, or is damaged, so that nobody can say what it held."""
    try:
        content = path.read_bytes()
    except OSError:
        return True
    if b'"schema_version"' in content and b'"comparisons"' in content:
        return True
    try:
        from_json(content)
    except ValueError:
        return True
    return False
