"""What is shown: the text of a file, of standard input, or of a sample of a data set.

Everything that can be wrong with it is found here: a file that is missing, empty, binary, not
UTF-8 or far too long to be a function; a sample that the split does not hold.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from alpine_cli.errors import DataError
from alpine_cli.tasks.data import Sample

__all__ = ["Source", "find_sample", "from_sample", "read_file"]

_MOST_BYTES = 2 << 20


@dataclass(frozen=True)
class Source:
    """A function's text.

    Attributes:
        name: what to call it: a file name, or the sample's id.
        text: exactly as it stands there, less a byte order mark.
    """

    name: str
    text: str


def read_file(path: Path) -> Source:
    """Read a source file; "-" is standard input.

    Raises:
        DataError: missing, empty, binary, not UTF-8, or larger than 2 MiB.
    """
    name = "standard input" if str(path) == "-" else str(path)
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with open(path, "rb") as file:
                data = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise DataError(f"{name}: no such file") from error
    except IsADirectoryError as error:
        raise DataError(
            f"{name}: is a directory; give a source file, or --data {name} for a data set"
        ) from error
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}") from error
    return Source("stdin" if str(path) == "-" else path.name, _decode(data, name))


def _decode(data: bytes, name: str) -> str:
    if len(data) > _MOST_BYTES:
        raise DataError(
            f"{name}: is larger than {_MOST_BYTES >> 20} MiB; models read one function,"
            " so give the text of one"
        )
    if b"\0" in data:
        at = data.index(b"\0")
        raise DataError(f"{name}: is binary (byte {at} is zero); give the source as UTF-8 text")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{name}: line {line}: is not UTF-8 (byte {error.start} is"
            f" 0x{data[error.start]:02x}); convert it, e.g. with iconv -f latin1 -t utf-8"
        ) from error
    if not text.strip():
        raise DataError(f"{name}: is empty; give the text of a function")
    return text


def find_sample(samples: list[Sample], wanted: str, where: str) -> tuple[int, Sample]:
    """The sample that --sample names, and its position in the split.

    "@N" is the N-th of the split, counted from 0; anything else is an id, as the data gives it.

    Args:
        samples: the split.
        wanted: what the user wrote.
        where: what to call the split in messages.

    Raises:
        DataError: there is no such sample; names some that there are.
    """
    if wanted.startswith("@"):
        number = wanted[1:]
        if not (number.isascii() and number.isdigit()) or int(number) >= len(samples):
            raise DataError(
                f"--sample {wanted}: {where} has {len(samples)} samples, @0 to @{len(samples) - 1}"
            )
        return int(number), samples[int(number)]
    for position, sample in enumerate(samples):
        if sample.id == wanted:
            return position, sample
    some = ", ".join(sample.id for sample in samples[:5])
    hint = ""
    if wanted.isascii() and wanted.isdigit() and int(wanted) < len(samples):
        hint = f"; the {wanted}-th, counted from 0, is --sample @{wanted}"
    raise DataError(f"--sample {wanted}: {where} has no such id{hint}. Its ids: {some}, …")


def from_sample(sample: Sample) -> list[Source]:
    """The functions of a sample, named by its id."""
    if len(sample.code) == 1:
        return [Source(f"sample {sample.id}", sample.code[0])]
    ids = sample.id.split("-")
    if len(ids) == len(sample.code):  # of BigCloneBench: the ids of both functions
        names = [f"function {id}" for id in ids]
    else:
        names = [f"function {number} of {sample.id}" for number in range(1, len(sample.code) + 1)]
    return [Source(name, text) for name, text in zip(names, sample.code, strict=True)]
