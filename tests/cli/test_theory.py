"""`alpine measure-flops --theory` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import ModernBertConfig

Run = Callable[..., Any]


def test_the_table_names_the_crossing_and_the_readmes_mistake(run_alpine: Run) -> None:
    outcome = run_alpine("measure-flops", "--theory", "--model", "codebert")
    assert outcome.exit_code == 0, outcome.stderr
    for text in ("n = 1,530", "1375", "n = 1,536", "3,222.8", "longest input is 512 tokens"):
        assert text in outcome.stdout
    assert outcome.stderr == ""


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_a_picture_is_drawn_and_not_overwritten(
    suffix: str, run_alpine: Run, tmp_path: Path
) -> None:
    picture = tmp_path / f"crossing{suffix}"
    asked = ("measure-flops", "--theory", "--model", "unixcoder", "--output", picture)
    assert run_alpine(*asked).exit_code == 0
    written = picture.read_bytes()
    assert written.startswith(b"\x89PNG" if suffix == ".png" else b"<?xml")
    if suffix == ".svg":
        for text in ("n = 1,530", "attention (MHA)", "longest input: 1,024 tokens"):
            assert text in written.decode()
    again = run_alpine(*asked)
    assert again.exit_code == 2
    assert "--force" in again.stderr
    assert picture.read_bytes() == written
    assert run_alpine(*asked, "--force").exit_code == 0


def test_json_holds_both_counts(run_alpine: Run) -> None:
    printed = json.loads(
        run_alpine("measure-flops", "--theory", "--model", "codebert", "--json").stdout
    )
    assert printed["crossing_flops"] == 1530
    assert printed["subject"]["shape"]["hidden"] == 768
    assert len(printed["lengths"]) == len(printed["ffn_flops"]) == len(printed["ffn_macs"])


def test_a_gated_model_says_why_the_papers_formulas_are_absent(
    run_alpine: Run, tmp_path: Path
) -> None:
    ModernBertConfig().save_pretrained(tmp_path)
    outcome = run_alpine("measure-flops", "--theory", "--model", tmp_path)
    assert outcome.exit_code == 0, outcome.stderr
    assert "do not describe gated feed-forward blocks" in outcome.stdout
    assert "MFLOPs" not in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--theory",), "either --model"),
        (("--theory", "--model", "codebert", "--checkpoint", "x.pt"), "either --model"),
        (("--theory", "--model", "codebert", "--output", "x.pdf"), ".png or .svg"),
        (("--theory", "--checkpoint", "no.pt"), "no.pt"),
        (("--model", "codebert"), "goes with --theory"),
        ((), "pass --checkpoint"),
    ],
    ids=["neither", "both", "suffix", "missing", "no theory", "nothing"],
)
def test_bad_options_are_bad_input(
    arguments: tuple[str, ...], message: str, run_alpine: Run
) -> None:
    outcome = run_alpine("measure-flops", *arguments)
    assert outcome.exit_code == 2
    assert message in outcome.stderr
