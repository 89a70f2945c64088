"""What the README tells a user to type is run here, and what it promises is there.

Commands that need the hub or data of one's own are checked as far as their options; the demo's own
run has its test in tests/demo, and `.ci/run` runs it whole in a clean clone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.cli import COMMANDS
from alpine_cli.config import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)

Run = Callable[..., Any]


def lines(language: str = "") -> list[str]:
    """Lines of the fenced blocks of a language that hold commands."""
    blocks = [body for found, body in BLOCKS if found == language]
    return [line for body in blocks for line in body.splitlines() if line.strip()]


ALPINE = [line for line in lines() if line.startswith("alpine ")]
WITH_EXIT_CODE = [
    (command.strip(), int(code))
    for command, code in (
        re.fullmatch(r"(alpine .*?)\s*# exit (\d+):.*", line).groups()  # type: ignore[union-attr]
        for line in ALPINE
        if "# exit" in line
    )
]


def test_there_is_something_to_check() -> None:
    assert len(ALPINE) >= 6
    assert len(WITH_EXIT_CODE) >= 3


@pytest.mark.parametrize(("command", "code"), WITH_EXIT_CODE)
def test_commands_that_fail_do_so_as_described(
    run_alpine: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run_alpine(*shlex.split(command)[1:])
    assert done.exit_code == code, done.output
    assert "error" in done.stderr.lower()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ALPINE)
def test_every_option_named_exists(command: str) -> None:
    name, *words = shlex.split(command, comments=True)[1:]
    known = {
        option
        for parameter in COMMANDS[name].load(name).params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


def test_every_command_named_in_the_text_exists() -> None:
    named = set(re.findall(r"`alpine ([a-z][a-z0-9-]*)", README))
    assert named <= set(COMMANDS), "commands of the README that do not exist"


def test_python_snippet_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = (body for language, body in BLOCKS if language == "python")
    namespace: dict[str, Any] = {}
    exec(compile(snippet, "README.md", "exec"), namespace)
    lengths = namespace["traced"].calls[0].lengths
    assert len(lengths) == 5
    assert namespace["hidden"].shape == (8, max(lengths[-1]), 768)
    assert str(lengths[0][0]) in capsys.readouterr().out


def test_linked_files_are_there() -> None:
    for target in re.findall(r"\]\(((?!https?:)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_preset_named_is_valid() -> None:
    (path,) = re.findall(r"--config (configs/\S+\.yaml)", README)
    config = load_config(ROOT / path)
    assert (config.model, config.task, config.prune.layers) == (
        "unixcoder",
        "clone-detection",
        "all",
    )


def test_make_targets_named_are_there() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"^make (\w+)", README, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_demo_table_is_that_of_a_real_run() -> None:
    """The block holds the rows that `alpine bench` prints, in its words."""
    from alpine_cli.report.summary import ROWS

    (table,) = (body for _, body in BLOCKS if "small-roberta, defect-detection" in body)
    for figure in ("accuracy", "total_macs", "throughput"):
        assert ROWS[figure] in table
