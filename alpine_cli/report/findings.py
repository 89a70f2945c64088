"""What a result found, told figure by figure, and the short forms that tables use.

The clauses are those of `sentence`; here they get their subject, their order and what a reader must
know beside them: that a figure is modelled, and what the exact test of the answers says.
"""

from __future__ import annotations

from dataclasses import dataclass

from alpine_cli.report.sentence import sentence
from alpine_cli.report.summary import summarise
from alpine_cli.report.tables import Style
from alpine_cli.results import Comparison, Interval, Result

__all__ = ["Finding", "findings", "points_text", "ratio_text", "style_of"]


@dataclass(frozen=True)
class Finding:
    """What is spoken of, the clause about it, and what it means for the variant."""

    subject: str
    clause: str
    style: Style = ""

    def __str__(self) -> str:
        return f"{self.subject}: {self.clause}."


def findings(result: Result) -> list[Finding]:
    """What pruning changed, in the order of the summary; then the whole against stock."""
    told = []
    for row in summarise(result):
        found = row.pruning
        if found is None or row.figure == "agreement":
            continue
        clause = sentence(found)
        if found.p_value is not None:
            clause += f"; exact McNemar test p = {found.p_value:.2g}"
        modelled = any(figure.provenance == "modelled" for figure in row.figures.values())
        subject = f"{row.label.strip()} (modelled)" if modelled else row.label.strip()
        told.append(Finding(subject, clause, style_of(found)))
    whole = result.comparison("throughput", "pruned", "stock")
    if whole is not None:
        subject = "throughput against stock transformers, engine and pruning together"
        told.append(Finding(subject, sentence(whole), style_of(whole)))
    return told


def ratio_text(ratio: float, interval: Interval | None) -> str:
    """For a cell: "0.64 [0.62, 0.66]"."""
    between = f" [{_times(interval.low)}, {_times(interval.high)}]" if interval else ""
    return f"{_times(ratio)}{between}"


def _times(ratio: float) -> str:
    return f"{ratio:.2f}" if 0.1 <= ratio < 100 else f"{ratio:.3g}"


def points_text(difference: float, interval: Interval | None, unit: str) -> str:
    """For a cell: a difference of metrics, shares in points: "+0.1 pts [-4.0, +3.9]"."""
    factor, digits, name = (100, 1, " pts") if unit == "share" else (1, 3, "")
    shown = f"{difference * factor:+.{digits}f}{name}"
    if interval is None:
        return shown
    low, high = (f"{end * factor:+.{digits}f}" for end in (interval.low, interval.high))
    return f"{shown} [{low}, {high}]"


def style_of(found: Comparison | None) -> Style:
    """The colour of a verdict; the word goes with it."""
    if found is None:
        return ""
    return {"better": "better", "worse": "worse"}.get(found.verdict, "")  # type: ignore[return-value]
