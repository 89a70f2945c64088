"""`alpine sweep` and `alpine tune` as a user types them; their workers run in this process."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.cli import _grid
from alpine_cli.measure import budgeting, isolation, sweep, tuning, worker
from alpine_cli.measure.trials import TrialRunner
from alpine_cli.result_files import read_results
from alpine_cli.results import Result
from tests.measure.subjects import write_checkpoint, write_data

Run = Callable[..., Any]
QUICK = ("--threads", 1, "--batch-size", 8, "--device", "cpu")
GRID = (
    "--rules",
    "band",
    "--alphas",
    "50,0.5",
    "--layers",
    "even",
    "--layers",
    "0,1",
    "--merges",
    "mean",
)


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> Path:
    """A checkpoint with test data of 24 samples and validation data of 20."""
    folder = tmp_path_factory.mktemp("grid")
    valid = write_data(folder / "valid", samples=20, seed=1) / "test.jsonl"
    data = write_data(folder / "data")
    valid.rename(data / "valid.jsonl")
    return write_checkpoint(folder / "ckpt.pt", tiny_model_dir, data)


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Workers run here; collects (measure, split)."""
    seen: list[tuple[str, str]] = []

    def run(
        measure: str, request: Mapping[str, Any], *, on_progress: Any = None, **_: Any
    ) -> dict[str, Any]:
        seen.append((measure, request["workload"]["split"]))
        plain = json.loads(json.dumps(request))  # as it travels
        with redirect_stdout(io.StringIO()) as told:  # a worker reports its progress there
            answer: dict[str, Any] = json.loads(json.dumps(worker._load(measure)(plain)))
        for line in told.getvalue().splitlines():
            isolation._report(line, on_progress)
        return answer

    monkeypatch.setattr(sweep, "run_isolated", run)
    monkeypatch.setattr(tuning, "run_isolated", run)
    monkeypatch.setattr(budgeting, "run_isolated", run)
    return seen


def only(directory: Path) -> Result:
    (found,), problems = read_results(directory)
    assert problems == []
    return found


def test_sweep_prints_the_front_and_adds_a_result(
    subject: Path, run_alpine: Run, tmp_path: Path
) -> None:
    picture = tmp_path / "front.svg"
    outcome = run_alpine(
        *("sweep", "--checkpoint", subject, *QUICK, *GRID),
        *("--output", tmp_path / "results", "--picture", picture),
    )
    assert outcome.exit_code == 0, outcome.stderr
    result = only(tmp_path / "results")
    assert result.kind == "sweep"
    assert next(iter(result.variants)) == "unpruned"
    assert set(result.variants) == {
        *("unpruned", "even α=50 mean", "even α=0.5 mean", "0,1 α=50 mean", "0,1 α=0.5 mean")
    }
    for name in result.variants:
        assert name in outcome.stdout
    assert "Pareto front" in outcome.stdout
    assert "24 samples" in outcome.stdout
    assert "the published rule" not in outcome.stdout  # none of them is, so no mark to explain
    assert "4 settings were each tested" in outcome.stderr
    assert "unpruned" in picture.read_text("utf-8")
    assert not (tmp_path / "results" / ".partial").exists()
    assert "/tmp" not in result.model_dump_json()
    again = run_alpine("sweep", "--checkpoint", subject, "--picture", picture)
    assert again.exit_code == 2
    assert "--force" in again.stderr


def test_in_a_pipe_sweep_and_tune_say_now_and_then_how_far_they_are(
    subject: Path, run_alpine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were silent for minutes."""
    monkeypatch.setattr(_grid, "PLAIN_SECONDS", 0.0)
    asked = ("--checkpoint", subject, *QUICK, *GRID)
    swept = run_alpine("sweep", *asked, "--output", tmp_path / "sweep", "--json")
    lines = [line for line in swept.stderr.splitlines() if line.startswith("sweep: ")]
    assert lines[0] == "sweep: 0 of 5 done, now unpruned"
    assert len(lines) >= 5
    json.loads(swept.stdout)
    tuned = run_alpine("tune", *asked, "--max-drop", "99", "--results", tmp_path / "tune")
    assert any(line.startswith("tune: ") for line in tuned.stderr.splitlines()), tuned.stderr


def test_plain_lines_are_few() -> None:
    stream, now = io.StringIO(), [0.0]
    lines = _grid.PlainLines("sweep", Console(file=stream), clock=lambda: now[0])
    for step in range(100):
        lines.show(step, 100, f"setting {step}")
        now[0] += 1
    lines.show(350, 1000, "round 4, all")
    assert stream.getvalue().splitlines() == [
        *(f"sweep: {step} of 100 done, now setting {step}" for step in (0, 20, 40, 60, 80)),
        "sweep: 35 %, now round 4, all",
    ]


def test_sweep_as_json_is_the_result_file(subject: Path, run_alpine: Run, tmp_path: Path) -> None:
    outcome = run_alpine(
        *("sweep", "--checkpoint", subject, *QUICK, "--output", tmp_path, "--json"),
        *("--rules", "band", "--alphas", "0.5", "--layers", "even"),
        *("--merges", "none", "--metric", "f1"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert json.loads(outcome.stdout) == only(tmp_path).model_dump(mode="json")


def test_sweep_sets_the_published_rule_against_its_rivals(
    subject: Path, run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(
        *("sweep", "--checkpoint", subject, *QUICK, "--output", tmp_path, "--limit", 8),
        *("--alphas", "1", "--keeps", "0.6", "--layers", "all", "--lengths", "20,12"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    names = {
        *("all α=1 mean", "all α=1 none", "all floor α=1 mean", "all top 60% mean"),
        *("all top 60% nearest", "all bipartite 60%", "all random 60% mean", "all first 60% none"),
        *("truncate 20", "truncate 12"),
    }
    result = only(tmp_path)
    assert set(result.variants) == {"unpruned", *names}
    assert result.variants["truncate 12"].max_length == 12
    assert result.settings["rules"][-1] == "truncate"
    assert "10 settings in 9 chains: band 2, floor 1, top 2" in outcome.stderr
    assert "8 samples each" in outcome.stderr


def test_tune_walks_other_rules_too(subject: Path, run_alpine: Run, tmp_path: Path) -> None:
    tuned = tmp_path / "tuned.pt"
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--max-drop", 90, *QUICK, "--output", tuned),
        *("--rules", "top,bipartite", "--keeps", "0.9,0.5/0.6/0.7/0.8", "--scores", "cls"),
        *("--results", tmp_path / "results"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    chosen = load_checkpoint(tuned).pruning
    assert chosen["rule"] in ("top", "bipartite")
    assert chosen["keep"] == "0.5,0.6,0.7,0.8"


def test_tune_chooses_on_valid_tests_once_and_writes_a_copy(
    subject: Path, run_alpine: Run, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    before, tuned = subject.read_bytes(), tmp_path / "tuned.pt"
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--max-drop", 90, *QUICK, *GRID),
        *("--results", tmp_path / "results", "--output", tuned),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert asked == [("tune", "valid"), ("sweep", "test")]
    results, _ = read_results(tmp_path / "results")
    by_split = {result.subject.split: result for result in results}
    assert {result.kind for result in results} == {"tune"}
    assert len({result.session for result in results}) == 1
    chosen = by_split["valid"].settings["chosen"]
    assert set(by_split["test"].variants) == {"unpruned", chosen}
    assert f"chosen: {chosen}" in outcome.stdout
    assert "test, touched once" in outcome.stdout
    copy, original = load_checkpoint(tuned), load_checkpoint(subject)
    assert copy.pruning == by_split["valid"].variants[chosen].pruning
    accuracy = by_split["test"].figure("accuracy", chosen)
    assert accuracy is not None
    assert copy.metrics["test"]["accuracy"] == accuracy.value
    assert all(copy.weights[name].equal(tensor) for name, tensor in original.weights.items())
    assert subject.read_bytes() == before


def test_tune_spends_a_budget_and_tests_beside_truncation(
    subject: Path, run_alpine: Run, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    tuned = tmp_path / "tuned.pt"
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--budget", 0.6, *QUICK, "--output", tuned),
        *("--rules", "top,first", "--layers", "all", "--scores", "received"),
        *("--results", tmp_path / "results"),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert asked == [("budget", "valid"), ("sweep", "test")]
    assert "3 chains to be fitted to the budget; 20 samples" in outcome.stderr
    results, _ = read_results(tmp_path / "results")
    by_split = {result.subject.split: result for result in results}
    found = by_split["valid"]
    chosen, truncation = found.settings["chosen"], found.settings["truncation"]
    shares = {
        name: found.comparison("total_macs", name, "unpruned").ratio  # type: ignore[union-attr]
        for name in set(found.variants) - {"unpruned"}
    }
    assert len(shares) >= 4
    assert all(share <= 0.6 for share in shares.values() if share is not None)
    assert shares[chosen] is not None
    tested = by_split["test"]
    assert set(tested.variants) == {"unpruned", chosen, truncation}
    assert tested.comparison("accuracy", chosen, truncation) is not None
    assert load_checkpoint(tuned).pruning == found.variants[chosen].pruning
    assert load_checkpoint(tuned).encoding == load_checkpoint(subject).encoding
    assert f"chosen: {chosen}" in outcome.stdout
    assert f"Against {truncation}" in outcome.stdout
    assert "Let `alpine tune` choose" not in outcome.stderr  # it just has
    assert [c.code for c in tested.cautions if c.code == "many-tests"] == []
    assert not (tmp_path / "results" / ".partial").exists()


def test_a_budget_below_what_can_be_reached_names_the_least(
    subject: Path, run_alpine: Run, tmp_path: Path
) -> None:
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--budget", 0.01, *QUICK, "--rules", "top"),
        *("--layers", "even", "--results", tmp_path / "results"),
    )
    assert outcome.exit_code == 2
    assert "--budget: nothing of the grid gets by with 0.01" in outcome.stderr
    assert "the least is 0." in outcome.stderr
    assert list(tmp_path.glob("results/*.json")) == []


def test_tune_keeps_to_a_latency(subject: Path, run_alpine: Run, tmp_path: Path) -> None:
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--latency", "10s", *QUICK, "--limit", 6),
        *("--rules", "first", "--keeps", "0.7,0.5", "--json", "--results", tmp_path),
    )
    assert outcome.exit_code == 0, outcome.stderr
    search = json.loads(outcome.stdout)["search"]
    assert search["settings"]["latency_ms"] == 10_000
    timed = {figure["variant"] for figure in search["figures"] if figure["name"] == "latency_p50"}
    assert timed == {"unpruned", "all first 70% none", "all first 50% none"}


def test_tune_says_when_nothing_qualifies_and_exits_1(
    subject: Path, run_alpine: Run, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    tuned = tmp_path / "tuned.pt"
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--max-drop", 0.1, *QUICK, *GRID),
        *("--results", tmp_path / "results", "--output", tuned),
    )
    assert outcome.exit_code == 1
    assert "no setting is shown to lose at most 0.1 points" in outcome.stderr
    assert "even α=50 mean: drop 0.00 points on 20 samples" in outcome.stderr
    assert "samples would show it" in outcome.stderr
    assert not tuned.exists()
    assert asked == [("tune", "valid")]
    assert only(tmp_path / "results").settings["chosen"] is None


def test_tuning_on_test_data_is_told(
    subject: Path, run_alpine: Run, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    outcome = run_alpine(
        *("tune", "--checkpoint", subject, "--max-drop", 90, *QUICK, "--split", "test"),
        *("--rules", "band", "--alphas", "50", "--layers", "even", "--results", tmp_path),
    )
    assert outcome.exit_code == 0, outcome.stderr
    assert "chosen on test data" in outcome.stderr
    assert asked == [("tune", "test")]


def test_without_validation_data_tune_refuses(
    tiny_model_dir: Path, run_alpine: Run, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "c.pt", tiny_model_dir, write_data(tmp_path / "data"))
    outcome = run_alpine(
        *("tune", "--checkpoint", checkpoint, "--max-drop", 1, "--results", tmp_path / "results")
    )
    assert outcome.exit_code == 2
    assert "--split" in outcome.stderr
    assert asked == []


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("sweep", ("--alphas", "half"), "--alphas"),
        ("sweep", ("--alphas", "0.5,-1"), "--alphas: must be above 0 and finite (got -1)"),
        ("sweep", ("--alphas", "nan"), "--alphas: must be above 0"),
        ("sweep", ("--layers", "0,99"), "--layers: index 99 is out of range"),
        ("sweep", ("--layers", "sometimes"), "--layers"),
        ("sweep", ("--merges", "sum"), "--merges"),
        ("sweep", ("--rules", "topp"), "--rules: unknown choice 'topp': did you mean 'top'?"),
        ("sweep", ("--rules", ""), "--rules: a choice is missing"),
        ("sweep", ("--keeps", "0.9,"), "--keeps: a number is missing (got '0.9,')"),
        ("sweep", ("--keeps", "1.5"), "--keeps: must be shares above 0 and at most 1"),
        ("sweep", ("--keeps", "0.9/0"), "(got 0)"),
        (
            "sweep",
            ("--keeps", "0.9/0.8", "--layers", "all"),
            "--keeps: 0.9/0.8 has 2 shares, but --layers all prunes 4 layers",
        ),
        ("sweep", ("--lengths", "64"), "--lengths"),
        ("sweep", ("--rules", "truncate", "--alphas", "1"), "--alphas"),
        ("tune", ("--max-drop", "1", "--rules", "truncate"), "--rules"),
        ("sweep", ("--protect", "all"), "--protect"),
        ("sweep", ("--metric", "bleu"), "--metric"),
        ("sweep", ("--picture", "front.gif"), "--picture"),
        ("sweep", ("--data", "nowhere"), "nowhere"),
        ("tune", (), "exactly one of --max-drop, --budget and --latency"),
        ("tune", ("--max-drop", "1", "--budget", "0.5"), "exactly one of"),
        ("tune", ("--max-drop", "1", "--time-limit", "5"), "--time-limit"),
        ("tune", ("--budget", "0.5", "--confidence", "0.9"), "--confidence: is for --max-drop"),
        ("tune", ("--latency", "9s", "--confidence", "0.9"), "--confidence: is for --max-drop"),
        ("tune", ("--budget", "1.5"), "--budget"),
        ("tune", ("--budget", "0.5", "--time-limit", "0"), "--time-limit"),
        ("tune", ("--latency", "soon"), "--latency"),
        ("tune", ("--max-drop", "0"), "--max-drop"),
        ("tune", ("--max-drop", "1", "--confidence", "1"), "--confidence"),
        ("tune", ("--max-drop", "1", "--metric", "loss"), "--metric"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_options_are_refused_before_any_work(
    subject: Path,
    run_alpine: Run,
    tmp_path: Path,
    asked: list[tuple[str, str]],
    command: str,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    place = "--output" if command == "sweep" else "--results"
    outcome = run_alpine(command, "--checkpoint", subject, place, tmp_path / "out", *arguments)
    assert outcome.exit_code == 2, outcome.output
    assert message in outcome.stderr
    assert asked == []
    assert not (tmp_path / "out").exists()


def test_tune_never_overwrites_unasked_and_never_its_own_checkpoint(
    subject: Path, run_alpine: Run, tmp_path: Path, asked: list[tuple[str, str]]
) -> None:
    taken = tmp_path / "taken.pt"
    taken.write_text("mine", encoding="utf-8")
    for output, force in ((taken, ()), (subject, ("--force",)), (tmp_path, ("--force",))):
        outcome = run_alpine(
            *("tune", "--checkpoint", subject, "--max-drop", 1, "--output", output, *force),
            *("--results", tmp_path / "results"),
        )
        assert outcome.exit_code == 2, outcome.output
    assert taken.read_text(encoding="utf-8") == "mine"
    assert asked == []


@pytest.mark.parametrize("command", ["sweep", "tune"])
def test_interrupted_the_same_command_goes_on(
    subject: Path,
    run_alpine: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    more = (
        ("--output",) if command == "sweep" else ("--max-drop", 90, "--split", "test", "--results")
    )
    typed = (command, "--checkpoint", subject, *QUICK, *GRID, *more, tmp_path / "results")
    run, tried = TrialRunner._try, []

    def interrupted(self: Any, setting: Any) -> Any:
        if len(tried) == 2:
            raise KeyboardInterrupt
        tried.append(setting.name)
        return run(self, setting)

    monkeypatch.setattr(TrialRunner, "_try", interrupted)
    outcome = run_alpine(*typed)
    assert outcome.exit_code == 130
    assert "2 finished setting(s) are kept" in outcome.stderr
    first = list(tried)
    tried.clear()
    monkeypatch.setattr(TrialRunner, "_try", lambda s, x: tried.append(x.name) or run(s, x))
    assert run_alpine(*typed).exit_code == 0
    assert len(tried) == 3
    assert not set(tried) & set(first)
    assert set(only(tmp_path / "results").variants) == {*tried, *first}
    assert not (tmp_path / "results" / ".partial").exists()
