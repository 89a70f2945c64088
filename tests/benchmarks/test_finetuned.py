"""Runs of several seeds are paired by sample, a run that a seed lacks is not told, and a model of
fewer layers is the lower part of the whole one."""

from __future__ import annotations

import json
import random
import sys

import pytest
import torch
from transformers import AutoModel

from alpine_cli.checkpoint import load_checkpoint
from benchmarks.finetuned import __main__ as program
from benchmarks.finetuned import runs
from benchmarks.finetuned.rivals import (
    FREE,
    STARTED,
    fitted,
    parse_rival,
    shallow_checkpoint,
    shallow_encoder,
)
from benchmarks.finetuned.runs import Outcome
from benchmarks.finetuned.table import rows_of
from tests.measure.subjects import write_checkpoint


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
        *("--rival", "fewer layers=distilled longer,from the start"),
        *("--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")),
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    program.main()
    table = (tmp_path / "out" / "finetuned-tiny.md").read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "out" / "finetuned-tiny.json").read_text(encoding="utf-8"))
    told = {(row["rival"], row["way"]) for row in kept["rows"]}
    assert told == {
        ("unpruned", "from the start"),
        ("unpruned", "recovered"),
        ("top, nearest", "training-free"),
        ("top, nearest", "distilled"),
        ("truncation", "training-free"),
        ("fewer layers", "distilled longer"),
        ("fewer layers", "from the start"),
    }
    for row in kept["rows"]:
        assert row["way"] in table
        pruned = row["rival"] != "unpruned"
        assert (row["macs"] < 0.8) == pruned
        assert (row["train_seconds"] > 0) == (row["way"] != "training-free")
    assert all(len(outcome["correct"]) == 10 for outcome in kept["outcomes"])
    # a recovery saw half of the samples, with pruning
    run = json.loads((tmp_path / "work/seed1/top-nearest-0-6-distilled/training.json").read_text())
    assert "top" in json.dumps(run)
    assert run["subject"]["samples"] == 12
    # a student of fewer layers saw all of them, its teacher is the unpruned model
    place = tmp_path / "work/seed1/fewer-layers-0-6-distilled-longer/training.json"
    longer = json.loads(place.read_text())
    assert longer["subject"]["samples"] == 24
    assert longer["settings"]["distilled_from"]["checkpoint"] == "unpruned/ckpt.pt"

    monkeypatch.setattr(runs, "finetune", lambda config: pytest.fail("trained again"))
    program.main()
    assert (tmp_path / "out" / "finetuned-tiny.md").read_text(encoding="utf-8") == table


def test_an_unknown_rival_is_named(monkeypatch):
    with pytest.raises(SystemExit, match="no 'tops'"):
        parse_rival("tops=recovered")
    with pytest.raises(SystemExit, match="no 'later'"):
        parse_rival("truncation=later")


def test_a_model_of_fewer_layers_is_the_lower_part_of_the_whole(tiny_model_dir, tmp_path):
    whole = AutoModel.from_pretrained(tiny_model_dir).eval()
    folder = shallow_encoder(str(tiny_model_dir), 2, tmp_path / "encoder-2")
    lower = AutoModel.from_pretrained(folder).eval()
    ids = torch.tensor([[0, 5, 6, 7, 2]])
    with torch.no_grad():
        states = whole(ids, output_hidden_states=True).hidden_states
        assert torch.equal(lower(ids).last_hidden_state, states[2])
        assert not torch.equal(states[2], states[-1])


def test_a_checkpoint_of_fewer_layers_keeps_its_head(tiny_model_dir, tmp_path):
    tiny_checkpoint = write_checkpoint(tmp_path / "whole" / "ckpt.pt", tiny_model_dir)
    whole = load_checkpoint(tiny_checkpoint)
    path = shallow_checkpoint(tiny_checkpoint, 1, tmp_path / "deep" / "ckpt.pt")
    lower = load_checkpoint(path)
    left = {name for name in whole.weights if ".layer." not in name or ".layer.0." in name}
    assert set(lower.weights) == left
    assert len(left) < len(whole.weights)
    for name, tensor in lower.weights.items():
        assert torch.equal(tensor, whole.weights[name])
    model, _ = lower.build()
    assert model.config.num_hidden_layers == 1


@pytest.mark.parametrize(("share", "depth"), [(0.5, 3), (0.25, 2), (0.125, 1), (0.17, 2)])
def test_fewer_layers_never_cost_less_than_the_share(share, depth):
    found = fitted("fewer layers", share, fitter=None, layers=6)
    assert found.depth == depth
    assert found.name == f"lowest {depth} of 6 layers"
    assert depth / 6 >= share > (depth - 1) / 6
