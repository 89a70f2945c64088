"""What all commands share: consoles, JSON output and the options that mean the same everywhere.

Results go to stdout, everything else (progress, notes, warnings, errors) to stderr, so that
`alpine … --json | jq` works. Colours follow the terminal: rich honours NO_COLOR, and prints plain
text where the stream is a pipe or a file.

An option that several commands share is declared once, here, as an annotated type:

    def bench(checkpoint: CheckpointOption, json_: JsonOption = False) -> None: ...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

__all__ = [
    "AlphaOption",
    "CheckpointOption",
    "DataOption",
    "DeviceOption",
    "ForceOption",
    "JsonOption",
    "LayersOption",
    "LimitOption",
    "console",
    "error_console",
    "print_json",
]

# Wide enough that a result table keeps its columns when the output is piped into a file.
_PIPE_WIDTH = 120


def console() -> Console:
    """A console on stdout, for results. Made anew so that it follows a redirected stdout."""
    return _console(stderr=False)


def error_console() -> Console:
    """A console on stderr, for progress, notes, warnings and errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(stderr=stderr, width=width)


def print_json(value: Any) -> None:
    """Print one JSON document on stdout: indented, UTF-8, NaN refused (JSON has none).

    Paths are written as text; a pydantic model as its JSON form.

    Raises:
        ValueError: the value holds NaN or infinity, which no JSON reader would accept.
        TypeError: the value holds something that has no JSON form.
    """
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain)
    typer.echo(text)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__name__} has no JSON form")


CheckpointOption = Annotated[
    Path,
    typer.Option(
        "--checkpoint", help="A ckpt.pt of `alpine finetune` or `alpine import`.", metavar="FILE"
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Directory of the task's data; default: the one it was trained on."
    ),
]
LayersOption = Annotated[
    str | None,
    typer.Option(
        "--layers",
        help="Layers that prune: none, all, odd, even or a list such as 0,2,4 (layer 0 is even).",
    ),
]
AlphaOption = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="Half-width of the kept score band in standard deviations; smaller prunes more.",
    ),
]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", help="cpu, cuda or cuda:N; default: cuda where there is one."),
]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="Use at most N samples of each split, the same ones each time."
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace an output that already exists.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")
]
