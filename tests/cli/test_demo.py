"""`alpine demo` as a user types it: what it refuses, and its help."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]


def test_help_names_the_time_and_the_exit_code(run_alpine: Run) -> None:
    done = run_alpine("demo", "--help")
    assert done.exit_code == 0
    assert "three minutes" in done.stdout
    assert "alpine demo --layers all" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "none"], "nothing to compare"),
        (["--layers", "0,0"], "listed more than once"),
        (["--layers", "9"], "out of range"),
        (["--alpha", "0"], "alpha: must be finite and > 0"),
        (["--alpha", "nan"], "alpha: must be finite and > 0"),
        (["--epochs", "0"], "--epochs"),
    ],
)
def test_bad_input_is_answered_with_2_and_writes_nothing(
    run_alpine: Run, tmp_path: Path, options: list[str], message: str
) -> None:
    done = run_alpine("demo", "--output", tmp_path / "out", *options)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_output_that_exists_needs_force(run_alpine: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = run_alpine("demo", "--output", tmp_path)
    assert done.exit_code == 2
    assert "--force" in done.stderr
    done = run_alpine("demo", "--output", tmp_path, "--force")
    assert done.exit_code == 2
    assert "did not write" in done.stderr
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_too_few_functions_are_answered_with_2(run_alpine: Run, tmp_path: Path) -> None:
    done = run_alpine("demo", "--output", tmp_path / "out", "--functions", "2")
    assert done.exit_code == 2
    assert "too few" in done.stderr
