"""`alpine show`: a function's tokens coloured by the layer that merged them away.

Parses, calls, prints; the work is in `alpine_cli.show`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alpine_cli.cli._common import (
    AlphaOption,
    CheckpointOption,
    DataOption,
    DeviceOption,
    ForceOption,
    JsonOption,
    LayersOption,
    LimitOption,
    console,
    error_console,
    print_json,
)
from alpine_cli.cli._measuring import (
    EngineOption,
    MergeOption,
    ProtectOption,
    PruneOption,
    SplitOption,
    pruning_fields,
)
from alpine_cli.errors import BadInput, CheckpointError, ConfigError, DataError
from alpine_cli.files import refuse_existing, write_atomic

if TYPE_CHECKING:
    from alpine_cli.show.fates import Shown
    from alpine_cli.show.sources import Source
    from alpine_cli.show.subject import ShowSubject

__all__ = ["show"]


def show(
    checkpoint: CheckpointOption,
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FILE [FILE2]]",
            help="A source file with one function, or - for standard input. A pair task takes two;"
            " one alone is shown without an answer.",
        ),
    ] = None,
    data: DataOption = None,
    split: SplitOption = "test",
    sample: Annotated[
        str | None,
        typer.Option(
            "--sample",
            metavar="ID|@N",
            help="A sample of the data: its id, or @N for the N-th of the split, counted from 0."
            " Default, without FILE: @0.",
        ),
    ] = None,
    layers: LayersOption = None,
    alpha: AlphaOption = None,
    merge: MergeOption = None,
    protect: ProtectOption = None,
    engine: EngineOption = None,
    prune: PruneOption = None,
    device: DeviceOption = None,
    kinds: Annotated[
        bool,
        typer.Option(
            "--kinds",
            help="Instead of one function: which kinds of token (identifiers, keywords …) survive"
            " over a whole split.",
        ),
    ] = False,
    limit: LimitOption = None,
    language: Annotated[
        str | None,
        typer.Option(
            "--language",
            metavar="NAME",
            help="With --kinds: the language of the functions, as Pygments calls it; default: the"
            " task's, or python where the functions parse as such.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", metavar="OUT.html", help="Write one self-contained page instead of printing."
        ),
    ] = None,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Show which tokens of a function are merged away, in which layer, and why.

    Colours need a terminal; in a pipe, or with NO_COLOR, removed tokens stand in marks, ‹2:like
    this›, with the number of the layer.

        [bold]alpine show --checkpoint runs/NAME/ckpt.pt Frame.java[/]

        [bold]alpine show --checkpoint runs/NAME/ckpt.pt --data DIR --sample @3 --html out.html[/]

        [bold]alpine show --checkpoint runs/NAME/ckpt.pt --kinds --data DIR[/]
    """
    if files and (data or sample or kinds):
        raise ConfigError("give a FILE, or --data with --sample or --kinds, not both")
    if kinds and sample:
        raise ConfigError("--kinds counts a whole split; leave out --sample")
    if not kinds and (limit or language):
        raise ConfigError("--limit and --language belong to --kinds")
    if html is not None:
        refuse_existing(html, force, file=True)
    given = _read_inputs(checkpoint, files or [], data)
    # Only now: it imports torch.
    from alpine_cli.show.subject import load_subject

    subject = load_subject(
        checkpoint,
        layers=layers,
        alpha=alpha,
        merge=merge,
        protect=protect,
        engine=engine,
        prune=pruning_fields(prune),
    )
    if kinds:
        from alpine_cli.cli._show_kinds import show_kinds

        show_kinds(
            subject,
            data=data,
            split=split,
            limit=limit,
            language=language,
            device=device,
            html=html,
            force=force,
            as_json=json_,
        )
        return
    shown = _run(subject, given, data, split, sample, device)
    if html is not None:
        from alpine_cli.show.fates_page import fates_page

        write_atomic(html, fates_page(shown), force=force)
        error_console().print(f"written: {html}", markup=False, highlight=False, soft_wrap=True)
    if json_:
        from alpine_cli.show.record import shown_record

        print_json(shown_record(shown))
    elif html is None:
        _print(shown)


def _read_inputs(checkpoint: Path, files: list[Path], data: Path | None) -> list[Source]:
    """The source files, once it is known that nothing named is missing: loading a model is slow.

    Raises:
        DataError: a source file cannot be shown, or `data` is missing.
        CheckpointError: the checkpoint is missing.
        BadInput: several of these, a line each.
    """
    from alpine_cli.show.sources import read_file

    problems: list[BadInput] = []
    if not checkpoint.exists():
        problems.append(CheckpointError(f"{checkpoint}: no such file"))
    if data is not None and not data.exists():
        problems.append(DataError(f"{data}: no such file or directory"))
    sources = []
    for path in files:
        try:
            sources.append(read_file(path))
        except DataError as error:
            problems.append(error)
    if len(problems) > 1:
        raise BadInput("\n".join(map(str, problems)))
    for problem in problems:
        raise problem
    return sources


def _run(
    subject: ShowSubject,
    sources: list[Source],
    data: Path | None,
    split: str,
    sample: str | None,
    device: str | None,
) -> Shown:
    """Find what is to be shown and run the model over it."""
    from dataclasses import replace

    from alpine_cli.devices import resolve_device
    from alpine_cli.show.fates import show_functions
    from alpine_cli.show.sources import find_sample, from_sample

    about, truth = subject.about(), None
    if not sources:
        samples, where = subject.samples(data, split)
        position, found = find_sample(samples, sample or "@0", where)
        sources, truth = from_sample(found), found.label
        about |= {"data": where, "sample": f"{found.id} (@{position} of {len(samples):,})"}
    shown = show_functions(subject.checkpoint, sources, subject.pruning, resolve_device(device))
    if truth is not None and shown.pruned is not None:
        shown = replace(shown, truth=shown.pruned.labels[truth])
    return replace(shown, about=about)


def _print(shown: Shown) -> None:
    """The source, the legend, the lengths and the answers."""
    from alpine_cli.show import terminal

    out = console()
    colours = out.color_system if out.is_terminal and not out.no_color else None
    styles = terminal.layer_styles(shown.pruned_layers, colours)
    for function in shown.functions:
        line = f"{function.name}: {terminal.heading(function)}"
        out.print(line, style="bold", markup=False, highlight=False)
        out.print()
        if styles:
            out.print(terminal.coloured(function, styles), soft_wrap=True)
        else:
            typer.echo(terminal.marked(function))
        out.print()
    out.print(terminal.legend(shown, styles), soft_wrap=True)
    for function in shown.functions:
        title = f"{function.name}: " if len(shown.functions) > 1 else ""
        out.print(f"\n{title}tokens entering each layer", markup=False, highlight=False)
        for line in terminal.length_lines(function):
            out.print(line, markup=False, highlight=False)
    out.print()
    for line in terminal.answer_lines(shown):
        out.print(line, markup=False, highlight=False)
    cited = "; ".join(f"{name} {value}" for name, value in shown.about.items())
    out.print(f"\n{cited}", style="dim", markup=False, highlight=False, soft_wrap=True)
