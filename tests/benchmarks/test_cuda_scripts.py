"""Both scripts of `benchmarks.cuda` from end to end, at the size of a trial on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cuda import costs, learned

SMALL = ["--device", "cpu", "--small", "--minutes", "2"]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The files of one run of `costs`: JSON and Markdown."""
    output = tmp_path_factory.mktemp("costs") / "trial"
    costs.main([*SMALL, "--output", str(output)])
    document = json.loads(output.with_suffix(".json").read_text("utf-8"))
    return document, output.with_suffix(".md").read_text("utf-8")


def test_every_section_has_figures_or_a_reason(trial: tuple[dict[str, Any], str]) -> None:
    document, text = trial
    assert list(document["sections"]) == list(costs.SECTIONS)
    assert document["not_run"] == []
    for name, section in document["sections"].items():
        assert f"## {name}" in text
        if "reason" in section:
            assert section["reason"] in text
            continue
        assert section["cells"]
        for cell in section["cells"]:
            assert cell["cell"] in text
            assert cell.get("variants") or cell["reason"]
            for why in cell.get("absent", {}).values():
                assert why
                assert why in text
    without_cuda = {n for n, s in document["sections"].items() if "reason" in s}
    assert without_cuda == {"memory", "energy", "graphs"}


def test_no_variant_is_missing_without_a_word(trial: tuple[dict[str, Any], str]) -> None:
    document, _ = trial
    for cell in document["sections"]["inference"]["cells"]:
        if "reason" in cell:
            assert "TF32" in cell["cell"]
            continue
        known = {row["variant"] for row in cell["variants"]} | set(cell["absent"])
        assert len(known) == 13
        # nothing failed: what is absent needs CUDA
        assert all("CUDA" in why for why in cell["absent"].values())


def test_figures_hang_together(trial: tuple[dict[str, Any], str]) -> None:
    document, _ = trial
    for name in ("inference", "training"):
        for cell in document["sections"][name]["cells"]:
            for row in cell.get("variants", ()):
                assert len(row["seconds"]) == cell["rounds"]
                assert all(seconds > 0 for seconds in row["seconds"])
                if "efficiency" not in row:
                    continue
                macs, time = row["macs_ratio_to_own_unpruned"], row["time_ratio_to_own_unpruned"]
                assert 0 < macs < 1
                assert row["efficiency"] == pytest.approx(macs / time["value"])
    for cell in document["sections"]["roofline"]["cells"]:
        assert all(row["share_of_peak"] > 0 for row in cell["variants"])
    for cell in document["sections"]["profile"]["cells"]:
        for row in cell["variants"]:
            assert sum(row["seconds_by_kind"].values()) == pytest.approx(row["busy_seconds"])
            assert (row["seconds_by_kind"]["selection"] > 0) == (
                row["variant"] in ("packed, all", "packed, alpine-plus")
            )
    for cell in document["sections"]["compile"]["cells"]:
        assert cell["in_warm_up"]["compilations"] > 0


def test_a_trial_says_so(trial: tuple[dict[str, Any], str]) -> None:
    _, text = trial
    assert "no figure here says anything" in text
    assert "## Aims" not in text


def test_no_file_is_replaced_unasked(tmp_path: Path) -> None:
    taken = tmp_path / "taken.json"
    taken.write_text("mine")
    for script in (costs, learned):
        with pytest.raises(SystemExit, match="already exists"):
            script.main([*SMALL, "--output", str(tmp_path / "taken")])
    assert taken.read_text() == "mine"


def test_sections_can_be_chosen_and_time_runs_out_loudly(tmp_path: Path) -> None:
    output = tmp_path / "some"
    costs.main([*SMALL[:3], "--minutes", "0", "--only", "training", "--output", str(output)])
    document = json.loads(output.with_suffix(".json").read_text("utf-8"))
    assert list(document["sections"]) == ["training"]
    assert "inference" in document["not_run"]
    cells = document["sections"]["training"]["cells"]
    assert len(cells) == 2
    assert all(cell["reason"].startswith("not reached") for cell in cells)


def test_whole_sizes_on_a_cpu_are_refused(tmp_path: Path) -> None:
    for script in (costs, learned):
        with pytest.raises(SystemExit, match="only --small makes sense"):
            script.main(["--device", "cpu", "--output", str(tmp_path / "x")])
    assert list(tmp_path.iterdir()) == []


def test_training_on_the_spot(tmp_path: Path) -> None:
    output = tmp_path / "learned"
    learned.main([*SMALL, "--epochs", "1", "--layers", "none", "all", "--output", str(output)])
    document = json.loads(output.with_suffix(".json").read_text("utf-8"))
    text = output.with_suffix(".md").read_text("utf-8")
    sections = document["sections"]
    none, pruned = sections["training"]["cells"]
    assert none["metrics"]["test"]["tokens_kept"] == 1
    assert 0 < pruned["metrics"]["test"]["tokens_kept"] < 1
    for cell in (none, pruned):
        assert 0 <= cell["interval"]["low"] <= cell["accuracy"] <= cell["interval"]["high"] <= 1
        above = cell["interval"]["low"] > document["majority"]
        assert cell["clearly_above_majority"] is above
        assert cell["record"]["finetuning_seconds"]["value"] > 0
    assert pruned["agreement_with_none"]["value"] <= 1
    assert len(none["layer_lengths"]) == 3
    for name in ("inference", "training steps"):
        for cell in sections[name]["cells"]:
            rows = {row["variant"]: row for row in cell["variants"]}
            assert set(rows) == {"stock bucketed", "packed, none", "packed, all"}
            assert 0 < rows["packed, all"]["macs_ratio_to_own_unpruned"] < 1
            assert cell["absent"] == {}
    for name in ("memory", "energy"):
        assert sections[name]["reason"] in text
    assert "| none |" in text
    assert "| all |" in text
