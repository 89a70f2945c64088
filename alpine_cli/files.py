"""Writing output files: whole or not at all, and never over somebody's work unasked.

A file written here appears under its name only when it is complete: the bytes go to a temporary
file in the same folder (so that the rename stays on one file system), are flushed to the disk,
and the temporary file then takes the name with `os.replace`, which is atomic. A process killed
at any instant leaves the old file or the new one, never a half. Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from alpine_cli.errors import OutputError, OutputExistsError

__all__ = ["atomic_directory", "atomic_path", "refuse_existing", "sha256_of", "write_atomic"]

_CHUNK_BYTES = 1 << 20
_ELSEWHERE = "choose another place"


def refuse_existing(path: Path, force: bool, *, file: bool = False) -> None:
    """Stop before any work is done if `path` is taken and may not be replaced, or not be written.

    An empty folder counts as free, so that an output folder made beforehand is accepted. Whether
    writing works is tried (an entry is made where the first one would be, and removed): modes do
    not tell of read-only file systems, nor of /proc, nor what root may do.

    Args:
        path: of the output.
        force: it may be replaced.
        file: the output is a file; a folder of that name is in the way even with `force`.

    Raises:
        OutputExistsError: `path` exists and `force` is false, or a parent of it is a file.
        OutputError: nothing can be written there.
    """
    with _telling(path):
        _refuse_taken(path, force)
        if file and path.is_dir():
            raise OutputExistsError(f"{path}: is a directory; name the file to write")
        if path.exists() and not (path.is_dir() or path.is_file()):
            raise OutputError(f"{path}: cannot be written: no file, but a device; {_ELSEWHERE}")
    _try_writing(path, file=file)


def _refuse_taken(path: Path, force: bool) -> None:
    for parent in path.parents:
        if parent.exists() and not parent.is_dir():
            raise OutputExistsError(f"{path}: {parent} is a file; choose another output")
    if force or not os.path.lexists(path):
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    raise OutputExistsError(
        f"{path}: already exists; nothing was written. "
        "Choose another output, or pass --force to replace it"
    )


def _try_writing(path: Path, *, file: bool) -> None:
    """Make and remove what the output needs first: each missing folder by its name, or an entry."""
    missing: list[str] = []
    place = path.absolute()
    while not place.is_dir():
        # A file is replaced by a rename, which also replaces a link that leads nowhere.
        if place.is_symlink() and not place.exists() and not (file and not missing):
            raise OutputError(f"{path}: cannot be written: {place} leads nowhere; {_ELSEWHERE}")
        missing.append(place.name)
        place = place.parent
    for name in missing or [path.name]:
        with _telling(path, place):
            probe = place / f".{secrets.token_hex(6)}.{name}"
            probe.mkdir()
            probe.rmdir()


@contextmanager
def _telling(path: Path, place: Path | None = None) -> Iterator[None]:
    """Turn what the system says of an output into one message."""
    try:
        yield
    except OSError as error:
        said = error.strerror or str(error)
        why = said if place is None else f"nothing can be made in {place} ({said})"
        raise OutputError(f"{path}: cannot be written: {why}; {_ELSEWHERE}") from error


@contextmanager
def atomic_path(path: Path, *, force: bool = True) -> Iterator[Path]:
    """Lend a temporary path that becomes `path` when the block ends well.

    For libraries that insist on writing to a path themselves. The temporary file keeps the
    suffixes of `path`, because such libraries read the format off them. If the block raises,
    the temporary file is removed and `path` is left as it was. Missing parent folders are made.

    Raises:
        OutputExistsError: `path` exists and `force` is false (checked before and after the work).
        OutputError: its folder cannot be made.
        FileNotFoundError: the block ended without writing the file.
    """
    path = Path(path)
    with _telling(path):
        _refuse_taken(path, force)
        path.parent.mkdir(parents=True, exist_ok=True)
    # The random part keeps parallel writers apart; the leading dot keeps globs from seeing it.
    temporary = path.with_name(f".{secrets.token_hex(6)}.{path.name}")
    try:
        yield temporary
        _flush_to_disk(temporary)
        _refuse_taken(path, force)
        os.replace(temporary, path)
        _flush_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


@contextmanager
def atomic_directory(path: Path, *, force: bool = False) -> Iterator[Path]:
    """Lend a temporary folder that becomes `path` when the block ends well.

    With `force` a folder that stands there is replaced as a whole: it is moved aside, the new one
    takes its name, and only then is the old one deleted. If the block raises, `path` is as before.

    Raises:
        OutputExistsError: `path` is a file, or a folder that is not empty and `force` is false.
        OutputError: its folder cannot be made.
    """
    path = Path(path)
    token = secrets.token_hex(6)
    temporary = path.with_name(f".{token}.{path.name}")
    aside = path.with_name(f".{token}.old.{path.name}")
    with _telling(path):
        _refuse_taken(path, force)
        if path.exists() and not path.is_dir():
            raise OutputExistsError(f"{path}: is a file; choose another output")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.mkdir()
    try:
        yield temporary
        _refuse_taken(path, force)
        if path.exists():
            os.replace(path, aside)
        try:
            os.replace(temporary, path)
        except OSError:
            if aside.exists():
                os.replace(aside, path)
            raise
        _flush_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(aside, ignore_errors=True)


def write_atomic(path: Path, data: bytes | str, *, force: bool = True) -> None:
    """Write `data` to `path` as one step; text is encoded as UTF-8 and newlines are kept.

    Raises:
        OutputExistsError: `path` exists and `force` is false.
    """
    with atomic_path(Path(path), force=force) as temporary:
        temporary.write_bytes(data.encode("utf-8") if isinstance(data, str) else data)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal; the file is read in pieces of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _flush_to_disk(path: Path) -> None:
    # Without this a power cut after the rename could leave the new name with no contents.
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    # The rename itself lives in the folder. Windows cannot open folders; losing only the
    # rename leaves the old file whole, which is still the promise.
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
