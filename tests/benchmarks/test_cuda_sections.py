"""Sections that a CPU has no counters for, with stand-ins for the counters; and their tables."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from benchmarks.cuda import costs, energy, memory
from benchmarks.cuda.budget import Allowance
from benchmarks.cuda.code import LibraryCode
from benchmarks.cuda.tables import cells_of, markdown
from benchmarks.cuda.workbench import Workbench
from benchmarks.variants import Mode

PACKED = {
    "packed, none",
    "packed, even",
    "packed, all",
    "packed, alpine-plus",
    "packed, top 85% mean",
}


@pytest.fixture(scope="module")
def bench() -> Workbench:
    code = LibraryCode.read(8, 400)
    return Workbench(torch.device("cpu"), True, code, say=lambda text: None)


class _Meter:
    """Two joules a window, whatever happens."""

    window_s = 0.01

    def start(self) -> None:
        pass

    def stop(self) -> dict[str, float]:
        return {"gpu": 2.0}


def _cell(name: str, found: dict[str, Any]) -> str:
    return "\n".join(cells_of(name, {"cells": [{"cell": "a cell"} | found]}))


@pytest.mark.parametrize("train", [False, True])
def test_energy_of_a_cell(bench: Workbench, train: bool) -> None:
    point = energy._Point(2, Mode(train=train), ("stock bucketed", "packed, none", "packed, all"))
    found = energy._measure(bench, _Meter(), 40.0, point, Allowance(0.2))  # type: ignore[arg-type]
    rows = {row["variant"]: row for row in found["variants"]}
    assert set(rows) == set(point.names)
    for row in rows.values():
        gross, net, seconds = (row[name]["samples"] for name in ("gross_j", "net_j", "seconds"))
        assert len(gross) == found["rounds"]
        idle = [40.0 * taken for taken in seconds]
        assert [g - n for g, n in zip(gross, net, strict=True)] == pytest.approx(idle)
        assert row["mean_power_w"] > 0
    assert rows["packed, all"]["gross_j_ratio"]["value"] > 0
    text = _cell("energy", found)
    assert "| packed, all | " in text
    assert "mJ per function" in text


@pytest.mark.parametrize("train", [False, True])
def test_memory_of_a_cell(bench: Workbench, train: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The allocator's answers are made up: 1000 held, and each variant's peak lower by 50."""
    peaks = itertools.count(2000, -50)
    for name, answer in {
        "memory_allocated": lambda device: 1000,
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: next(peaks),
        "max_memory_reserved": lambda device: 4096,
    }.items():
        monkeypatch.setattr(torch.cuda, name, answer)
    point = memory._Point(2, Mode(train=train))
    found = memory._measure(bench, point, Allowance(60.0))
    rows = {row["variant"]: row for row in found["variants"]}
    assert set(rows) >= PACKED
    assert ("published way, all" in rows) is not train
    none, pruned = rows["packed, none"], rows["packed, all"]
    assert none["run_bytes"] == none["allocated_bytes"] - 1000
    assert none["run_ratio"] == 1.0
    assert pruned["run_ratio"] == pruned["run_bytes"] / none["run_bytes"] < 1
    assert pruned["reserved_ratio"] == 1.0
    assert pruned["process_ratio"] is None
    assert pruned["process_reason"] == "no GPU"
    assert all(why == "flash attention needs a CUDA device" for why in found["absent"].values())
    text = _cell("memory", found)
    assert f"{pruned['run_ratio']:.2f}" in text
    assert "Absent: stock flash" in text


def test_a_cell_that_runs_out_of_time_names_the_variants(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = memory._measure(bench, memory._Point(2, Mode()), Allowance(0.0))
    assert found["variants"] == []
    late = [name for name, why in found["absent"].items() if why.startswith("not reached")]
    assert set(late) >= PACKED


def test_a_document_of_a_gpu_is_written_with_its_aims(bench: Workbench) -> None:
    graph = {
        "cell": "packed, none, 128 tokens",
        "speedup_of_graph": {"value": 2.0, "low": 1.9, "high": 2.1},
        "largest_difference": 0.0,
    }
    document = {
        "device": costs.describe_device(bench.device) | {"type": "cuda", "name": "A GPU"},
        "data": bench.code.source,
        "small": False,
        "not_run": ["training"],
        "sections": {
            "energy": {"method": "NVML", "window_s": 3.0, "idle_w": 70.0, "cells": []},
            "graphs": {"cells": [graph, {"cell": "b", "reason": "capture failed"}]},
        },
    }
    text = markdown(document)
    assert "# Costs on A GPU" in text
    assert "idle 70 W" in text
    assert "Graph × eager: 2.00 (1.90–2.10)" in text
    assert "Absent: capture failed." in text
    assert "| efficiency at batch 8, layers all | ≥ 0.85 |  | not measured |" in text
    assert "no figure here says anything" not in text
