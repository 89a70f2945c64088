"""The table, the closing lines and the picture of judged settings."""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.report.front import BASELINE, FrontPoint
from alpine_cli.results import Comparison, Figure, Interval, Result
from benchmarks.front.judging import Row
from benchmarks.paired import accuracy_text

_WITHIN = 0.005
"""Of accuracy: what counts as nothing lost in the closing lines."""


def document(name: str, rows: Sequence[Row], results: Sequence[Result]) -> str:
    """The table and the closing lines, in Markdown."""
    subject, seeds = results[0].subject, len(results)
    base = next(row for row in rows if row.setting == BASELINE)
    costs = {
        "throughput": [row.throughput for row in rows],
        f"energy ({base.energy_is})": [row.energy for row in rows],
    }
    told = {name: values for name, values in costs.items() if any(values)}
    head = ["", "setting", "rule", "MACs, %", "accuracy, %", "F1, %", "against unpruned, points"]
    head += ["truncation of equal cost", "against it, points"]
    head += [f"{name} / unpruned" for name in told]
    lines = [
        f"# Front: {name}",
        "",
        f"{subject.model}, {subject.task}, {subject.data} {subject.split}, {subject.samples:,}"
        f" samples, {seeds} checkpoint{'s' * (seeds > 1)}. Pruned at inference only, nothing"
        f" re-trained. Unpruned: {accuracy_text(base)} % at {base.macs / 1e6:,.0f} million"
        " multiply-adds per sample. Brackets: 95 % bootstrap intervals of paired differences over"
        " samples, not corrected for the number of settings. `*`: no other setting is both cheaper"
        " and better.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
    ]
    for place, row in enumerate(rows):
        cells = [
            "\\*" if row.on_front else "",
            row.setting,
            row.series,
            f"{100 * row.share:.1f}",
            accuracy_text(row),
            f"{100 * row.f1:.1f}",
            str(row.unpruned or ""),
            row.rival or "",
            str(row.truncation or ""),
        ]
        for values in told.values():
            found = values[place]
            cells.append("" if found is None else "{:.2f} [{:.2f}, {:.2f}]".format(*found))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", *closing(rows), ""])


def closing(rows: Sequence[Row]) -> list[str]:
    """What the table says, per rule and over all; computed, so that it cannot drift from it."""
    lines = [
        f"Cheapest setting of each rule within {100 * _WITHIN:g} points of unpruned on these"
        " samples (of the estimate; the interval stands in the table):",
        "",
    ]
    series = dict.fromkeys(row.series for row in rows if row.series)
    for one in series:
        mine = [row for row in rows if row.series == one]
        near = [row for row in mine if row.unpruned and row.unpruned.difference >= -_WITHIN]
        told = "none of those tried"
        if near:
            told = f"{near[0].setting}, {100 * near[0].share:.1f} % of the multiply-adds"
        lines.append(f"- {one}: {told}")
    rivals = [row for row in rows if row.truncation is not None]
    better = [row for row in rivals if row.truncation and row.truncation.low > 0]
    worse = [row for row in rivals if row.truncation and row.truncation.high < 0]
    lines += [
        "",
        f"Against truncation of equal cost: {len(better)} of {len(rivals)} settings are better,"
        f" {len(worse)} worse, by intervals that leave out 0.",
    ]
    return lines


def drawable(rows: Sequence[Row], result: Result) -> list[FrontPoint]:
    """The rows as points for the report's picture; `result` says how each setting prunes."""
    drawn = []
    for row in rows:
        change, about = None, result.variants[row.setting]
        if row.unpruned is not None:
            told = row.unpruned
            change = Comparison(
                figure="accuracy",
                variant=row.setting,
                baseline=BASELINE,
                better="higher",
                difference=told.difference,
                difference_interval=Interval(
                    low=told.low, high=told.high, method="percentile bootstrap over samples"
                ),
                verdict="not judged",
                method="paired difference, averaged over checkpoints",
            )
        figure = Figure(
            name="accuracy", variant=row.setting, value=row.accuracy, unit="fraction",
            provenance="measured", method="mean over checkpoints",
        )  # fmt: skip
        drawn.append(
            FrontPoint(
                name=row.setting,
                macs=row.macs,
                share=row.share,
                figure=figure,
                change=change,
                throughput=None,
                energy=None,
                pruning={} if row.setting == BASELINE else dict(about.pruning or {}),
                max_length=about.max_length,
                on_front=row.on_front,
            )
        )
    return drawn
