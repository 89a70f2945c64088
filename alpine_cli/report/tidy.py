"""Result files as flat rows: one row per figure, comparison or point of a curve.

The rows feed the CSV files and the sheets of the workbook. Values are exact, in base units.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from alpine_cli.results import Interval, Result

__all__ = ["comparison_rows", "environment_rows", "figure_rows", "series_rows", "to_csv"]

Row = dict[str, Any]


def _identity(result: Result) -> Row:
    subject = result.subject
    return {
        "result": result.id,
        "session": result.session,
        "kind": result.kind,
        "created": result.created.isoformat(timespec="seconds"),
        "model": subject.model,
        "task": subject.task,
        "data": subject.data,
        "split": subject.split,
        "samples": subject.samples,
        "batch_size": result.settings.get("batch_size"),
        "tokens_per_batch": result.settings.get("tokens_per_batch"),
        "precision": result.settings.get("precision"),
        "device": result.settings.get("device"),
    }


def _interval(interval: Interval | None, prefix: str = "") -> Row:
    names = (f"{prefix}ci_low", f"{prefix}ci_high", f"{prefix}ci_level", f"{prefix}ci_method")
    if interval is None:
        return dict.fromkeys(names)
    values = (interval.low, interval.high, interval.level, interval.method)
    return dict(zip(names, values, strict=True))


def figure_rows(results: Iterable[Result]) -> list[Row]:
    """One row per figure of every result."""
    rows = []
    for result in results:
        for figure in result.figures:
            variant = result.variants[figure.variant]
            spread = figure.spread
            rows.append(
                {
                    **_identity(result),
                    "variant": figure.variant,
                    "engine": variant.engine,
                    "layers": (variant.pruning or {}).get("layers"),
                    "alpha": (variant.pruning or {}).get("alpha"),
                    "training_seed": variant.training_seed,
                    "figure": figure.name,
                    "value": figure.value,
                    "unit": figure.unit,
                    "per": figure.per,
                    "n": figure.n,
                    "aggregate": figure.aggregate,
                    **_interval(figure.interval),
                    "minimum": spread.minimum if spread else None,
                    "q1": spread.q1 if spread else None,
                    "median": spread.median if spread else None,
                    "q3": spread.q3 if spread else None,
                    "maximum": spread.maximum if spread else None,
                    "provenance": figure.provenance,
                    "method": figure.method,
                    "reason": figure.reason,
                }
            )
    return rows


def comparison_rows(results: Iterable[Result]) -> list[Row]:
    """One row per comparison of every result."""
    return [
        {
            **_identity(result),
            "figure": found.figure,
            "variant": found.variant,
            "baseline": found.baseline,
            "ratio": found.ratio,
            **_interval(found.interval),
            "difference": found.difference,
            **_interval(found.difference_interval, "difference_"),
            "p_value": found.p_value,
            "better": found.better,
            "verdict": found.verdict,
            "reason": found.reason,
        }
        for result in results
        for found in result.comparisons
    ]


def series_rows(results: Iterable[Result]) -> list[Row]:
    """One row per point of every curve."""
    return [
        {
            **_identity(result),
            "series": series.name,
            "variant": series.variant,
            "baseline": series.baseline,
            "x_name": series.x_name,
            "x": x,
            "label": None if series.labels is None else series.labels[at],
            "y": y,
            "ci_low": None if series.low is None else series.low[at],
            "ci_high": None if series.high is None else series.high[at],
            "unit": series.unit,
            "method": series.method,
        }
        for result in results
        for series in result.series
        for at, (x, y) in enumerate(zip(series.x, series.y, strict=True))
    ]


def environment_rows(results: Iterable[Result]) -> list[Row]:
    """One row per fact about the machine, the software and the settings of every result."""
    rows = []
    for result in results:
        facts: dict[str, Any] = {"command": " ".join(result.command)}
        facts |= _flatten(result.environment.model_dump(mode="json"))
        facts |= {f"setting {name}": value for name, value in result.settings.items()}
        for name, variant in result.variants.items():
            facts[f"{name}: checkpoint"] = variant.checkpoint
            facts[f"{name}: sha256"] = variant.checkpoint_sha256
            facts[f"{name}: description"] = variant.description
        for number, caution in enumerate(result.cautions, start=1):
            facts[f"caution {number}"] = str(caution)
        rows += [{"result": result.id, "fact": fact, "value": facts[fact]} for fact in facts]
    return rows


def _flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, item in value.items():
        if isinstance(item, Mapping):
            flat |= _flatten(item, f"{prefix}{name}.")
        elif isinstance(item, list) and item and isinstance(item[0], Mapping):
            for index, entry in enumerate(item):
                flat |= _flatten(entry, f"{prefix}{name}[{index}].")
        elif isinstance(item, list):
            flat[f"{prefix}{name}"] = ", ".join(map(str, item))
        else:
            flat[f"{prefix}{name}"] = item
    return flat


def to_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV with a header; absent values are empty cells.

    Text that a spreadsheet would take for a formula gets a leading apostrophe.
    """
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _harmless(value) for name, value in row.items()})
    return out.getvalue()


def _harmless(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return f"'{value}"
    return value
