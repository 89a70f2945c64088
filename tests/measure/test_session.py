"""Sessions: interrupted anywhere, resumed, and the same as if they never had been."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.errors import (
    BadInput,
    CheckpointError,
    ConfigError,
    DataError,
    MeasurementError,
    OutputError,
    OutputExistsError,
)
from alpine_cli.measure import cautions, measures, memory_trials, partial, session
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.session import run_session
from alpine_cli.pruning.errors import PruningError
from alpine_cli.result_files import read_results
from alpine_cli.results import Environment, Result
from tests.measure.fake_workers import KINDS, FakeWorkers, Silent, options_for
from tests.measure.subjects import write_checkpoint

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def described() -> Environment:
    return session.describe_environment()


@pytest.fixture(autouse=True)
def quick_look(monkeypatch: pytest.MonkeyPatch, described: Environment) -> None:
    """Look at the machine once, not for half a second per cell."""
    monkeypatch.setattr(
        session,
        "describe_environment",
        lambda **fields: described.model_copy(update=fields),
    )
    monkeypatch.setattr(cautions, "after", lambda *_, **__: [])
    monkeypatch.setattr(partial, "_source_digest", lambda: "source")
    monkeypatch.setattr(memory_trials, "usable_cores", lambda: 1)


@pytest.fixture
def options(subject: tuple[Path, Path]) -> MeasureOptions:
    return options_for(subject[0])


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWorkers:
    made = FakeWorkers(tmp_path / "calls.log")
    monkeypatch.setattr(measures, "run_isolated", made)
    return made


def interrupt() -> None:
    raise KeyboardInterrupt


def kept_answers(output: Path) -> dict[str, Any]:
    """What `.partial` holds, by name of the part; heads and sittings left out."""
    return {
        f"{path.parent.name}/{path.name}": json.loads(path.read_text(encoding="utf-8"))
        for path in (output / ".partial").rglob("*.part")
        if not path.name.startswith(("cell", "sitting"))
    }


def figures_of(result: Result) -> dict[tuple[str, str], list[float] | float | None]:
    return {
        (figure.name, figure.variant): figure.samples or figure.value for figure in result.figures
    }


def test_an_uninterrupted_session_leaves_nothing_but_its_result(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    (measured,) = run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [measured.path.name]
    assert measured.result.session is None
    assert measured.result.kind == "bench"
    assert sorted(workers.calls) == sorted(
        ["accuracy", "flops", "throughput"]
        + [f"memory.inference.{v}" for v in ("stock", "unpruned", "pruned")] * 2
    )


@pytest.mark.parametrize("at", ["accuracy", "flops", "memory.inference.stock", "throughput"])
def test_resumed_anywhere_no_figure_is_lost_or_doubled(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path, at: str
) -> None:
    output = tmp_path / "out"
    workers.at = {at: interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_session([options], output, Silent(), kinds=KINDS)
    before, done = kept_answers(output), list(workers.calls)
    # All that had ended is kept; the one under way is the only loss.
    assert len(before) >= len(done) - 1
    workers.at = {}
    watcher = Silent()
    (measured,) = run_session([options], output, watcher, kinds=KINDS, resume=True)
    # Every measure ran once, and the one that was interrupted a second time.
    whole = ["accuracy", "flops", "throughput"]
    whole += [f"memory.inference.{v}" for v in ("stock", "unpruned", "pruned")] * 2
    assert sorted(workers.calls) == sorted([*whole, at])
    names = [(figure.name, figure.variant) for figure in measured.result.figures]
    assert len(names) == len(set(names)) == 3 * 5  # accuracy, flops, throughput, run and process
    for name, answer in before.items():
        _, *trial = name.partition("/")[2].removesuffix(".part").split(".")
        if trial:
            purpose, variant, repetition = trial
            samples = measured.result.figure(f"{purpose}_memory_run", variant).samples
            assert samples[int(repetition)] == answer["bytes"]["run"]
        else:
            for figure in answer["part"]["figures"]:
                taken = measured.result.figure(figure["name"], figure["variant"])
                assert taken.model_dump(mode="json") == figure
    assert not (output / ".partial").exists()
    assert any(c.code == "resumed" for c in measured.result.cautions) == bool(before)
    if before:
        assert watcher.kept == [sorted(name.partition("/")[2][:-5] for name in before)]


def test_a_killed_bench_goes_on_where_it_was(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    """SIGKILL leaves no time for anything: what is on the disk must do."""
    output = tmp_path / "out"
    arguments = [str(options.checkpoint), str(output), str(workers.log), "throughput"]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.measure.fake_workers", *arguments], cwd=ROOT
    ) as process:
        deadline = time.monotonic() + 120
        while "throughput" not in workers.calls:
            assert process.poll() is None, "the bench ended early"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
    before = kept_answers(output)
    assert len(before) == 2 + 6 + 1  # accuracy, flops, six processes, memory as a whole
    (measured,) = run_session([options], output, Silent(), kinds=KINDS, resume=True)
    assert workers.calls.count("throughput") == 2
    assert len(workers.calls) == 2 + 6 + 2
    found = figures_of(measured.result)
    assert len(found) == len(measured.result.figures) == 15
    assert found["accuracy_figure", "pruned"] == 1.0
    assert found["flops_figure", "pruned"] == 2.0


def test_killed_between_result_and_clearing_it_is_not_written_twice(
    options: MeasureOptions,
    workers: FakeWorkers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(partial.CellParts, "discard", interrupt_method)
        with pytest.raises(KeyboardInterrupt):
            run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    calls = workers.calls
    (again,) = run_session([options], tmp_path / "out", Silent(), kinds=KINDS, resume=True)
    assert workers.calls == calls
    results, problems = read_results(tmp_path / "out")
    assert [result.id for result in results] == [again.result.id]
    assert problems == []


def interrupt_method(self: partial.CellParts) -> None:
    if self.begun():  # not when there is nothing to discard before the start
        raise KeyboardInterrupt


def test_parts_are_neither_used_nor_thrown_away_unasked(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    workers.at = {"flops": interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    workers.at = {}
    with pytest.raises(OutputExistsError, match=r"--resume goes on.*--no-resume"):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    # Another bench in the same directory is none of their business.
    other = replace(options, seed=7)
    run_session([other], tmp_path / "out", Silent(), kinds=KINDS)
    assert len(kept_answers(tmp_path / "out")) == 1
    run_session([options], tmp_path / "out", Silent(), kinds=KINDS, resume=False)
    assert not (tmp_path / "out" / ".partial").exists()
    assert workers.calls.count("accuracy") == 3


def test_resume_without_parts_measures_from_the_start(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    watcher = Silent()
    run_session([options], tmp_path / "out", watcher, kinds=KINDS, resume=True)
    assert watcher.kept == [[]]
    assert all(how == "measured" for _, _, how in watcher.ended)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"cpu_model": "Another CPU"}, "cpu was .*, is Another CPU"),
        ({"versions": {"torch": "9.9"}}, "libraries was"),
    ],
    ids=["another machine", "another version"],
)
def test_parts_of_elsewhere_are_refused_with_the_reason(
    options: MeasureOptions,
    workers: FakeWorkers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, Any],
    told: str,
) -> None:
    workers.at = {"flops": interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    here = session.describe_environment()
    monkeypatch.setattr(session, "describe_environment", lambda **_: here.model_copy(update=change))
    with pytest.raises(ConfigError, match=told):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS, resume=True)
    assert len(kept_answers(tmp_path / "out")) == 1  # still there, for where they belong


def test_parts_of_another_source_are_refused(
    options: MeasureOptions,
    workers: FakeWorkers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A version number stays the same while code is worked on."""
    workers.at = {"flops": interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    monkeypatch.setattr(partial, "_source_digest", lambda: "edited")
    with pytest.raises(ConfigError, match="source was source, is edited"):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS, resume=True)


def test_parts_of_other_weights_or_samples_are_not_taken(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path, tiny_model_dir: Path
) -> None:
    data = options.checkpoint.parent.parent / "data"
    path = write_checkpoint(tmp_path / "ckpt.pt", tiny_model_dir, data, seed=3)
    mine = replace(options, checkpoint=path)
    workers.at = {"flops": interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_session([mine], tmp_path / "out", Silent(), kinds=KINDS)
    workers.at = {}
    write_checkpoint(path, tiny_model_dir, data, seed=4)  # trained again under the same name
    watcher = Silent()
    run_session([mine], tmp_path / "out", watcher, kinds=KINDS, resume=True)
    assert watcher.kept == [[]]


def test_a_damaged_part_is_measured_again(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    workers.at = {"throughput": interrupt}
    with pytest.raises(KeyboardInterrupt):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    (path,) = (tmp_path / "out" / ".partial").rglob("flops.part")
    path.write_bytes(path.read_bytes()[:40])
    workers.at = {}
    run_session([options], tmp_path / "out", Silent(), kinds=KINDS, resume=True)
    assert workers.calls.count("flops") == 2
    assert workers.calls.count("accuracy") == 1


def test_cells_share_a_session_and_finished_ones_are_not_measured_again(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    cells = [replace(options, batch_size=size) for size in (1, 2, 4)]
    calls = {"throughput": 0}

    def at_the_second() -> None:
        calls["throughput"] += 1
        if calls["throughput"] == 2:
            raise KeyboardInterrupt

    workers.at = {"throughput": at_the_second}
    kinds = ("accuracy", "throughput")
    with pytest.raises(KeyboardInterrupt):
        run_session(cells, tmp_path / "out", Silent(), kinds=kinds)
    (first,), _ = read_results(tmp_path / "out")
    measured = run_session(cells, tmp_path / "out", Silent(), kinds=kinds, resume=True)
    assert measured[0].result == first
    results, _ = read_results(tmp_path / "out")
    assert {result.session for result in results} == {first.session}
    assert first.session is not None
    assert sorted(result.settings["batch_size"] for result in results) == [1, 2, 4]
    assert workers.calls.count("accuracy") == 3
    assert workers.calls.count("throughput") == 4


def test_a_cell_that_cannot_be_measured_leaves_the_others(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    calls = {"flops": 0}

    def only_first() -> None:
        calls["flops"] += 1
        if calls["flops"] == 1:
            raise MeasurementError("SIGKILL")

    workers.at = {"flops": only_first}
    cells = [replace(options, batch_size=size) for size in (512, 2)]
    watcher = Silent()
    (measured,) = run_session(cells, tmp_path / "out", watcher, kinds=("flops",))
    assert measured.result.settings["batch_size"] == 2
    assert watcher.failures == [0]
    calls["flops"] = 0
    with pytest.raises(MeasurementError, match="SIGKILL"):
        run_session(cells[:1], tmp_path / "out", watcher, kinds=("flops",))


def test_all_that_is_wrong_is_named_before_anything_runs(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path, tiny_model_dir: Path
) -> None:
    lonely = write_checkpoint(tmp_path / "lonely.pt", tiny_model_dir, tmp_path / "nowhere")
    cells = [
        options,
        replace(options, checkpoint=tmp_path / "none.pt"),
        replace(options, checkpoint=lonely),
        replace(options, checkpoint=tmp_path / "none.pt", batch_size=2),
    ]
    with pytest.raises(BadInput) as caught:
        run_session(cells, tmp_path / "out", Silent(), kinds=KINDS)
    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert "none.pt: no such file" in lines[0]
    assert "nowhere" in lines[1]
    assert workers.calls == []
    assert not (tmp_path / "out").exists()


def test_one_kind_of_error_keeps_its_class(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    cells = [options, replace(options, checkpoint=tmp_path / "none.pt")]
    with pytest.raises(CheckpointError, match=r"none\.pt"):
        run_session(cells, tmp_path / "out", Silent(), kinds=KINDS)
    cells = [replace(options, layers="0,9"), replace(options, layers="0,9", batch_size=1)]
    with pytest.raises(PruningError, match=r"ckpt\.pt: .*9") as caught:
        run_session(cells, tmp_path / "out", Silent(), kinds=KINDS)
    assert len(str(caught.value).splitlines()) == 1


def test_a_copy_of_a_checkpoint_is_no_second_seed(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.pt"
    copy.write_bytes(options.checkpoint.read_bytes())
    cells = [options, replace(options, checkpoint=copy)]
    with pytest.raises(ConfigError, match=r"copy\.pt and .*ckpt\.pt hold the same bytes"):
        run_session(cells, tmp_path / "out", Silent(), kinds=KINDS)
    assert workers.calls == []


def test_no_samples_is_bad_input(
    options: MeasureOptions, workers: FakeWorkers, tmp_path: Path
) -> None:
    (tmp_path / "test.jsonl").write_text("")
    with pytest.raises(DataError, match=r"test\.jsonl"):
        run_session([replace(options, data=tmp_path)], tmp_path / "out", Silent(), kinds=KINDS)
    assert workers.calls == []


def test_an_output_that_cannot_be_written_is_found_first(
    options: MeasureOptions,
    workers: FakeWorkers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputExistsError, match="is a file"):
        run_session([options], tmp_path / "file", Silent(), kinds=KINDS)
    with pytest.raises(OutputExistsError, match="is a file"):
        run_session([options], tmp_path / "file" / "out", Silent(), kinds=KINDS)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)  # tests may run as root, who may all
    with pytest.raises(OutputError, match="cannot be written: nothing can be made in"):
        run_session([options], tmp_path / "out", Silent(), kinds=KINDS)
    assert workers.calls == []
