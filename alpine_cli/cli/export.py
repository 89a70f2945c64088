"""`alpine export`: a ckpt.pt becomes a transformers directory."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from alpine_cli.cli._common import CheckpointOption, ForceOption, JsonOption, console, print_json

__all__ = ["export"]


def export(
    checkpoint: CheckpointOption,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The directory to write.", metavar="DIR")
    ],
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Turn a ckpt.pt into a transformers directory.

    With the standard head, AutoModelForSequenceClassification loads it without alpine.
    Other heads are written beside the encoder, as head.safetensors.
    The way back is `alpine import DIR`.

        alpine export --checkpoint runs/first/ckpt.pt --output exported
    """
    from alpine_cli.files import refuse_existing

    refuse_existing(output, force)

    from alpine_cli.checkpoint import load_checkpoint
    from alpine_cli.exchange import export_transformers

    loaded = load_checkpoint(checkpoint)
    export_transformers(loaded, output, force=force)
    files = sorted(path.name for path in output.iterdir())
    if json_:
        print_json({"directory": str(output), "task": loaded.task, "files": files})
        return
    loader = "AutoModelForSequenceClassification" if loaded.head == "standard" else "AutoModel"
    out = console()
    out.print(f"wrote {output}: {', '.join(files)}", markup=False, highlight=False, soft_wrap=True)
    out.print(f"load it with transformers.{loader}", markup=False, highlight=False)
