"""Samples, splits, and where they come from.

`load_splits` looks at a directory, recognises the layout (see `layouts`) and returns plain Python
data: code as text, label as int. Tokens come later, in `encoding`. Standard library only.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from alpine_cli.errors import ConfigError, DataError
from alpine_cli.tasks.registry import TaskSpec, resolve_task

__all__ = ["SPLIT_NAMES", "Columns", "DataSplits", "Sample", "Split", "load_splits"]

SPLIT_NAMES = ("train", "valid", "test")


@dataclass(frozen=True, slots=True)
class Sample:
    """One labelled example.

    Attributes:
        code: the function's text, or the two functions' texts of a pair.
        label: 0 or 1.
        id: what the data calls it; a pair is called "first-second".
        where: "file:line" it was read from, for messages.
    """

    code: tuple[str, ...]
    label: int
    id: str
    where: str = ""


@dataclass(frozen=True)
class Split:
    """Samples of one split, in file order, and the file that lists them."""

    samples: list[Sample]
    source: Path

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True)
class DataSplits:
    """The splits that were found; one that has no file is None."""

    train: Split | None
    valid: Split | None
    test: Split | None
    root: Path

    def require(self, name: str) -> Split:
        """The named split, which must exist and hold at least one sample.

        Raises:
            DataError: the split has no file, or its file holds no sample.
        """
        if name not in SPLIT_NAMES:
            raise ValueError(f"no split is called {name!r}; known: {', '.join(SPLIT_NAMES)}")
        split: Split | None = getattr(self, name)
        if split is None:
            raise DataError(f"{self.root}: no {name} split; expected a file such as {name}.jsonl")
        if not split.samples:
            raise DataError(f"{split.source}: the {name} split is empty")
        return split


@dataclass(frozen=True)
class Columns:
    """Names of the columns (JSON keys) of one's own data; None means the task's usual name.

    The usual names are `func`, `target`, `idx` for one function per sample (Devign) and `func1`,
    `func2`, `label`, `idx` for pairs. `id` may be absent from the data: rows are then numbered.
    """

    code: str | None = None
    code2: str | None = None
    label: str | None = None
    id: str | None = None

    @classmethod
    def parse(cls, text: str) -> Columns:
        """Read "code=body,label=buggy".

        Raises:
            ConfigError: not of that form, an unknown key, or a key twice.
        """
        pairs: dict[str, str] = {}
        for part in text.split(","):
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not equals or not value or key in pairs:
                raise ConfigError(f"columns: expected code=NAME,label=NAME,… (got {text!r})")
            pairs[key] = value
        return cls.from_mapping(pairs)

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, str]) -> Columns:
        """Build from a config's mapping.

        Raises:
            ConfigError: an unknown key.
        """
        known = [field.name for field in fields(cls)]
        unknown = [key for key in mapping if key not in known]
        if unknown:
            raise ConfigError(
                f"columns: unknown key {unknown[0]!r}; known keys: {', '.join(known)}"
            )
        return cls(**mapping)


def load_splits(
    task: TaskSpec | str,
    data: Path | str,
    *,
    columns: Columns | None = None,
    limit: Mapping[str, int] | None = None,
    splits: Iterable[str] = SPLIT_NAMES,
) -> DataSplits:
    """Read the splits found under `data`.

    Args:
        task: decides whether a sample is one function or a pair.
        data: a directory in one of the layouts that `layouts` describes, or one table file, which
            then is the test split.
        columns: column names of one's own data.
        limit: at most so many samples of a split. The choice is drawn without looking at the
            labels, by a fixed seed, is nested (the first 100 are among the first 1,000), and keeps
            file order.
        splits: which splits to read; the others stay None and their files are not opened.

    Raises:
        DataError: nothing of a known layout is there, or a file is malformed; names file and line.
    """
    from alpine_cli.tasks import layouts

    spec = resolve_task(task) if isinstance(task, str) else task
    root = Path(data)
    wanted = [name for name in SPLIT_NAMES if name in set(splits)]
    if not root.exists():
        raise DataError(f"{root}: no such file or directory")
    read = layouts.read_directory if root.is_dir() else layouts.read_single_file
    found = read(spec, root, columns or Columns(), wanted)
    if not found:
        raise DataError(layouts.describe_missing(spec, root, wanted))
    for name, count in (limit or {}).items():
        if name in found:
            found[name] = _limited(found[name], count)
    return DataSplits(
        train=found.get("train"), valid=found.get("valid"), test=found.get("test"), root=root
    )


def _limited(split: Split, count: int) -> Split:
    if count < 1:
        raise ConfigError(f"limit: must be at least 1 (got {count})")
    if count >= len(split.samples):
        return split
    # Not the first rows: files sorted by label or project are common.
    order = list(range(len(split.samples)))
    random.Random(0).shuffle(order)
    return Split([split.samples[i] for i in sorted(order[:count])], split.source)
