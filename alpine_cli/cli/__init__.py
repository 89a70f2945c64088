"""The `alpine` command: one table of commands, loaded on use, and one place where errors end.

`alpine --help` and shell completion read the table only, so neither imports torch nor any command
module; a command's module is imported when that command runs (or its own --help is asked for).
To add a command, write `alpine_cli/cli/<file>.py` with one function and add its row to COMMANDS.

Commands raise; they neither print errors nor exit. `AlpineGroup.invoke` turns what reaches it
into one message on stderr and an exit code:

    AlpineError     its own `exit_code`: 2 for bad input, 1 for failed work
    PruningError    2
    a usage error   2: an unknown option, a value out of range (`_usage`)
    Ctrl-C          130
    anything else   1, with the exception's name (a defect: `alpine --debug …` shows the traceback)
"""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from alpine_cli.cli._common import error_console
from alpine_cli.cli._usage import usage_message
from alpine_cli.errors import AlpineError
from alpine_cli.pruning.errors import PruningError

__all__ = ["COMMANDS", "CommandSpec", "app", "main"]


@dataclass(frozen=True)
class CommandSpec:
    """A row of the command table: where the command lives, and its line in `alpine --help`."""

    target: str  # "module:function", or "module:app" of a Typer app with commands of its own
    summary: str
    panel: str

    def load(self, name: str) -> Any:
        """Import the module and build the command.

        Raises:
            ImportError, AttributeError: the row points at nothing (a defect of this package).
        """
        module, _, attribute = self.target.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(
                add_completion=False, rich_markup_mode="rich", context_settings=_CONTEXT
            )
            single.command(name)(found)
            found = single
        return typer.main.get_command(found)


_TRAIN = "Train"
_MEASURE = "Measure"
_REPORT = "Report"
_CHECKPOINTS = "Checkpoints"

COMMANDS: dict[str, CommandSpec] = {
    "demo": CommandSpec(
        "alpine_cli.cli.demo:demo",
        "Everything below on a small model and real code, offline, in minutes.",
        _TRAIN,
    ),
    "finetune": CommandSpec(
        "alpine_cli.cli.finetune:finetune",
        "Fine-tune a model of code on a task, pruned or not.",
        _TRAIN,
    ),
    "bench": CommandSpec(
        "alpine_cli.cli.bench:bench",
        "Accuracy, FLOPs, memory, throughput and CO2: pruned against unpruned.",
        _MEASURE,
    ),
    "sweep": CommandSpec(
        "alpine_cli.cli.sweep:sweep",
        "Accuracy against cost of many prunings of one checkpoint, nothing trained.",
        _MEASURE,
    ),
    "tune": CommandSpec(
        "alpine_cli.cli.tune:tune",
        "The cheapest pruning within a given loss, chosen on validation data.",
        _MEASURE,
    ),
    "measure-flops": CommandSpec(
        "alpine_cli.cli.measure_flops:measure_flops",
        "Count multiply-adds per layer, by three methods.",
        _MEASURE,
    ),
    "measure-memory": CommandSpec(
        "alpine_cli.cli.measure_memory:measure_memory",
        "Peak memory of inference and of a training step.",
        _MEASURE,
    ),
    "throughput": CommandSpec(
        "alpine_cli.cli.throughput:throughput",
        "Samples per second, interleaved, with a confidence interval.",
        _MEASURE,
    ),
    "co2": CommandSpec(
        "alpine_cli.cli.co2:co2",
        "Energy per sample and the CO2 it stands for.",
        _MEASURE,
    ),
    "doctor": CommandSpec(
        "alpine_cli.cli.doctor:doctor",
        "What this machine can measure, what it can only model, and the remedies.",
        _MEASURE,
    ),
    "show": CommandSpec(
        "alpine_cli.cli.show:show",
        "A function's tokens, coloured by the layer that merged them away.",
        _REPORT,
    ),
    "report": CommandSpec(
        "alpine_cli.cli.report:report",
        "Rebuild tables, CSV, Excel and figures from result files.",
        _REPORT,
    ),
    "compare": CommandSpec(
        "alpine_cli.cli.compare:compare",
        "Set the results of B against those of A; a gate for CI.",
        _REPORT,
    ),
    "schema": CommandSpec(
        "alpine_cli.cli.schema:schema",
        "The JSON Schema of result files.",
        _REPORT,
    ),
    "import": CommandSpec(
        "alpine_cli.cli.import_:import_",
        "Turn a published checkpoint or a transformers directory into a ckpt.pt.",
        _CHECKPOINTS,
    ),
    "export": CommandSpec(
        "alpine_cli.cli.export:export",
        "Turn a ckpt.pt into a transformers directory.",
        _CHECKPOINTS,
    ),
}

_CONTEXT = {"help_option_names": ["-h", "--help"]}


class AlpineGroup(TyperGroup):
    """The root command: rows of COMMANDS as stand-ins until one is run, and the error boundary."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(**attrs)
        for name, spec in COMMANDS.items():
            self.commands[name] = TyperCommand(
                name, help=spec.summary, rich_help_panel=spec.panel, add_help_option=False
            )

    def make_context(self, info_name: Any, args: Any, parent: Any = None, **extra: Any) -> Any:
        """Parse what stands before the command's name; what is wrong there ends like all else."""
        try:
            return super().make_context(info_name, args, parent, **extra)
        except Exception as error:
            message = usage_message(error)
            if message is None:
                raise
            raise _stop(getattr(error, "ctx", None), error, message, 2) from error

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Replace the stand-in by the real command, at the moment it is needed."""
        name, command, rest = super().resolve_command(ctx, args)
        if name in COMMANDS:
            command = COMMANDS[name].load(name)
        return name, command, rest

    def invoke(self, ctx: Any) -> Any:
        """Run the command; answer every failure with one message and its exit code."""
        try:
            return super().invoke(ctx)
        except (AlpineError, PruningError) as error:
            code = error.exit_code if isinstance(error, AlpineError) else 2
            raise _stop(ctx, error, str(error), code) from error
        except KeyboardInterrupt as error:
            raise _stop(ctx, error, "interrupted", 130) from error
        except BrokenPipeError:
            raise  # typer ends quietly when the reader of a pipe has gone
        except Exception as error:
            usage = usage_message(error)
            if usage is not None:
                raise _stop(ctx, error, usage, 2) from error
            if type(error).__module__.startswith(("typer", "click")):
                raise  # exits, and help for want of arguments
            message = f"unexpected {type(error).__name__}: {error}"
            if not ctx.params.get("debug"):
                message += "\nThis is a defect of alpine; `alpine --debug …` shows the traceback."
            raise _stop(ctx, error, message, 1) from error


def _stop(ctx: Any, error: BaseException, message: str, code: int) -> typer.Exit:
    """Say what went wrong on stderr; return the exit to raise."""
    if ctx is not None and ctx.params.get("debug"):
        traceback.print_exception(error, file=sys.stderr)
    console = error_console()
    # Soft wrap: a path or a config field must stay greppable, so lines are never broken.
    console.print("[bold red]error:[/] ", end="")
    console.print(message, markup=False, highlight=False, soft_wrap=True)
    return typer.Exit(code)


app = typer.Typer(
    name="alpine",
    cls=AlpineGroup,
    rich_markup_mode="rich",
    context_settings=_CONTEXT,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from alpine_cli import __version__

        typer.echo(f"alpine {__version__}")
        raise typer.Exit


@app.callback(no_args_is_help=True)
def _root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error, too.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Prune tokens adaptively inside language models of code (ALPINE), and prove what it saves.

    Start here, offline, on a small model and real code:

        [bold]alpine demo[/]

    With real models and data:

        [bold]alpine finetune --model unixcoder --task clone-detection --layers even[/]

        [bold]alpine bench --checkpoint runs/NAME/ckpt.pt[/]

    `alpine COMMAND --help` explains each command with examples.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Entry point of the `alpine` command; exits the process with the command's code."""
    app(args=args, prog_name="alpine")
