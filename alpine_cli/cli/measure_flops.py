"""`alpine measure-flops`: multiply-adds per sample by three methods, or the theory behind them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from alpine_cli.cli import _measuring as m
from alpine_cli.cli._common import (
    AlphaOption,
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
from alpine_cli.errors import ConfigError
from alpine_cli.files import refuse_existing

if TYPE_CHECKING:
    from alpine_cli.measure.theory import Theory, TheorySubject

__all__ = ["measure_flops"]

_PICTURES = (".png", ".svg")


def measure_flops(
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            help="A ckpt.pt of `alpine finetune` or `alpine import`.",
            metavar="FILE",
        ),
    ] = None,
    data: DataOption = None,
    baseline: m.BaselineOption = None,
    split: m.SplitOption = "test",
    limit: LimitOption = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=1, help="Samples per forward pass.", show_default="1"),
    ] = None,
    tokens_per_batch: m.TokensPerBatchOption = None,
    device: DeviceOption = None,
    layers: LayersOption = None,
    alpha: AlphaOption = None,
    merge: m.MergeOption = None,
    protect: m.ProtectOption = None,
    engine: m.EngineOption = None,
    prune: m.PruneOption = None,
    reference: m.ReferenceOption = False,
    threads: m.ThreadsOption = None,
    seed: m.SeedOption = 0,
    theory: Annotated[
        bool,
        typer.Option(
            "--theory",
            help="Measure nothing: print what attention and feed-forward cost by formula at"
            " several lengths, and where they cross.",
        ),
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="With --theory: codebert, graphcodebert, unixcoder, or a directory or file with"
            " the model's config.json. Needs no network.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Directory of result files, results by default; one is added, none is replaced."
            " With --theory: a picture to draw, .png or .svg.",
        ),
    ] = None,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Count multiply-adds (MACs) and FLOPs per sample, layer by layer.

    Three methods: formulas at the length each layer really ran at, torch's
    operator counter, and fvcore. A disagreement above 1 % is reported, with
    the part of the model in which they differ. Papers often call MACs FLOPs:
    here each figure says which it is. Engines that pad cost more in larger
    batches, so the batch size counts.

        [bold]alpine measure-flops --checkpoint ckpt.pt --layers even[/]

    With --theory, the ALPINE paper's formulas and the exact ones:

        [bold]alpine measure-flops --theory --model codebert --output crossing.png[/]
    """
    if theory:
        _theory(_subject(model, checkpoint), output, force=force, as_json=json_)
        return
    if model is not None:
        raise ConfigError("--model: goes with --theory; what is measured is a --checkpoint")
    if checkpoint is None:
        raise ConfigError("pass --checkpoint FILE, or --theory with --model codebert, for example")
    m.measure(
        ("flops",),
        output=Path("results") if output is None else output,
        as_json=json_,
        checkpoint=checkpoint,
        data=data,
        baseline=baseline,
        split=split,
        limit=limit,
        flops_batch_size=batch_size,
        flops_tokens_per_batch=tokens_per_batch,
        device=device,
        layers=layers,
        alpha=alpha,
        merge=merge,
        protect=protect,
        engine=engine,
        prune=m.pruning_fields(prune),
        reference=reference,
        threads=threads,
        seed=seed,
    )


def _subject(model: str | None, checkpoint: Path | None) -> TheorySubject:
    from alpine_cli.measure.theory import subject_of_checkpoint, subject_of_model

    if model is not None and checkpoint is None:
        return subject_of_model(model)
    if checkpoint is not None and model is None:
        return subject_of_checkpoint(checkpoint)
    raise ConfigError("--theory: pass either --model codebert, for example, or --checkpoint FILE")


def _theory(subject: TheorySubject, picture: Path | None, *, force: bool, as_json: bool) -> None:
    """Print the table, and draw the picture where one is asked for."""
    from alpine_cli.measure.theory import theory

    if picture is not None:
        if picture.suffix not in _PICTURES:
            raise ConfigError(f"--output: {picture} must end in .png or .svg with --theory")
        refuse_existing(picture, force, file=True)
    found = theory(subject)
    if picture is not None:
        from alpine_cli.report.theory_figure import draw_theory

        draw_theory(found, picture)
    if as_json:
        print_json(asdict(found))
    else:
        _print_theory(found)
    if picture is not None:
        error_console().print(f"\nwritten: {picture}", markup=False, soft_wrap=True)


def _print_theory(found: Theory) -> None:
    from rich import box
    from rich.table import Table

    shape, out = found.subject.shape, console()
    table = Table(
        title=f"{found.subject.name}: one layer, d = {shape.hidden}, h = {shape.heads},"
        f" F = {shape.feed_forward}",
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    columns = ["tokens"]
    if found.note is None:
        columns += ["MHA, MFLOPs", "FFN, MFLOPs", "MHA / FFN"]
    columns += ["MHA, MMACs", "FFN, MMACs", "MHA / FFN"]
    for title in columns:
        table.add_column(title, justify="right")
    for at, length in enumerate(found.lengths):
        cells = [f"{length:,}"]
        if found.mha_flops is not None and found.ffn_flops is not None:
            cells += _cells(found.mha_flops[at], found.ffn_flops[at])
        table.add_row(*cells, *_cells(found.mha_macs[at], found.ffn_macs[at]))
    out.print(table)
    for line in _crossings(found):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def _cells(attention: int, feed_forward: int) -> list[str]:
    ratio = f"{attention / feed_forward:.2f}"
    return [f"{attention / 1e6:,.1f}", f"{feed_forward / 1e6:,.1f}", ratio]


def _crossings(found: Theory) -> list[str]:
    """Where the blocks cross, by either count, and what to know about it."""
    lines = []
    counts = [("FLOPs (the paper's formulas)", found.crossing_flops)]
    counts.append(("MACs (exact)", found.crossing_macs))
    for count, crossing in counts:
        if crossing is None:
            lines.append(f"{count}: {found.note}.")
        elif crossing == 0:
            lines.append(f"{count}: attention costs more than feed-forward at every length.")
        else:
            lines.append(
                f"{count}: feed-forward costs no less than attention up to n = {crossing:,}."
            )
    context = found.subject.context
    if context is not None:
        lines.append(f"The model's longest input is {context:,} tokens.")
    if found.crossing_flops == 1530:
        lines.append(
            "(The README of ALPINE's replication package says 1375, which does not follow from its"
            " own formulas.)"
        )
    return lines
