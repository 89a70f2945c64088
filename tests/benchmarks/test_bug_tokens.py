"""Twins are functions before their bug, its tokens are those that differ, answers are paired."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import numpy as np
import pytest

from alpine_cli.demo.corpus import build_corpus, standard_library
from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model
from benchmarks import bug_tokens
from benchmarks.bug_tokens import Seen, bug_places, find_twins, row_of
from tests.measure.subjects import write_checkpoint


@pytest.fixture(scope="module")
def library():
    """A part of the standard library that is quick to read."""
    return standard_library() / "email"


@pytest.fixture(scope="module")
def corpus(library):
    return build_corpus(library)


def test_twins_are_the_functions_as_they_were(library, corpus):
    rows = [asdict(sample) for sample in corpus.train]
    sound, spoilt = rows[::2], rows[1::2]
    twins = find_twins(rows, library)
    assert [one.spoilt for one in twins] == [row["func"] for row in spoilt]
    assert [one.sound for one in twins] == [row["func"] for row in sound]


def test_another_library_is_refused(library, corpus, tmp_path):
    rows = [asdict(sample) for sample in corpus.train]
    with pytest.raises(SystemExit, match="make the data with the Python"):
        find_twins(rows, tmp_path)


@pytest.mark.parametrize(
    ("spoilt", "sound", "places"),
    [
        ([1, 2, 9, 4], [1, 2, 3, 4], [2]),
        ([1, 2, 8, 9, 3], [1, 2, 3], [2, 3]),
        ([1, 2, 4], [1, 2, 3, 4], [1, 2]),
        ([1, 2], [1, 2], []),
        ([7, 1, 8], [1], [0, 2]),
    ],
)
def test_places_are_those_that_differ_or_stand_beside_a_gap(spoilt, sound, places):
    assert bug_places(spoilt, sound) == places


def seen(bug_left, flagged):
    counts = [np.array(x) for x in ([2, 3, 4, 5], [10, 10, 10, 10], bug_left, [2, 2, 2, 0])]
    return Seen(*counts, flagged=np.array(flagged, dtype=bool))


def test_answers_are_split_by_whether_the_bug_is_left():
    unpruned = [
        (np.array([1, 1, 0, 1], dtype=bool), np.array([0, 0, 0, 1], dtype=bool)),
        (np.array([1, 0, 1, 1], dtype=bool), np.array([0, 1, 0, 1], dtype=bool)),
    ]
    # the fourth function is cut before its bug: it counts for nothing
    row = row_of(
        "x", [seen([0, 1, 0, 0], [1, 1, 1, 0]), seen([0, 0, 2, 0], [0, 0, 1, 0])], unpruned
    )
    assert row.left == 28 / 80
    assert row.bug_left == 3 / 12
    assert row.every.functions == 6
    assert row.every.flagged == pytest.approx(4 / 6)
    assert row.every.unpruned == pytest.approx(4 / 6)
    assert row.every.twin == pytest.approx(1 / 6)
    assert row.gone.functions == 4
    assert row.gone.flagged == pytest.approx(2 / 4)  # 1, 1 and 0, 0
    assert row.gone.unpruned == pytest.approx(2 / 4)  # 1, 0 and 1, 0
    assert row.gone.twin == pytest.approx(1 / 4)
    # by function: (1+0)/2 - 1, 0 - 0, 1 - 0
    assert row.gone.change.difference == pytest.approx((-0.5 + 0 + 1) / 3)


def test_nothing_is_told_of_bugs_that_all_stay():
    unpruned = [(np.ones(4, dtype=bool), np.zeros(4, dtype=bool))]
    row = row_of("x", [seen([1, 1, 1, 0], [1, 1, 1, 1])], unpruned)
    assert row.gone is None
    assert "|  |" in bug_tokens.document("x", [row], 4, 1, 2.0)


def test_a_model_is_told(library, corpus, tmp_path, monkeypatch):
    corpus.write(tmp_path / "data")
    size = ModelSize(vocabulary=400, hidden=16, layers=2, heads=2)
    write_model(tmp_path / "model", train_tokenizer((s.func for s in corpus.train), size), size, 1)
    checkpoint = write_checkpoint(
        tmp_path / "run" / "ckpt.pt", tmp_path / "model", max_length=size.max_length
    )
    arguments = ["bug_tokens", "--checkpoint", str(checkpoint), "--data", str(tmp_path / "data")]
    arguments += ["--library", str(library), "--name", "tiny", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    bug_tokens.main()
    rows = json.loads((tmp_path / "bug-tokens-tiny.json").read_text("utf-8"))["rows"]
    assert len(rows) == len(bug_tokens.SETTINGS)
    gentle, harsh = rows[0], rows[1]
    assert harsh["left"] < gentle["left"] < 1
    for row in rows:
        gone = row["gone"]["functions"] if row["gone"] else 0
        assert 0 <= gone <= row["every"]["functions"]
        assert row["bug_left"] > 0 or gone == row["every"]["functions"]
    table = (tmp_path / "bug-tokens-tiny.md").read_text("utf-8")
    assert f"| {100 * harsh['left']:.1f} | {100 * harsh['bug_left']:.1f} |" in table
