"""`alpine show` as a user types it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.measure.subjects import write_checkpoint, write_data

Run = Callable[..., Any]
SOURCE = "int read(char *p) {\n\treturn p[0] == 'é'; // <x>\n}\n"


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory, tiny_model_dir: Path) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("show")
    data = write_data(folder / "data", samples=12)
    return write_checkpoint(folder / "ckpt.pt", tiny_model_dir, data), data


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "read.c"
    path.write_bytes(SOURCE.encode())
    return path


def test_a_file_in_a_pipe_is_marked_and_explained(
    run_alpine: Run, subject: tuple[Path, Path], source: Path
) -> None:
    result = run_alpine("show", "--checkpoint", subject[0], source)
    assert result.exit_code == 0, result.stderr
    assert "\x1b" not in result.stdout
    for text in ("read.c: ", "stayed to the end", "‹0:", "merged away in layer n", "layer  3",
                 "left", "pruned ", "unpruned ", "probability 0.", "checkpoint SHA-256",
                 "layers even"):  # fmt: skip
        assert text in result.stdout


def test_standard_input_and_overrides(run_alpine: Run, subject: tuple[Path, Path]) -> None:
    overrides = ("--layers", "1", "--alpha", 0.5, "--merge", "none", "--engine", "padded")
    arguments = ("show", "--checkpoint", subject[0], *overrides, "-", "--json")
    result = run_alpine(*arguments, input=SOURCE.encode())
    assert result.exit_code == 0, result.stderr
    record = json.loads(result.stdout)
    assert record["functions"][0]["source"] == SOURCE
    assert record["pruned_layers"] == [1]
    assert record["pruning"]["merge"] == "none"
    assert record["functions"][0]["merged_tokens"] == []
    assert {token["layer"] for token in record["functions"][0]["tokens"]} == {None, 1}


def test_samples_by_id_by_place_and_by_default(run_alpine: Run, subject: tuple[Path, Path]) -> None:
    checkpoint, data = subject
    rows = [json.loads(line) for line in (data / "test.jsonl").read_text().splitlines()]
    for arguments, expected in (
        (("--data", data, "--sample", "5"), 5),
        (("--sample", "@5"), 5),
        ((), 0),
    ):
        result = run_alpine("show", "--checkpoint", checkpoint, "--json", *arguments)
        assert result.exit_code == 0, result.stderr
        record = json.loads(result.stdout)
        assert record["functions"][0]["source"] == rows[expected]["func"]
        assert record["answer"]["label"] == ("sound", "defective")[rows[expected]["target"]]
        assert record["about"]["sample"] == f"{expected} (@{expected} of 12)"


def test_pages_are_written_whole_and_never_over_another(
    run_alpine: Run, subject: tuple[Path, Path], source: Path, tmp_path: Path
) -> None:
    page = tmp_path / "out" / "page.html"
    arguments = ("show", "--checkpoint", subject[0], source, "--html", page)
    assert run_alpine(*arguments).exit_code == 0
    first = page.read_text("utf-8")
    assert "read.c" in first
    page.write_text("mine")
    refused = run_alpine(*arguments)
    assert (refused.exit_code, page.read_text()) == (2, "mine")
    assert "--force" in refused.stderr
    assert run_alpine(*arguments, "--force").exit_code == 0
    assert page.read_text("utf-8") == first  # the same page every time


def test_kinds_over_a_split(run_alpine: Run, subject: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "kinds.html"
    arguments = ("show", "--kinds", "--checkpoint", subject[0], "--data", subject[1])
    result = run_alpine(*arguments, "--html", page)
    assert result.exit_code == 0, result.stderr
    assert "all tokens" in result.stdout
    assert "keywords" in result.stdout
    assert "95 % CI" in result.stdout
    assert "in 12 functions" in result.stdout
    assert "<svg" in page.read_text("utf-8")
    as_json = run_alpine(*arguments, "--json", "--limit", 7, "--language", "java")
    record = json.loads(as_json.stdout)
    assert record["functions"] == 7
    assert record["language"] == "java"
    assert "7 samples (--limit 7)" in record["about"]["data"]
    assert record["kinds"][0]["surviving_interval"]["level"] == 0.95


BAD_FILES = {
    "empty.c": (b"", "is empty"),
    "blank.c": (b" \n\t", "is empty"),
    "binary.o": (b"\x7fELF\0\0", "is binary (byte 4 is zero)"),
    "latin.c": (b"int a;\n// \xe9t\xe9", "line 2: is not UTF-8 (byte 10 is 0xe9)"),
    "long.c": (b"x" * (2 << 20) + b"y", "is larger than 2 MiB"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named_and_nothing_is_written(
    run_alpine: Run, subject: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    content, message = BAD_FILES[name]
    path, page = tmp_path / name, tmp_path / "page.html"
    path.write_bytes(content)
    result = run_alpine("show", "--checkpoint", subject[0], path, "--html", page)
    assert result.exit_code == 2
    assert f"{path}: {message}" in result.stderr
    assert "Traceback" not in result.stderr
    assert not page.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.c",), "absent.c: no such file"),
        (("/",), "is a directory"),
        (("--sample", "nobody"), "has no such id. Its ids: 0, 1, 2, 3, 4"),
        (("--sample", "@12"), "@0 to @11"),
        (("--sample", "@x"), "@0 to @11"),
        (("--split", "all"), "--split: must be train, valid, test"),
        (("--split", "train"), "(SPLIT: train;"),
        (("--layers", "none"), "pass --layers even"),
        (("--layers", "9"), "out of range"),
        (("--kinds", "--language", "jva"), "did you mean java"),
        (("--kinds", "--sample", "1"), "leave out --sample"),
        (("--limit", "3"), "belong to --kinds"),
        (("x.c", "--kinds"), "not both"),
    ],
)
def test_bad_input_is_refused(
    run_alpine: Run, subject: tuple[Path, Path], arguments: tuple[str, ...], message: str
) -> None:
    result = run_alpine("show", "--checkpoint", subject[0], *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("gone.pt", "gone.c"), "error: gone.pt: no such file\ngone.c: no such file\n"),
        (("gone.pt", "--sample", "@0"), "error: gone.pt: no such file\n"),
        (("gone.pt", "-"), "error: gone.pt: no such file\n"),
        (("ckpt.pt", "gone.c"), "error: gone.c: no such file\n"),
        (("ckpt.pt", "--data", "gone"), "error: gone: no such file or directory\n"),
        (("ckpt.pt", "--data", "gone", "--kinds"), "error: gone: no such file or directory\n"),
        (("ckpt.pt", "empty.c"), "error: empty.c: is empty; give the text of a function\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_what_is_missing_is_told_before_a_model_is_loaded(
    run_alpine: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    told: str,
) -> None:
    """A source file that was not there came to light after the model had been loaded."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ckpt.pt").write_bytes(b"never read")
    (tmp_path / "empty.c").touch()
    monkeypatch.setitem(sys.modules, "alpine_cli.show.subject", None)  # its import would fail
    result = run_alpine("show", "--checkpoint", *arguments, input=SOURCE)
    assert result.exit_code == 2
    assert result.stderr == told


def test_a_long_file_is_cut_and_says_so(
    run_alpine: Run, subject: tuple[Path, Path], tmp_path: Path
) -> None:
    path = tmp_path / "long.c"
    path.write_text("int a = b + c;\n" * 400)
    result = run_alpine("show", "--checkpoint", subject[0], path)
    assert result.exit_code == 0, result.stderr
    assert "more were cut off, the model reads 64" in result.stdout
    assert "more lines" in result.stdout
    assert "⟪…⟫ not read" in result.stdout


def test_a_terminal_shows_colours_unless_told_not_to(
    subject: tuple[Path, Path], source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    from rich.console import Console

    from alpine_cli.cli import show as command

    def printed(**settings: Any) -> str:
        stream = io.StringIO()
        made = Console(file=stream, width=100, force_terminal=True, **settings)
        monkeypatch.setattr(command, "console", lambda: made)
        monkeypatch.setattr(command.typer, "echo", lambda text: stream.write(text + "\n"))
        command.show(subject[0], [source])
        return stream.getvalue()

    colours = printed(color_system="truecolor", no_color=False)
    assert "48;2;" in colours  # a ground of 24 bits
    assert "‹" not in colours
    assert "48;5;" in printed(color_system="256", no_color=False)
    for settings in ({"color_system": "standard", "no_color": False},
                     {"color_system": "truecolor", "no_color": True}):  # fmt: skip
        assert "‹0:" in printed(**settings)
        assert "48;" not in printed(**settings)
