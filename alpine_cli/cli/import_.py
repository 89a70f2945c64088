"""`alpine import`: a published checkpoint or a transformers directory becomes a ckpt.pt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from alpine_cli.cli._common import ForceOption, JsonOption, console, print_json
from alpine_cli.errors import CheckpointError, ConfigError, OutputExistsError

__all__ = ["import_"]


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            help="A published model.bin, or a transformers directory.", metavar="SOURCE"
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The ckpt.pt to write.", metavar="FILE")
    ],
    kind: Annotated[
        str, typer.Option("--kind", help="compressor, alpine, transformers, or auto to look.")
    ] = "auto",
    tokenizer: Annotated[
        Path | None,
        typer.Option(
            "--tokenizer",
            help="For a model.bin: its tokenizer.json, or a directory with the tokenizer.",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option("--task", help="For a directory that `alpine export` did not write."),
    ] = None,
    heads: Annotated[
        int | None,
        typer.Option("--heads", min=1, help="Attention heads, where the publication does not say."),
    ] = None,
    max_length: Annotated[
        int,
        typer.Option(
            "--max-length", min=8, help="Tokens per function, for a directory of your own."
        ),
    ] = 512,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Turn a published checkpoint or a transformers directory into a ckpt.pt.

    Nothing in the source is executed. For a model of the Compressor paper:

        alpine import model.bin --tokenizer BPE_1000.json --output clone.pt

    A directory that `alpine export` wrote, or your own two-class sequence classifier:

        alpine import DIR --output ckpt.pt --task defect-detection
    """
    from alpine_cli.files import refuse_existing

    refuse_existing(output, force, file=True)
    if output.is_dir():
        raise OutputExistsError(f"{output}: is a directory; --output names the ckpt.pt to write")
    kinds = ("auto", "compressor", "alpine", "transformers")
    if kind not in kinds:
        raise ConfigError(f"--kind: unknown kind {kind!r}; known: {', '.join(kinds)}")
    if not source.exists():
        raise CheckpointError(f"{source}: no such file or directory")
    if kind == "transformers" or (kind == "auto" and source.is_dir()):
        from alpine_cli.exchange import import_transformers

        checkpoint = import_transformers(source, task=task, max_length=max_length)
    else:
        from alpine_cli.published import import_published

        if tokenizer is None:
            raise ConfigError(
                "--tokenizer: a model.bin does not hold its tokenizer; name its tokenizer.json "
                "or a directory with the tokenizer (a ckpt.pt of alpine needs no import)"
            )
        checkpoint = import_published(source, tokenizer=tokenizer, kind=kind, num_heads=heads)

    from alpine_cli.checkpoint import save_checkpoint

    save_checkpoint(checkpoint, output, force=force)
    summary = _summary(checkpoint, output)
    if json_:
        print_json(summary)
        return
    out = console()
    out.print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
    for name, value in summary.items():
        if name != "checkpoint":
            out.print(f"  {name.replace('_', ' ')}: {value}", markup=False, highlight=False)


def _summary(checkpoint: Any, output: Path) -> dict[str, Any]:
    config = checkpoint.model_config
    return {
        "checkpoint": str(output),
        "task": checkpoint.task,
        "head": checkpoint.head,
        "model_type": config["model_type"],
        "layers": config.get("num_hidden_layers"),
        "hidden_size": config.get("hidden_size"),
        "parameters": sum(tensor.numel() for tensor in checkpoint.weights.values()),
        "max_length": checkpoint.encoding["max_length"],
        "pruning": checkpoint.pruning.get("layers", "none"),
    }
