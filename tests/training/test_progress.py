"""What is shown while training: lines in a pipe, a bar on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from alpine_cli.training.progress import LineProgress, RichProgress, make_progress

_TRAIN = {
    "event": "train",
    "step": 10,
    "epoch": 0.5,
    "loss": 0.6931,
    "lr": 2e-5,
    "tokens_kept": 0.712,
}
_VALID = {
    "event": "valid",
    "step": 20,
    "epoch": 1.0,
    "loss": 0.5,
    "metric": "f1",
    "f1": 0.9123,
    "best": True,
}


@pytest.mark.parametrize("terminal", [True, False])
def test_figures_are_shown(terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200, no_color=True)
    progress = make_progress(console)
    assert isinstance(progress, RichProgress if terminal else LineProgress)
    progress.begin("codebert on defect-detection", total_steps=40, done_steps=0)
    progress.stepped(10)
    progress.logged(_TRAIN)
    progress.logged(_VALID)
    progress.end()
    text = out.getvalue()
    for figure in (
        "codebert",
        "0.6931",
        "kept 71%" if terminal else "kept 71.2 %",
        "91.23 %",
        "left",
        "40",
    ):
        assert figure in text
    assert ("\x1b[" in text) == terminal


def test_lines_say_how_long_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = io.StringIO()
    progress = LineProgress(Console(file=out, width=80))
    progress.begin("x", total_steps=1000, done_steps=0)
    now = 140.0
    progress.logged(_TRAIN)
    assert "step 10/1000" in out.getvalue()
    assert "left 1:06:00" in out.getvalue()  # 990 steps of 4 s
