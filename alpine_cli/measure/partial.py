"""Parts of a bench that has not ended, kept on disk until its result file is written.

    OUTPUT/.partial/KEY/cell.part                       what is measured, where, id of the result
                        accuracy.part                   the answer of each finished measure …
                        memory.inference.pruned.0.part  … and of each single memory process

KEY is a hash of everything that may move a figure: the options, the bytes of the checkpoints, the
samples, this package's version and source, machine and libraries. So a part is taken up again only
where measuring anew would repeat it; parts of the same bench from another machine or version are
told apart from parts of another bench, and refused with what differs.

The result's id is drawn when its cell begins. A bench that is killed after it wrote the result and
before it cleared the parts therefore finds its own result file, and does not write it twice.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import alpine_cli
from alpine_cli.errors import ConfigError
from alpine_cli.files import write_atomic
from alpine_cli.measure.plan import Plan
from alpine_cli.results import Environment

__all__ = [
    "SITTING",
    "CellParts",
    "KeptParts",
    "Key",
    "key_of",
    "refuse_other_conditions",
]

_FOLDER = ".partial"
_HEAD = "cell"
SITTING = "sitting"
"""Head of the names under which `bench` keeps when it sat and what the machine was like."""
_SUFFIX = ".part"  # not .json: a directory of results is searched for those
# Settings that name files by their path; the bytes of these files are in the key instead.
_PATHS = ("checkpoint", "baseline", "data")


@dataclass(frozen=True)
class Key:
    """What a part belongs to: `what` was asked, under which `conditions`."""

    what: Mapping[str, Any]
    conditions: Mapping[str, Any]

    @property
    def folder(self) -> str:
        """Name of the folder: 16 hexadecimal digits of the hash of both."""
        return _digest({"what": self.what, "conditions": self.conditions})[:16]


class KeptParts:
    """Answers of workers by name. This one forgets: for commands that are one measure long."""

    def get(self, name: str) -> Mapping[str, Any] | None:
        """The answer kept under that name, or None."""
        return None

    def keep(self, name: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer, JSON-serialisable, from now on."""

    def names(self) -> list[str]:
        """Of the answers kept."""
        return []


class CellParts(KeptParts):
    """The parts of one cell, in its folder.

    Attributes:
        folder: made when the first part is kept.
        result_id, session: of the result file to be written.
    """

    def __init__(self, output: Path, key: Key, session: str | None) -> None:
        self.folder = output / _FOLDER / key.folder
        self._key = key
        head = self.get(_HEAD) or {}
        self.result_id: str = head.get("id") or secrets.token_hex(4)
        self.session: str | None = head.get("session") or session

    def get(self, name: str) -> Mapping[str, Any] | None:
        """The answer kept under that name; None where there is none, or none that can be read."""
        try:
            found = json.loads(self._path(name).read_bytes())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def keep(self, name: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer; from then on it survives a kill at any instant."""
        if not self._path(_HEAD).exists():
            self.begin()
        write_atomic(self._path(name), json.dumps(answer, allow_nan=False))

    def begin(self) -> None:
        """Write down what this folder belongs to."""
        head = {
            "what": self._key.what,
            "conditions": self._key.conditions,
            "id": self.result_id,
            "session": self.session,
        }
        write_atomic(self._path(_HEAD), json.dumps(head, allow_nan=False))

    def answers(self) -> list[str]:
        """Names of what was measured, without the sittings: what a resumed bench saves."""
        return [name for name in self.names() if not name.startswith(SITTING)]

    def names(self) -> list[str]:
        """Of the answers kept, without the head."""
        found = (path.name.removesuffix(_SUFFIX) for path in self.folder.glob(f"*{_SUFFIX}"))
        return sorted(name for name in found if name != _HEAD)

    def begun(self) -> bool:
        """Whether an earlier bench has left anything here."""
        return self._path(_HEAD).exists()

    def discard(self) -> None:
        """Remove the folder, and the one around it if it was the last."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # not empty: parts of other benches
            self.folder.parent.rmdir()

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}{_SUFFIX}"


def key_of(plan: Plan, kinds: Sequence[str], environment: Environment) -> Key:
    """The key of a cell."""
    settings = {
        name: value for name, value in plan.options.settings().items() if name not in _PATHS
    }
    variants = {
        name: [variant.checkpoint_sha256, variant.engine, variant.pruning]
        for name, variant in plan.variants.items()
    }
    what = {
        "measures": list(kinds),
        "settings": settings,
        "variants": variants,
        "samples": plan.subject.data_sha256,
    }
    conditions = {
        "alpine": alpine_cli.__version__,
        "source": _source_digest(),
        "cpu": environment.cpu_model,
        "cores": [environment.logical_cores, environment.usable_cores],
        "gpus": [[gpu.name, gpu.uuid, gpu.driver] for gpu in environment.gpus],
        "os": environment.os,
        "python": environment.python,
        "libraries": environment.versions,
    }
    return Key(what, conditions)


def refuse_other_conditions(output: Path, key: Key) -> None:
    """Stop if there are parts of this bench, but measured under other conditions.

    Raises:
        ConfigError: names the folder and what differs.
    """
    wanted, ours = _plain(key.what), _plain(key.conditions)
    for folder, head in _heads(output):
        theirs = head["conditions"]
        if head["what"] != wanted or theirs == ours:
            continue
        told = "; ".join(
            f"{name} was {_short(theirs.get(name))}, is {_short(ours.get(name))}"
            for name in sorted({*theirs, *ours})
            if theirs.get(name) != ours.get(name)
        )
        raise ConfigError(
            f"--resume: {folder}: these parts were measured under other conditions ({told}), and"
            " figures of both must not mix. Resume them where they were measured, or pass"
            " --no-resume to measure everything anew"
        )


def _heads(output: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for path in sorted((output / _FOLDER).glob(f"*/{_HEAD}{_SUFFIX}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            head = json.loads(path.read_bytes())
            _ = head["what"], head["conditions"]
            yield path.parent, head


@cache
def _source_digest() -> str:
    """Of the package's own modules: a version number stays the same while code is worked on."""
    digest = hashlib.sha256()
    root = Path(alpine_cli.__file__).parent
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _plain(value: Any) -> Any:
    """As it comes back from a file: tuples as lists."""
    return json.loads(json.dumps(value))


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
