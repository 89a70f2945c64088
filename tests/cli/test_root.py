"""The root command: help without torch, lazy commands, errors as one message and an exit code."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from alpine_cli import __version__, cli
from alpine_cli.cli import COMMANDS, CommandSpec, app
from alpine_cli.errors import AlpineError, BadInput, ConfigError, TrainingError
from alpine_cli.pruning.errors import PruningError

HEAVY = ("torch", "transformers", "pandas", "sklearn", "matplotlib", "scipy", "numpy")


def _python(code: str, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "args", [["--help"], [], ["--version"], ["finetun"], ["finetune", "--help"]], ids=" ".join
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    done = _python(
        "import sys, atexit\n"
        f"heavy = {HEAVY!r}\n"
        "atexit.register(lambda: print('HEAVY', [m for m in heavy if m in sys.modules]))\n"
        "from alpine_cli.cli import main\n"
        "main(sys.argv[1:])",
        *args,
    )
    assert "HEAVY []" in done.stdout
    assert done.returncode in (0, 2)


def test_help_lists_every_command(run_alpine: Callable[..., Any]) -> None:
    result = run_alpine("--help")
    assert result.exit_code == 0
    for name, spec in COMMANDS.items():
        assert name in result.stdout
        assert spec.summary in result.stdout


def test_version(run_alpine: Callable[..., Any]) -> None:
    result = run_alpine("--version")
    assert (result.exit_code, result.stdout) == (0, f"alpine {__version__}\n")


def test_unknown_command_suggests_the_nearest(run_alpine: Callable[..., Any]) -> None:
    result = run_alpine("finetun")
    assert result.exit_code == 2
    assert "Did you mean 'finetune'?" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_every_row_of_the_table_leads_somewhere(run_alpine: Callable[..., Any], name: str) -> None:
    result = run_alpine(name, "--help")
    assert result.exit_code == 0, result.output
    assert f"alpine {name}" in result.stdout.replace("root", "alpine")


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Run a command `fail` that raises what it is given."""

    def run(error: BaseException, *before: str) -> Any:
        def fail() -> None:
            raise error

        module = type(sys)("alpine_failing_command")
        module.fail = fail  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "alpine_failing_command", module)
        spec = CommandSpec("alpine_failing_command:fail", "Fails.", "Tests")
        monkeypatch.setitem(cli.COMMANDS, "fail", spec)
        return CliRunner().invoke(app, [*before, "fail"])

    return run


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AlpineError("it failed"), 1),
        (TrainingError("the loss is nan"), 1),
        (BadInput("change it"), 2),
        (ConfigError("x.yaml: [train].lr: must be > 0"), 2),
        (PruningError("layers: index 12 is out of range"), 2),
        (KeyboardInterrupt(), 130),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_errors_become_one_message_and_a_code(
    failing: Callable[..., Any], error: BaseException, code: int
) -> None:
    result = failing(error)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr == f"error: {str(error) or 'interrupted'}\n"


def test_a_defect_is_called_one(failing: Callable[..., Any]) -> None:
    result = failing(ZeroDivisionError("division by zero"))
    assert result.exit_code == 1
    assert result.stderr.startswith("error: unexpected ZeroDivisionError: division by zero\n")
    assert "alpine --debug" in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(failing: Callable[..., Any]) -> None:
    result = failing(ConfigError("x.yaml: bad"), "--debug")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("error: x.yaml: bad\n")


def test_exits_and_usage_errors_pass(failing: Callable[..., Any]) -> None:
    assert failing(typer.Exit(3)).exit_code == 3
    bad = failing(typer.BadParameter("not like that"))
    assert bad.exit_code == 2
    assert "not like that" in bad.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("bench", "--limit", "-3"), "--limit: must be at least 1 (got '-3')"),
        (("sweep", "--checkpoint", "x", "--seed", "-1"), "--seed: must be at least 0 (got '-1')"),
        (("tune", "--checkpoint", "x", "--limit", "0"), "--limit: must be at least 1 (got '0')"),
        (("show", "--checkpoint", "x", "--limit", "one"), "--limit: must be a whole number"),
        (("co2", "--checkpoint", "x", "--min-seconds", "soon"), "--min-seconds: must be a number"),
        (("bench", "--limti", "3"), "No such option: --limti"),
        (("bench", "--limit"), "'--limit' requires an argument"),
        (("compare", "a.json"), "Missing argument 'B'"),
        (("--nope",), "No such option: --nope"),
        (("nope",), "No such command 'nope'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_typed_wrong_is_told_like_any_other_error(
    run_alpine: Callable[..., Any], args: tuple[str, ...], told: str
) -> None:
    """These came as a box with the words of the library that parses the options."""
    result = run_alpine(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert told in result.stderr.splitlines()[0]
    assert not any(line in result.stderr for line in ("╭", "Usage:", "Input should"))


def test_long_messages_stay_on_their_lines(failing: Callable[..., Any]) -> None:
    message = f"{'a/' * 100}x.yaml: prune.alpha: must be > 0"
    assert failing(ConfigError(message)).stderr == f"error: {message}\n"


def test_no_colour_in_a_pipe() -> None:
    done = _python("from alpine_cli.cli import main; main(['--help'])")
    assert "\x1b[" not in done.stdout


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`alpine --help | head -1`."""
    code = "from alpine_cli.cli import main; main(['--help'])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert b"Traceback" not in process.stderr.read()
