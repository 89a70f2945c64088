"""Runs of several seeds are paired by sample, and a run that a seed lacks is not told."""

from __future__ import annotations

import json
import random
import sys

import pytest

from benchmarks import finetuned
from benchmarks.finetuned import FREE, STARTED, Outcome, rows_of


def outcome(rival, way, share, seed, correct, macs):
    return Outcome(rival, way, share, rival, seed, correct, macs, 1.0)


def test_rows_average_seeds_per_sample():
    rows = rows_of(
        [
            outcome("unpruned", STARTED, 1.0, 1, "1111", 100.0),
            outcome("top, nearest", FREE, 0.5, 1, "1100", 50.0),
            outcome("truncation", FREE, 0.5, 1, "1000", 49.0),
            outcome("bipartite", FREE, 0.5, 1, "1100", 50.0),
            outcome("unpruned", STARTED, 1.0, 2, "1101", 100.0),
            outcome("top, nearest", FREE, 0.5, 2, "1101", 52.0),
            outcome("truncation", FREE, 0.5, 2, "1010", 49.0),
        ]
    )
    assert [row.rival for row in rows] == ["unpruned", "top, nearest", "truncation"]
    top = rows[1]
    assert top.accuracies == [0.5, 0.75]
    assert top.macs == pytest.approx(0.51)
    assert top.unpruned.difference == pytest.approx((5 - 7) / 8)
    assert top.unpruned.low <= top.unpruned.difference <= top.unpruned.high
    assert top.truncation.difference == pytest.approx((5 - 3) / 8)
    assert rows[0].unpruned is None
    assert rows[2].truncation is None


@pytest.fixture
def data(tmp_path):
    folder, stream = tmp_path / "defects", random.Random(0)
    folder.mkdir()
    for split, count in (("train", 24), ("valid", 12), ("test", 10)):
        rows = [
            {"func": " ".join(stream.choices(["int", "x", "!"], k=9)), "target": i % 2}
            for i in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_runs_are_made_once_and_told(tiny_model_dir, data, tmp_path, monkeypatch, capsys):
    arguments = [
        *("finetuned", "--model", str(tiny_model_dir), "--task", "defect-detection"),
        *("--data", str(data), "--name", "tiny", "--seeds", "1", "--shares", "0.6"),
        *("--batch-size", "4", "--max-length", "48", "--recovery", "0.5"),
        *("--rival", "top, nearest=training-free,distilled", "--rival", "truncation=training-free"),
        *("--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    finetuned.main()
    table = (tmp_path / "out" / "finetuned-tiny.md").read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "out" / "finetuned-tiny.json").read_text(encoding="utf-8"))
    told = {(row["rival"], row["way"]) for row in kept["rows"]}
    assert told == {
        ("unpruned", "from the start"),
        ("unpruned", "recovered"),
        ("top, nearest", "training-free"),
        ("top, nearest", "distilled"),
        ("truncation", "training-free"),
    }
    for row in kept["rows"]:
        assert row["way"] in table
        pruned = row["rival"] != "unpruned"
        assert (row["macs"] < 0.7) == pruned
        assert (row["train_seconds"] > 0) == (row["way"] != "training-free")
    assert all(len(outcome["correct"]) == 10 for outcome in kept["outcomes"])
    # a recovery saw half of the samples, with pruning
    run = json.loads((tmp_path / "work/seed1/top-nearest-0-6-distilled/training.json").read_text())
    assert "top" in json.dumps(run)

    monkeypatch.setattr(finetuned, "finetune", lambda config: pytest.fail("trained again"))
    finetuned.main()
    assert (tmp_path / "out" / "finetuned-tiny.md").read_text(encoding="utf-8") == table


def test_an_unknown_rival_is_named(monkeypatch):
    with pytest.raises(SystemExit, match="no 'tops'"):
        finetuned._rival("tops=recovered")
    with pytest.raises(SystemExit, match="no 'later'"):
        finetuned._rival("truncation=later")
