"""Which files of a folder are a report's own, so that `--force` replaces those and no others.

A report leaves `.alpine-report` behind, a list of its files. A folder without one belongs to
somebody else and is not written to; a file that the list does not name is never touched; what an
earlier report wrote and the new one does not is removed. The list is what a file says, so names
that lead out of the folder are ignored.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from alpine_cli.errors import OutputExistsError
from alpine_cli.files import refuse_existing, write_atomic

__all__ = ["NAME", "WORKSHOP", "begin", "claim", "earlier_files", "finish"]

NAME = ".alpine-report"
WORKSHOP = ".alpine-report-in-work-"
"""Prefix of the folder a report is made in; one left by a killed process is swept away."""

_ABOUT = "Files that `alpine report` wrote; it replaces these and touches no others."


def begin(output: Path, *, force: bool) -> set[str]:
    """Check that a report may be written to `output`; what an earlier one left there.

    Raises:
        OutputExistsError: `output` is a file; or not empty and `force` is false; or not empty and
            not a report.
    """
    if output.is_file():
        raise OutputExistsError(f"{output}: is a file; a report is a directory, choose another")
    refuse_existing(output, force)
    if not output.is_dir() or not any(output.iterdir()):
        return set()
    earlier = earlier_files(output)
    if earlier is None:
        raise OutputExistsError(
            f"{output}: is not empty and no report of alpine (it has no {NAME}); nothing was"
            " written. Choose another output: --force replaces reports only"
        )
    return earlier


def claim(output: Path, earlier: set[str], planned: Iterable[str]) -> None:
    """Name every file that is about to be written, before the first of them is.

    A report that is interrupted then still knows its own files.

    Raises:
        OutputExistsError: one of them exists and is not an earlier report's.
    """
    names = set(planned)
    for name in sorted(names):
        if not _inside(output, name):
            raise OutputExistsError(f"{(output / name).parent}: leads out of {output}; remove it")
    for name in sorted(names - earlier):
        if os.path.lexists(output / name):
            raise OutputExistsError(
                f"{output / name}: exists and is not from an earlier report; nothing was written."
                " Move it away, or choose another output"
            )
    _write(output, earlier | names)


def finish(output: Path, earlier: set[str], written: Iterable[str]) -> list[Path]:
    """Remove what only the earlier report had, and note what there is now; returns the removed."""
    names = set(written)
    removed = []
    for name in sorted(earlier - names):
        path = output / name
        if path.is_file() or path.is_symlink():
            path.unlink()
            removed.append(path)
        with suppress(OSError):  # not empty: somebody keeps files there
            if path.parent != output:
                path.parent.rmdir()
    for left_over in output.glob(f"{WORKSHOP}*"):
        shutil.rmtree(left_over, ignore_errors=True)
    _write(output, names)
    return removed


def earlier_files(output: Path) -> set[str] | None:
    """Names of the files of an earlier report, relative to it; None if there was none."""
    try:
        content = json.loads((output / NAME).read_text(encoding="utf-8"))
        listed = content["files"]
        return {name for name in listed if isinstance(name, str) and _inside(output, name)}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _inside(output: Path, name: str) -> bool:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\\" in name:
        return False
    # A linked folder would lead elsewhere.
    return (output / path).parent.resolve().is_relative_to(output.resolve())


def _write(output: Path, names: set[str]) -> None:
    content = {"about": _ABOUT, "files": sorted(names)}
    write_atomic(output / NAME, json.dumps(content, indent=1) + "\n")
