"""`alpine bench` over several cells, its presets, interruption: as typed, with stand-in workers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.measure import cautions, measures, session
from alpine_cli.measure.options import PRESETS
from alpine_cli.result_files import read_results
from tests.measure.fake_workers import FakeWorkers
from tests.measure.subjects import write_checkpoint, write_data

Run = Callable[..., Any]
FEW = ("--device", "cpu", "--threads", 1, "--memory-runs", 1)


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> list[Path]:
    """Two checkpoints that differ in their weights."""
    folder = tmp_path_factory.mktemp("seeds")
    data = write_data(folder / "data", samples=8)
    return [
        write_checkpoint(folder / f"seed-{seed}" / "ckpt.pt", tiny_model_dir, data, seed=seed)
        for seed in (1, 2)
    ]


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorkers:
    made = FakeWorkers(tmp_path / "calls.log")
    monkeypatch.setattr(measures, "run_isolated", made)
    monkeypatch.setattr(cautions, "after", lambda *_, **__: [])
    look = session.describe_environment()
    monkeypatch.setattr(
        session, "describe_environment", lambda **fields: look.model_copy(update=fields)
    )
    return made


def test_cells_of_checkpoints_and_batch_sizes(
    seeds: list[Path], workers: FakeWorkers, run_alpine: Run, tmp_path: Path
) -> None:
    both = [word for seed in seeds for word in ("--checkpoint", seed)]
    outcome = run_alpine("bench", *both, "--batch-size", "1,4", *FEW, "--output", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.stderr
    results, problems = read_results(tmp_path / "out")
    assert problems == []
    assert len(results) == 4
    assert len({result.session for result in results}) == 1
    places = {(r.settings["checkpoint"], r.settings["batch_size"]) for r in results}
    assert places == {(f"seed-{seed}/ckpt.pt", size) for seed in (1, 2) for size in (1, 4)}
    assert "by cell (device cpu)" in outcome.stdout
    assert "seed-2/ckpt.pt" in outcome.stdout
    assert outcome.stderr.count("\nwritten: ") == 4
    assert "cell 4 of 4 (seed-2/ckpt.pt, batch 4): energy done" in outcome.stderr


def test_cells_of_budgets_of_tokens(
    seeds: list[Path], workers: FakeWorkers, run_alpine: Run, tmp_path: Path
) -> None:
    command = ("bench", "--checkpoint", seeds[0], "--tokens-per-batch", "64,4096", *FEW)
    outcome = run_alpine(*command, "--output", tmp_path / "out")
    assert outcome.exit_code == 0, outcome.stderr
    results, _ = read_results(tmp_path / "out")
    assert {r.settings["tokens_per_batch"] for r in results} == {64, 4096}
    assert {r.settings["batch_size"] for r in results} == {None}
    assert "≤ 4,096 tokens" in outcome.stdout
    assert "batch at most 4,096 tokens, padding counted): energy done" in outcome.stderr


def test_a_file_of_cells_with_a_preset_as_json(
    seeds: list[Path], workers: FakeWorkers, run_alpine: Run, tmp_path: Path
) -> None:
    path = tmp_path / "cells.yaml"
    path.write_text(
        f"checkpoints: [{seeds[0]}]\nbatch_sizes: [1, 4]\nbaseline: x\n", encoding="utf-8"
    )
    outcome = run_alpine("bench", "--cells", path, "--output", tmp_path / "out")
    assert outcome.exit_code == 2
    assert f"{path}: baseline: unknown field" in outcome.stderr
    assert not (tmp_path / "out").exists()
    path.write_text(
        f"checkpoints: [{seeds[0]}]\nbatch_sizes: [1, 4]\n"
        "overrides: [{where: {batch_size: 4}, set: {runs: 9}}]\n",
        encoding="utf-8",
    )
    outcome = run_alpine(
        *("bench", "--cells", path, "--quick", "--seed", 3, "--json", *FEW),
        *("--output", tmp_path / "out"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    settings = [result["settings"] for result in json.loads(outcome.stdout)]
    assert [s["runs"] for s in settings] == [PRESETS["quick"]["runs"], 9]
    assert [s["preset"] for s in settings] == ["quick", "quick"]
    assert [s["seed"] for s in settings] == [3, 3]
    assert "anatomy" not in workers.calls  # the quick preset leaves it out
    assert not any("training" in call for call in workers.calls)


def test_ctrl_c_says_how_to_go_on_and_resume_goes_on(
    seeds: list[Path], workers: FakeWorkers, run_alpine: Run, tmp_path: Path
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    command = ("bench", "--checkpoint", seeds[0], *FEW, "--output", tmp_path / "out")
    workers.at = {"throughput": interrupt}
    outcome = run_alpine(*command)
    assert outcome.exit_code == 130
    assert "--resume goes on" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    workers.at = {}
    outcome = run_alpine(*command)
    assert outcome.exit_code == 2
    assert "--no-resume throws them away" in outcome.stderr
    outcome = run_alpine(*command, "--resume")
    assert outcome.exit_code == 0, outcome.stderr
    assert "accuracy taken up from before" in outcome.stderr
    assert workers.calls.count("accuracy") == 1
    (result,), _ = read_results(tmp_path / "out")
    assert result.session is None
    assert any(caution.code == "resumed" for caution in result.cautions)
    outcome = run_alpine(*command, "--resume")
    assert outcome.exit_code == 0
    assert "nothing to resume" in outcome.stderr


def test_a_missing_checkpoint_among_several_is_named_before_anything_runs(
    seeds: list[Path], workers: FakeWorkers, run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(
        *("bench", "--checkpoint", seeds[0], "--checkpoint", tmp_path / "lost.pt", *FEW),
        *("--output", tmp_path / "out"),
    )
    assert outcome.exit_code == 2
    assert "lost.pt: no such file" in outcome.stderr
    assert workers.calls == []
    assert not (tmp_path / "out").exists()


def test_a_baseline_that_does_not_fit_its_config_is_named(
    seeds: list[Path], workers: FakeWorkers, run_alpine: Run, tmp_path: Path
) -> None:
    from alpine_cli.checkpoint import load_checkpoint, save_checkpoint

    broken = load_checkpoint(seeds[1])
    broken.weights.popitem()
    save_checkpoint(broken, tmp_path / "broken.pt")
    outcome = run_alpine(
        *("bench", "--checkpoint", seeds[0], "--baseline", tmp_path / "broken.pt", *FEW),
        *("--output", tmp_path / "out"),
    )
    assert outcome.exit_code == 2
    assert "broken.pt: weights do not fit the model: 1 missing" in outcome.stderr
    assert workers.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--quick", "--thorough"), "contradict each other"),
        (("--batch-size", "1,x"), "--batch-size: must be a whole number"),
        (("--batch-size", "0"), "--batch-size: must be a whole number"),
        (("--batch-size", "4,4"), "batch size 4 is given twice"),
        (("--tokens-per-batch", "0"), "--tokens-per-batch: must be a whole number"),
        (("--tokens-per-batch", "64,64"), "tokens per batch 64 is given twice"),
        (
            ("--batch-size", "4", "--tokens-per-batch", "64"),
            "--batch-size 4 and --tokens-per-batch",
        ),
        (("--device", "cpu,"), "--device: must be a name"),
        (("--cells", "none.yaml"), "none.yaml: cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_axes_are_bad_input(
    seeds: list[Path],
    workers: FakeWorkers,
    run_alpine: Run,
    tmp_path: Path,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    outcome = run_alpine(
        "bench", "--checkpoint", seeds[0], *arguments, "--output", tmp_path / "out"
    )
    assert outcome.exit_code == 2, outcome.output
    assert message in outcome.stderr
    assert workers.calls == []


def test_no_checkpoint_at_all_says_what_to_give(run_alpine: Run) -> None:
    outcome = run_alpine("bench")
    assert outcome.exit_code == 2
    assert "--checkpoint: is required" in outcome.stderr


def test_help_tells_what_the_presets_choose(run_alpine: Run) -> None:
    """What --help says of the presets is what they are."""
    text = " ".join(run_alpine("bench", "--help", env={"COLUMNS": "400"}).stdout.split())
    for preset, chosen in PRESETS.items():
        for name, value in chosen.items():
            words = {True: "yes", False: "no"} if isinstance(value, bool) else {None: "0"}
            shown = words.get(value, value)
            shown = f"{shown:g}" if isinstance(shown, float) else shown
            assert f"{preset}: {shown}" in text, name
