"""Every command that writes says so at once, and alike, where its output cannot be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.cli import COMMANDS

# How each output is asked for, with all that the command needs beside it. The inputs do not exist:
# the output is judged before they are read, so before any work.
ASKED: dict[tuple[str, str], tuple[str, ...]] = {
    ("bench", "--output"): ("--checkpoint", "absent.pt"),
    ("co2", "--output"): ("--checkpoint", "absent.pt"),
    ("demo", "--output"): (),
    ("export", "--output"): ("--checkpoint", "absent.pt"),
    ("finetune", "--output"): ("--model", "absent", "--task", "clone-detection"),
    ("import", "--output"): ("absent.bin",),
    ("measure-flops", "--output"): ("--checkpoint", "absent.pt"),
    ("measure-memory", "--output"): ("--checkpoint", "absent.pt"),
    ("report", "--output"): ("absent",),
    ("schema", "--output"): (),
    ("show", "--html"): ("--checkpoint", "absent.pt"),
    ("sweep", "--output"): ("--checkpoint", "absent.pt"),
    ("sweep", "--picture"): ("--checkpoint", "absent.pt"),
    ("throughput", "--output"): ("--checkpoint", "absent.pt"),
    ("tune", "--output"): ("--checkpoint", "absent.pt", "--max-drop", "1"),
    ("tune", "--results"): ("--checkpoint", "absent.pt", "--max-drop", "1"),
}
_OUTPUTS = ("--output", "--results", "--html", "--picture")


def _outputs() -> Iterator[tuple[str, str]]:
    for name, spec in COMMANDS.items():
        command = spec.load(name)
        for parameter in command.params:
            yield from ((name, flag) for flag in parameter.opts if flag in _OUTPUTS)


def test_every_output_is_asked_for_here() -> None:
    assert set(_outputs()) == set(ASKED)


@pytest.mark.parametrize("asked", ASKED, ids=" ".join)
@pytest.mark.parametrize("place", ["nowhere", "behind a file", "forbidden"])
def test_an_output_that_cannot_be_written_is_told_first(
    run_alpine: Callable[..., Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: tuple[str, str],
    place: str,
) -> None:
    """`-o /proc/nope` gave "unexpected FileNotFoundError … a defect of alpine", exit code 1."""
    monkeypatch.chdir(tmp_path)
    command, flag = asked
    name = "x.png" if flag == "--picture" else "x"
    if place == "nowhere":
        if not Path("/proc/self").exists():
            pytest.skip("there is no /proc, in which nobody can make anything")
        output = Path("/proc", name)
    elif place == "behind a file":
        (tmp_path / "file").write_text("mine")
        output = tmp_path / "file" / name
    else:  # as anyone but root meets it
        output = tmp_path / "closed" / name
        output.parent.mkdir()
        _forbid(monkeypatch, output.parent)
    result = run_alpine(command, *ASKED[asked], flag, output)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    told = result.stderr.splitlines()[0]
    assert told.startswith(f"error: {output}: ")
    if place == "behind a file":
        assert f"{tmp_path / 'file'} is a file; choose another output" in told
    else:
        assert f"cannot be written: nothing can be made in {output.parent}" in told
        assert told.endswith("; choose another place")


def _forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    mkdir = Path.mkdir

    def refuse(self: Path, *args: Any, **kwargs: Any) -> None:
        if self.parent == folder:
            raise PermissionError(13, "Permission denied", str(self))
        mkdir(self, *args, **kwargs)

    monkeypatch.setattr(Path, "mkdir", refuse)


def test_a_device_is_no_output(run_alpine: Callable[..., Any]) -> None:
    """With --force the rename would have taken its place."""
    result = run_alpine("schema", "--output", "/dev/null", "--force")
    assert result.exit_code == 2
    assert "/dev/null: cannot be written: no file, but a device" in result.stderr


def test_a_folder_is_no_file(run_alpine: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "inside").touch()
    result = run_alpine("schema", "--output", tmp_path, "--force")
    assert result.exit_code == 2
    assert f"{tmp_path}: is a directory; name the file to write" in result.stderr
