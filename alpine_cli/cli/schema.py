"""`alpine schema`: the JSON Schema of result files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from alpine_cli.cli._common import ForceOption, console

__all__ = ["schema"]


def schema(
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Write it to this file instead.", metavar="FILE"),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="As tables for people, in Markdown.")
    ] = False,
    force: ForceOption = False,
) -> None:
    """Print the JSON Schema (2020-12) of the result files that this alpine writes.

    Any JSON Schema validator then checks a file, in any language. Files of
    earlier versions have another form; `alpine` itself reads them all.

        alpine schema --output result.schema.json
    """
    from alpine_cli.files import refuse_existing, write_atomic
    from alpine_cli.results import json_schema
    from alpine_cli.schema_reference import reference

    if output is not None:
        refuse_existing(output, force, file=True)
    text = reference() if markdown else json.dumps(json_schema(), indent=2, ensure_ascii=False)
    if output is None:
        typer.echo(text)
        return
    write_atomic(output, text.rstrip("\n") + "\n", force=force)
    console().print(f"wrote {output}", markup=False, highlight=False, soft_wrap=True)
