"""The field tables of docs/results.md, made from the JSON Schema, so that they cannot rot.

`alpine schema --markdown` prints them; a test holds docs/results.md against what is printed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alpine_cli.results import json_schema

__all__ = ["reference"]

# A reader meets the whole first, then the parts, the frequent ones before the rare.
_ORDER = (
    *("Figure", "Interval", "Spread", "Comparison", "Series", "Caution", "Predictions"),
    *("Subject", "Variant", "Environment", "Gpu"),
)


def reference() -> str:
    """Markdown: a section per record, a row per field."""
    schema = json_schema()
    records: dict[str, Mapping[str, Any]] = {"Result": schema}
    definitions = schema["$defs"]
    for name in (*_ORDER, *sorted(definitions)):
        records.setdefault(name, definitions[name])
    return "\n".join(_section(name, record) for name, record in records.items())


def _section(name: str, record: Mapping[str, Any]) -> str:
    # Of a docstring the first sentence: what follows is for readers of the code.
    purpose = str(record.get("description", "")).split("\n")[0]
    required = record.get("required", [])
    rows = [
        f"| `{field}` | {_type(about)} | {'yes' if field in required else ''} |"
        f" {_escape(about.get('description', ''))} |"
        for field, about in record.get("properties", {}).items()
    ]
    head = ["| field | type | required | meaning |", "|---|---|---|---|"]
    return "\n".join([f"### {name}", "", _escape(purpose), "", *head, *rows, ""])


def _type(about: Mapping[str, Any]) -> str:
    """A JSON Schema type in a few words: "number or null", "list of `Figure`"."""
    if "anyOf" in about:
        return " or ".join(_type(one) for one in about["anyOf"])
    if "$ref" in about:
        return f"`{about['$ref'].rpartition('/')[2]}`"
    if "const" in about:
        return f"`{about['const']}`"
    if "enum" in about:
        return ", ".join(f"`{choice}`" for choice in about["enum"])
    if about.get("type") == "array":
        return f"list of {_type(about.get('items', {}))}"
    if about.get("type") == "object":
        inner = about.get("additionalProperties")
        return f"object of {_type(inner)}" if isinstance(inner, Mapping) else "object"
    if about.get("format") == "date-time":
        return "date and time"
    return str(about.get("type", "any"))


def _escape(text: str) -> str:
    return text.replace("|", "\\|")
