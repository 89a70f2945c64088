"""`alpine compare` as a user and as a CI job types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.result_files import write_result
from tests.compare.test_compare import _FAST, _SLOW, changed, with_rates
from tests.report.made import make_result

Run = Callable[..., Any]


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """A fast baseline and a slow candidate, as files."""
    a = write_result(with_rates(_FAST, id="0000000a"), tmp_path / "a")
    return a, write_result(with_rates(_SLOW, id="0000000b"), tmp_path / "b")


@pytest.mark.parametrize(
    ("conditions", "code"),
    [
        ((), 0),
        (("--fail-if", "throughput<-5%"), 1),
        (("--fail-if", "throughput<-50%"), 0),
        (("--fail-if", "throughput<-50%,throughput<-5%"), 1),
        (("--fail-if", "total_macs>0", "--fail-if", "throughput<-5%"), 1),
        (("--fail-if", "throughput less than five"), 2),
        (("--fail-if", "nothing<0"), 2),
        (("--fail-if", "accuracy<-1"), 2),
    ],
)
def test_exit_codes(
    sides: tuple[Path, Path], run_alpine: Run, conditions: tuple[str, ...], code: int
) -> None:
    outcome = run_alpine("compare", *sides, *conditions)
    assert outcome.exit_code == code, outcome.output
    if code != 2:
        assert "throughput, samples/s" in outcome.stdout
        assert "separate sessions" in outcome.stdout


def test_directories_compare_and_the_swapped_gate_passes(
    sides: tuple[Path, Path], run_alpine: Run
) -> None:
    a, b = sides[0].parent, sides[1].parent
    gate = ("--fail-if", "throughput<-5%")
    assert run_alpine("compare", a, b, *gate).exit_code == 1
    outcome = run_alpine("compare", b, a, *gate)
    assert outcome.exit_code == 0
    assert "passes" in outcome.stdout


def test_json_holds_changes_and_conditions(sides: tuple[Path, Path], run_alpine: Run) -> None:
    outcome = run_alpine("compare", *sides, "--fail-if", "throughput<-5%", "--json")
    assert outcome.exit_code == 1
    found = json.loads(outcome.stdout)
    assert found["fails"] is True
    (condition,) = found["conditions"]
    assert condition["holds"] is True
    assert condition["value"] == pytest.approx(-10)
    rates = [c for c in found["changes"] if (c["figure"], c["variant"]) == ("throughput", "pruned")]
    assert rates[0]["ratio"] == pytest.approx(0.9)
    assert "unpaired" in rates[0]["interval"]["method"]


def test_a_gate_that_cannot_be_judged_is_an_error_that_says_what_to_do(
    tmp_path: Path, run_alpine: Run
) -> None:
    a = write_result(with_rates([100.0], id="0000000a"), tmp_path)
    b = write_result(with_rates([50.0], id="0000000b"), tmp_path)
    outcome = run_alpine("compare", a, b, "--fail-if", "throughput<-5%")
    assert outcome.exit_code == 2
    assert "--strict" in outcome.stderr
    assert run_alpine("compare", a, b, "--fail-if", "throughput<-5%", "--strict").exit_code == 1


def test_bad_files_are_named(tmp_path: Path, sides: tuple[Path, Path], run_alpine: Run) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    for bad in (broken, tmp_path / "missing.json", tmp_path):
        if bad == tmp_path:
            (bad / "empty").mkdir()
            bad = bad / "empty"
        outcome = run_alpine("compare", sides[0], bad)
        assert outcome.exit_code == 2
        assert bad.name in outcome.stderr
    subject = make_result().subject.model_copy(update={"task": "defect-detection"})
    other = write_result(make_result(subject=subject), tmp_path)
    outcome = run_alpine("compare", sides[0], other)
    assert outcome.exit_code == 2
    assert "other task" in outcome.stderr


def test_a_broken_file_among_good_ones_is_left_out_by_name(
    sides: tuple[Path, Path], run_alpine: Run
) -> None:
    (sides[0].parent / "bench-broken.json").write_text("{")
    outcome = run_alpine("compare", sides[0].parent, sides[1].parent)
    assert outcome.exit_code == 0
    assert "bench-broken.json" in outcome.stderr


def test_a_version_1_file_still_compares(run_alpine: Run, tmp_path: Path) -> None:
    old = Path(__file__).parents[1] / "data" / "result-v1.json"
    later = tmp_path / "later.json"
    later.write_text(json.dumps(json.loads(old.read_text("utf-8")) | {"id": "0000000b"}))
    outcome = run_alpine("compare", old, later, "--fail-if", "total_macs>0")
    assert outcome.exit_code == 0, outcome.stderr


def test_the_same_results_are_called_so(sides: tuple[Path, Path], run_alpine: Run) -> None:
    """A table of zeros looked like a finding, and a gate over it always passed."""
    a = sides[0]
    for baseline, candidate in ((a, a), (a.parent, a), (a.parent, a.parent)):
        outcome = run_alpine("compare", baseline, candidate, "--fail-if", "throughput<-5%")
        assert outcome.exit_code == 2
        assert outcome.stdout == ""
        assert "A and B are the same result, 0000000a: there is nothing to compare" in (
            outcome.stderr
        )


def test_a_result_on_both_sides_is_told(sides: tuple[Path, Path], run_alpine: Run) -> None:
    a, b = sides
    (b.parent / a.name).write_bytes(a.read_bytes())
    outcome = run_alpine("compare", a, b.parent)
    assert outcome.exit_code == 0, outcome.stderr
    assert "set against itself, being in A and in B: 0000000a" in outcome.stderr


def test_conditions_name_the_cell_they_speak_of(tmp_path: Path, run_alpine: Run) -> None:
    """Two batch sizes gave two lines that could not be told apart."""
    for side, rates in (("a", _FAST), ("b", _SLOW)):
        for size in (1, 16):
            settings = make_result().settings | {"batch_size": size}
            made = with_rates(rates, id=f"0000{size:03}{side}", settings=settings)
            write_result(made, tmp_path / side)
    gate = ("compare", tmp_path / "a", tmp_path / "b", "--fail-if", "throughput<-5%")
    lines = [x for x in run_alpine(*gate).stdout.splitlines() if x.startswith("FAILS")]
    assert len(lines) == 2
    for size, line in zip((1, 16), sorted(lines), strict=True):
        assert f"throughput of pruned (batch size {size}) changed by" in line
    found = json.loads(run_alpine(*gate, "--json").stdout)
    assert {c["on_result"] for c in found["conditions"]} == {"0000001b", "0000016b"}


def test_a_figure_has_one_unit_down_the_column(tmp_path: Path, run_alpine: Run) -> None:
    """The GiB of one variant stood above the MiB of the next."""
    a = changed(make_result(id="0000000a"), "total_macs", "unpruned", value=3e9)
    a = changed(a, "total_macs", "pruned", value=9e8)
    b = a.model_copy(update={"id": "0000000b"})
    files = [write_result(one, tmp_path) for one in (a, b)]
    outcome = run_alpine("compare", *files)
    assert outcome.exit_code == 0, outcome.stderr
    assert "multiply-adds, GMACs" in outcome.stdout
    assert "0.900" in outcome.stdout
    assert "MMACs" not in outcome.stdout


def test_everything_is_shown_when_asked_for(sides: tuple[Path, Path], run_alpine: Run) -> None:
    assert "no counter" not in run_alpine("compare", *sides).stdout
    assert "no counter" in run_alpine("compare", *sides, "--all").stdout
