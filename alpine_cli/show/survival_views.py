"""What survives, in words, as tables and as plain values: everything but the page."""

from __future__ import annotations

from typing import Any

from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Interval
from alpine_cli.show.survival import KindSurvival, Survival

__all__ = [
    "curve_table",
    "finding",
    "notes",
    "percent",
    "survival_record",
    "survival_table",
]


def percent(value: float) -> str:
    """A share in per cent, one decimal."""
    return f"{100 * value:.1f}"


def _between(value: float, interval: Interval | None) -> Cell:
    text = percent(value)
    if interval is None:
        return Cell(text, 100 * value, note="fewer than 5 functions: no interval")
    text += f" [{percent(interval.low)}, {percent(interval.high)}]"
    return Cell(text, 100 * value, 100 * interval.low, 100 * interval.high)


def against_all(found: KindSurvival, survival: Survival) -> str:
    """Whether the kind's interval lies apart from that of all tokens: more, less or undecided."""
    own, whole = found.surviving_interval, survival.all.surviving_interval
    if found is survival.all:
        return ""
    if own is None or whole is None:
        return "not judged"
    if own.low > whole.high:
        return "more"
    return "less" if own.high < whole.low else "undecided"


def survival_table(survival: Survival) -> Table:
    """One row per kind."""
    rows = [
        [
            Cell(found.kind),
            Cell(f"{found.tokens:,}", found.tokens),
            Cell(f"{found.functions:,}", found.functions),
            Cell("100.0", 100.0)
            if found is survival.all
            else _between(found.share, found.share_interval),
            _between(found.surviving, found.surviving_interval),
            Cell(against_all(found, survival)),
        ]
        for found in survival.every
    ]
    columns = [
        Column("kind", numeric=False),
        Column("tokens"),
        Column("functions"),
        Column("share of tokens", "%"),
        Column("surviving", "%"),
        Column("more often than all?", numeric=False),
    ]
    return Table("kinds", "Which kinds of token survive", columns, rows, notes(survival))


def curve_table(survival: Survival) -> Table:
    """Per kind, the share of its tokens that is left after each layer that prunes."""
    after = [layer + 1 for layer in survival.pruned_layers]
    columns = [Column("kind", numeric=False)]
    columns += [Column(f"layer {at - 1}") for at in after]
    rows = [
        [
            Cell(found.kind),
            *(Cell(percent(found.by_layer[at]), 100 * found.by_layer[at]) for at in after),
        ]
        for found in survival.every
    ]
    title = "Tokens of each kind left after each layer that prunes, %"
    return Table("kinds-by-layer", title, columns, rows)


def finding(survival: Survival) -> str:
    """The finding as one sentence, with its numbers."""
    whole = survival.all
    text = (
        f"Of {whole.tokens:,} tokens in {survival.functions:,} functions"
        f" {_with_interval(whole)} stay to the end"
    )
    more = [one for one in survival.kinds if against_all(one, survival) == "more"]
    less = [one for one in survival.kinds if against_all(one, survival) == "less"]
    for word, kinds in (("more", more), ("less", less)):
        if kinds:
            kinds = sorted(kinds, key=lambda one: one.surviving, reverse=word == "more")
            named = "; ".join(f"{one.kind}, {_with_interval(one)}" for one in kinds)
            text += f". {word.capitalize()} often: {named}"
    if not more and not less:
        text += ". No kind is shown to survive more or less often than the rest"
    return text + "."


def _with_interval(found: KindSurvival) -> str:
    interval = found.surviving_interval
    text = f"{percent(found.surviving)} %"
    if interval is None:
        return text
    return f"{text} (95 % CI {percent(interval.low)}–{percent(interval.high)})"


def notes(survival: Survival) -> list[str]:
    """How the numbers were taken."""
    interval = survival.all.surviving_interval
    method = interval.method.replace(", paired", "") if interval else "none, fewer than 5 functions"
    told = [
        "In brackets: 95 % confidence intervals over functions, which are resampled whole"
        f" ({method}; for a kind, over the functions that hold it).",
        "more, less: the interval lies wholly above or below that of all tokens, a cautious"
        " criterion; undecided: they overlap.",
        "A token is of the kind that most of its characters have, and nodes of the data flow are a"
        " kind of their own; special and merged tokens are"
        f" not counted. Kinds by Pygments, {survival.language} ({survival.language_reason}).",
    ]
    if survival.cut:
        told.append(
            f"{survival.cut:,} of {survival.functions:,} functions are longer than the model reads;"
            " only what it reads is counted."
        )
    return told


def survival_record(survival: Survival) -> dict[str, Any]:
    """Plain values, for --json. Shares are between 0 and 1."""
    return {
        "about": survival.about,
        "finding": finding(survival),
        "language": survival.language,
        "language_reason": survival.language_reason,
        "functions": survival.functions,
        "functions_cut": survival.cut,
        "pruned_layers": list(survival.pruned_layers),
        "kinds": [
            {
                "kind": found.kind,
                "tokens": found.tokens,
                "functions": found.functions,
                "share": found.share,
                "share_interval": found.share_interval,
                "surviving": found.surviving,
                "surviving_interval": found.surviving_interval,
                "than_all_tokens": against_all(found, survival) or None,
                "entering_layer": list(found.by_layer),
            }
            for found in survival.every
        ],
        "notes": notes(survival),
    }
