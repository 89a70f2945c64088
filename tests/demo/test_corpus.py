"""The demo's data: honest labels, nothing that gives them away, no leak, always the same."""

from __future__ import annotations

import ast
import json
from collections import Counter
from pathlib import Path

import pytest

from alpine_cli.demo.corpus import Corpus, DemoSample, build_corpus, standard_library
from alpine_cli.demo.patterns import PATTERNS
from alpine_cli.errors import DataError
from alpine_cli.tasks.data import load_splits
from alpine_cli.tasks.registry import resolve_task

BY_NAME = {pattern.name: pattern for pattern in PATTERNS}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build_corpus()


def every(corpus: Corpus) -> list[DemoSample]:
    return [*corpus.train, *corpus.valid, *corpus.test]


def test_is_large_enough_and_balanced(corpus: Corpus) -> None:
    assert len(corpus.train) > 3000
    assert len(corpus.valid) > 150
    assert len(corpus.test) > 250
    for split in (corpus.train, corpus.valid, corpus.test):
        for pattern in BY_NAME:
            labels = Counter(sample.target for sample in split if sample.pattern == pattern)
            assert abs(labels[0] - labels[1]) <= 1, "no pattern leans to one label"


def test_labels_say_what_the_source_holds(corpus: Corpus) -> None:
    for sample in every(corpus):
        nodes = list(ast.walk(ast.parse(sample.func).body[0]))
        found = [pattern.name for pattern in PATTERNS if pattern.found(nodes)]
        assert found == ([sample.pattern] if sample.target else []), sample
        if not sample.target:
            assert next(BY_NAME[sample.pattern].sites(nodes), None) is not None


def test_no_module_and_no_text_in_two_splits(corpus: Corpus) -> None:
    splits = (corpus.train, corpus.valid, corpus.test)
    for what in ("module", "func"):
        seen: set[str] = set()
        for split in splits:
            values = {getattr(sample, what) for sample in split}
            assert seen.isdisjoint(values)
            seen |= values


def test_test_functions_are_used_once(corpus: Corpus) -> None:
    for split in (corpus.valid, corpus.test):
        names = Counter((sample.module, sample.function) for sample in split)
        repeated = [name for name, count in names.items() if count > 1]
        # A class may define a method twice (a property's getter and setter).
        assert len(repeated) < len(split) // 50


def test_length_does_not_tell_the_label(corpus: Corpus) -> None:
    """The best threshold on length, chosen with the labels at hand, is near chance."""
    lengths = sorted((len(sample.func), sample.target) for sample in corpus.test)
    positives = sum(target for _, target in lengths)
    best, above = 0.0, positives
    for below, (_, target) in enumerate(lengths, start=1):
        above -= target
        correct = (below - (positives - above)) + above
        best = max(best, correct / len(lengths), 1 - correct / len(lengths))
    assert best < 0.6


def test_layout_does_not_tell_the_label(corpus: Corpus) -> None:
    for sample in every(corpus)[::10]:
        assert ast.unparse(ast.parse(sample.func)) == sample.func


def test_is_the_same_every_time(tmp_path: Path) -> None:
    """Whatever the folder is called and in whatever order its files were written."""
    library = standard_library() / "asyncio"
    for source in sorted(library.glob("*.py"), reverse=True):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    assert build_corpus(library) == build_corpus(tmp_path)


def test_is_read_by_the_task(corpus: Corpus, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    splits = load_splits(resolve_task("defect-detection"), tmp_path)
    samples = splits.require("test").samples
    assert [sample.label for sample in samples] == [sample.target for sample in corpus.test]
    assert [sample.id for sample in samples] == [str(row) for row in range(len(samples))]
    first = json.loads((tmp_path / "test.jsonl").read_text().splitlines()[0])
    assert first["pattern"] in BY_NAME


def test_limit() -> None:
    few = build_corpus(standard_library() / "asyncio", limit=80)
    assert len(few.train) // 2 + len(few.valid) + len(few.test) == 80


def test_a_library_without_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "tiny.py").write_text("def f(a=None):\n    return a is None\n")
    with pytest.raises(DataError, match="0 usable functions are too few"):
        build_corpus(tmp_path)
