"""The ALPINE paper's tables as data, with their misprints, and what follows from them.

The tables are the YAML files of this folder (README.md names their sources); `loader` reads them,
`derived` computes with them. Not to be confused with `alpine_cli.published`, which imports
published checkpoints.
"""

from __future__ import annotations

from alpine_cli.report.published.loader import (
    MODELS,
    TAGS,
    Claim,
    PublishedCell,
    PublishedCurve,
    PublishedTable,
    load_claims,
    load_table,
    load_tables,
    published_curves,
    published_model,
)

__all__ = [
    "MODELS",
    "TAGS",
    "Claim",
    "PublishedCell",
    "PublishedCurve",
    "PublishedTable",
    "load_claims",
    "load_table",
    "load_tables",
    "published_curves",
    "published_model",
]
