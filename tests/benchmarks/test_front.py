"""Settings are set against unpruned and against a truncation that costs no less, by sample."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from benchmarks.front import __main__ as program
from benchmarks.front import across
from benchmarks.paired import paired
from tests.measure.subjects import write_checkpoint, write_data


@pytest.fixture(scope="module")
def front(tiny_model_dir, tmp_path_factory):
    """The folder of a front over two checkpoints."""
    folder = tmp_path_factory.mktemp("front")
    data = write_data(folder / "data")
    arguments = ["front", "--data", str(data), "--name", "tiny", "--output", str(folder / "out")]
    for seed in (1, 2):
        path = folder / f"seed{seed}" / "ckpt.pt"
        arguments += ["--checkpoint", str(write_checkpoint(path, tiny_model_dir, data, seed=seed))]
    arguments += ["--rules", "top,bipartite,truncate", "--keeps", "0.85,0.5", "--lengths", "40,20"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", arguments)
        program.main()
    return folder / "out"


@pytest.fixture(scope="module")
def kept(front):
    return json.loads((front / "front-tiny.json").read_text("utf-8"))


def test_the_rival_of_a_setting_costs_no_less_and_no_shorter_one_does(kept):
    rows = kept["rows"]
    cuts = {row["setting"]: row["share"] for row in rows if row["series"] == "truncate"}
    assert cuts
    compared = 0
    for row in rows:
        dearer = {name: share for name, share in cuts.items() if share >= row["share"]}
        if row["setting"] in cuts or row["setting"] == "unpruned":
            assert row["rival"] is None
        elif dearer:
            assert row["rival"] == min(dearer, key=dearer.get)
            compared += 1
    assert compared


def test_differences_are_those_of_the_saved_answers_averaged_over_checkpoints(kept):
    def right(name):
        both = []
        for result in kept["results"]:
            saved = result["predictions"]
            pairs = zip(saved["predicted"][name], saved["labels"], strict=True)
            both.append([answer == label for answer, label in pairs])
        return np.mean(both, axis=0)

    for row in kept["rows"]:
        mine = right(row["setting"])
        assert row["accuracy"] == pytest.approx(mine.mean())
        assert np.mean(row["accuracies"]) == pytest.approx(mine.mean())
        if row["setting"] != "unpruned":
            change = row["unpruned"]
            assert change["difference"] == pytest.approx((mine - right("unpruned")).mean())
            assert change["low"] <= change["difference"] <= change["high"]


def test_the_front_holds_what_nothing_beats_in_both(kept):
    for row in kept["rows"]:
        beaten = any(
            other["share"] <= row["share"]
            and other["accuracy"] >= row["accuracy"]
            and (other["share"], other["accuracy"]) != (row["share"], row["accuracy"])
            for other in kept["rows"]
        )
        assert row["on_front"] == (not beaten)


def test_told_again_it_is_the_same(front, kept, tmp_path, monkeypatch):
    arguments = ["front", "--again", str(front / "front-tiny.json"), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    program.main()
    for end in ("json", "md"):
        name = f"front-tiny.{end}"
        assert (tmp_path / name).read_bytes() == (front / name).read_bytes()


def test_the_interval_is_that_of_resampled_samples():
    stream = np.random.default_rng(3)
    mine, theirs = stream.integers(0, 2, 300) / 1.0, stream.integers(0, 2, 300) / 1.0
    change = paired(mine, theirs)
    pool = np.append(mine - theirs, [-1, 0, 0, 1])
    drawn = [stream.choice(pool, 300).mean() for _ in range(4000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert change.low == pytest.approx(low, abs=0.008)
    assert change.high == pytest.approx(high, abs=0.008)
    assert change.difference == (mine - theirs).mean()


def test_samples_that_all_stay_the_same_leave_room_for_a_change():
    same = np.ones(50)
    change = paired(same, same)
    assert change.low < 0 == change.difference < change.high


def test_one_setting_on_every_model_is_told_with_the_worst(front, kept, tmp_path, monkeypatch):
    (tmp_path / "front-a.json").write_bytes((front / "front-tiny.json").read_bytes())
    rows = {row["setting"]: row for row in kept["rows"]}
    # a second front: without the setting "top, mean", and the preset 30 points down
    plus = rows[across.PLUS]
    plus["unpruned"] = {"difference": -0.3, "low": -0.4, "high": -0.2}
    other = dict(kept, rows=[row for row in kept["rows"] if row["setting"] != "all top 85% mean"])
    (tmp_path / "front-b.json").write_text(json.dumps(other))
    (tmp_path / "front-timed.json").write_text("never read")
    arguments = ["across", "--results", str(tmp_path), "--without", "timed"]
    monkeypatch.setattr(sys, "argv", arguments)
    across.main()
    table = (tmp_path / "fronts.md").read_text("utf-8").splitlines()
    cells = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table if "|" in line}
    told = dict(zip(across.SETTINGS, cells["[b](front-b.md)"][2:], strict=True))
    assert told[across.PLUS].strip() == f"-30.0 [-40.0, -20.0] ({100 * plus['share']:.0f})"
    assert not told["all top 85% mean"].strip()
    cut = rows[plus["rival"]]["unpruned"] if plus["rival"] else None
    assert bool(told[across.CUT].strip()) == (cut is not None)
    worst = dict(zip(across.SETTINGS, cells["the worst of them"][2:], strict=True))
    assert worst[across.PLUS].strip() == "-30.0, an end at -40.0"


def test_a_folder_without_fronts_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["across", "--results", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no front"):
        across.main()
