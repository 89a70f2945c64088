"""Data for the demo: real functions of Python's standard library, half with one injected bug.

The task is `defect-detection`: is there a bug in this function? What makes the labels honest:

- a function joins only if at least one bug *could* stand in it, whichever half it ends up in, so
  neither length nor subject tells the halves apart;
- both halves are written by `ast.unparse` (no comments, no docstrings, one layout), so formatting
  does not tell them apart either;
- a function that carries one of the bugs by nature is left out, and so is every second copy of a
  text;
- the split is by module: no file gives functions to two of train, valid and test;
- in valid and test a function is used once, sound or spoilt. In train it is used twice, sound and
  spoilt: a model trained from scratch in a minute must be shown what the difference is.

The result depends on the interpreter's library and on nothing else: every choice is drawn from a
hash of names, so two runs with one Python give the same bytes.
"""

from __future__ import annotations

import ast
import hashlib
import json
import sysconfig
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from alpine_cli.demo.patterns import PATTERNS, BugPattern, Function, inject
from alpine_cli.errors import DataError
from alpine_cli.files import write_atomic

__all__ = [
    "Corpus",
    "DemoSample",
    "build_corpus",
    "functions_in",
    "source_files",
    "standard_library",
]

# Not the library proper: tests, installed packages, and the copy of a Python 2 grammar.
_SKIPPED_FOLDERS = {
    "__pycache__",
    "dist-packages",
    "idle_test",
    "lib2to3",
    "site-packages",
    "test",
    "tests",
}
_MIN_LINES = 3
_CHARS_PER_LINE = 10  # a function with shorter lines on average would be rare, and is left out
_SHARES = (("train", 0.8), ("valid", 0.08), ("test", 0.12))


@dataclass(frozen=True)
class DemoSample:
    """A line of the data files; `func` and `target` are Devign's names for code and label.

    Attributes:
        func: the source.
        target: 1 if a bug was injected.
        pattern: the bug that was injected, or that could have been.
        module: file of the library, relative to it.
        function: qualified name within the file.
    """

    func: str
    target: int
    pattern: str
    module: str
    function: str


@dataclass(frozen=True)
class Corpus:
    """The three splits; see the module's description for how they are made."""

    train: tuple[DemoSample, ...]
    valid: tuple[DemoSample, ...]
    test: tuple[DemoSample, ...]

    def write(self, folder: Path) -> None:
        """Write `train.jsonl`, `valid.jsonl` and `test.jsonl`, one of Devign's layouts."""
        for name in ("train", "valid", "test"):
            lines = [json.dumps(asdict(sample)) + "\n" for sample in getattr(self, name)]
            write_atomic(folder / f"{name}.jsonl", "".join(lines))


def standard_library() -> Path:
    """Folder of the running interpreter's pure-Python library."""
    return Path(sysconfig.get_path("stdlib"))


def source_files(library: Path) -> Iterator[Path]:
    """The library's own source files, in the order of their names: no tests, nothing installed."""
    for path in sorted(library.rglob("*.py")):
        if _SKIPPED_FOLDERS.isdisjoint(path.relative_to(library).parts[:-1]):
            yield path


def build_corpus(
    library: Path | None = None,
    *,
    min_chars: int = 160,
    max_chars: int = 600,
    limit: int | None = None,
) -> Corpus:
    """Make the corpus.

    Args:
        library: folder of Python source; default: `standard_library()`.
        min_chars: shorter functions are left out.
        max_chars: longer functions are left out.
        limit: at most so many samples in all, spread over all modules.

    Raises:
        DataError: the folder holds too little source to fill three splits of both labels.
    """
    library = library or standard_library()
    candidates: dict[str, _Candidate] = {}  # by text, which drops copies
    for path in source_files(library):
        module = path.relative_to(library).as_posix()
        for candidate in _candidates(path, module, max_chars):
            if min_chars <= len(candidate.text) <= max_chars:
                candidates.setdefault(candidate.text, candidate)
    # Hash order is an arbitrary order that depends on neither file system nor generator.
    order = sorted(candidates.values(), key=lambda found: _draw(found.module, found.name))
    assigned = _assign_patterns(order[:limit])
    splits = {}
    for name, part in _split_by_module(assigned).items():
        splits[name] = tuple(_both(part) if name == "train" else _one_each(part))
        if len({sample.target for sample in splits[name]}) < 2:
            raise DataError(
                f"{library}: {len(assigned)} usable functions are too few for a {name} split with"
                " both labels; the demo needs the source files of the standard library"
            )
    return Corpus(**splits)


@dataclass(frozen=True)
class _Candidate:
    """A sound function in which at least one bug could stand."""

    node: Function
    text: str
    module: str
    name: str
    patterns: tuple[int, ...]


def _draw(*names: object) -> int:
    """A number that looks random and depends on the names alone."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, names)).encode()).digest()[:8])


def _candidates(path: Path, module: str, max_chars: int) -> Iterator[_Candidate]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # templates and deliberately broken files
        return
    for function, name in functions_in(tree):
        if not _MIN_LINES <= _lines(function) <= max_chars // _CHARS_PER_LINE:
            continue  # surely too short or too long: looking closer is what takes the time
        drop_docstrings(function)
        nodes = list(ast.walk(function))
        if any(pattern.found(nodes) for pattern in PATTERNS):
            continue
        possible = tuple(
            index
            for index, pattern in enumerate(PATTERNS)
            if next(pattern.sites(nodes), None) is not None
        )
        if possible:
            yield _Candidate(function, ast.unparse(function), module, name, possible)


def functions_in(node: ast.AST, prefix: str = "") -> Iterator[tuple[Function, str]]:
    """Functions and methods, but not functions inside functions: no line is used twice."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child, f"{prefix}{child.name}"
        elif isinstance(child, ast.ClassDef):
            yield from functions_in(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.stmt | ast.ExceptHandler):
            yield from functions_in(child, prefix)


def _lines(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def drop_docstrings(function: Function) -> None:
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            documented = ast.get_docstring(node, clean=False) is not None
            node.body = (node.body[1:] or [ast.Pass()]) if documented else node.body


def _assign_patterns(candidates: list[_Candidate]) -> list[tuple[_Candidate, BugPattern]]:
    """Give each function one of the bugs that could stand in it: the one least used so far."""
    used: Counter[int] = Counter()
    assigned = []
    for candidate in candidates:
        index = min(candidate.patterns, key=lambda i: (used[i], i))
        used[index] += 1
        assigned.append((candidate, PATTERNS[index]))
    return assigned


def _split_by_module(
    assigned: list[tuple[_Candidate, BugPattern]],
) -> dict[str, list[tuple[_Candidate, BugPattern]]]:
    """Deal whole modules, large ones first, to the split that lacks most of its share."""
    by_module: dict[str, list[tuple[_Candidate, BugPattern]]] = {}
    for candidate, pattern in assigned:
        by_module.setdefault(candidate.module, []).append((candidate, pattern))
    splits: dict[str, list[tuple[_Candidate, BugPattern]]] = {name: [] for name, _ in _SHARES}
    for module in sorted(by_module, key=lambda name: (-len(by_module[name]), _draw(name))):
        name = min(_SHARES, key=lambda share: len(splits[share[0]]) / share[1])[0]
        splits[name] += by_module[module]
    for part in splits.values():
        part.sort(key=lambda item: _draw(item[0].module, item[0].name))
    return splits


def _both(part: list[tuple[_Candidate, BugPattern]]) -> Iterator[DemoSample]:
    for candidate, pattern in part:
        yield _sample(candidate, pattern, 0)
        yield _sample(candidate, pattern, 1)


def _one_each(part: list[tuple[_Candidate, BugPattern]]) -> Iterator[DemoSample]:
    """Spoil every second function of each pattern, so that no pattern leans to one label."""
    used: Counter[str] = Counter()
    for candidate, pattern in part:
        yield _sample(candidate, pattern, used[pattern.name] % 2)
        used[pattern.name] += 1


def _sample(candidate: _Candidate, pattern: BugPattern, target: int) -> DemoSample:
    text = candidate.text
    if target:
        sites = list(pattern.sites(list(ast.walk(candidate.node))))
        site = sites[_draw(candidate.module, candidate.name, "site") % len(sites)]
        text = inject(candidate.node, pattern, site)
    return DemoSample(text, target, pattern.name, candidate.module, candidate.name)
