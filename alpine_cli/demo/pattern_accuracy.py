"""Accuracy by bug: which of the patterns a model has learnt, read off its saved predictions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alpine_cli.demo.corpus import DemoSample
from alpine_cli.demo.patterns import PATTERNS

__all__ = ["PatternAccuracy", "accuracy_by_pattern"]


@dataclass(frozen=True)
class PatternAccuracy:
    """One bug: shares of test functions, sound and spoilt, that are told correctly.

    Attributes:
        name, rule, example: see `patterns.BugPattern`.
        functions: test functions that carry the bug or could.
        unpruned, pruned: accuracy, 0 to 1; None without such functions.
    """

    name: str
    rule: str
    example: str
    functions: int
    unpruned: float | None
    pruned: float | None


def accuracy_by_pattern(
    test: Sequence[DemoSample], unpruned: Path, pruned: Path
) -> list[PatternAccuracy]:
    """Read `predictions-test.jsonl` of both run directories and group them by bug."""
    correct = [_correct(run / "predictions-test.jsonl") for run in (unpruned, pruned)]
    rows = []
    for pattern in PATTERNS:
        # A sample without an id of its own is called by its row in the data file.
        ids = [str(row) for row, sample in enumerate(test) if sample.pattern == pattern.name]
        shares = [sum(c[i] for i in ids) / len(ids) if ids else None for c in correct]
        rows.append(PatternAccuracy(pattern.name, pattern.rule, pattern.example, len(ids), *shares))
    return rows


def _correct(path: Path) -> dict[str, bool]:
    lines = (json.loads(line) for line in path.read_text("utf-8").splitlines())
    return {str(line["id"]): line["label"] == line["prediction"] for line in lines}
