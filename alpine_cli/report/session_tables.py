"""The results of one session as it ends: a row per cell, and a row per setting over its seeds.

Narrow on purpose, for a terminal: the ratios of the headline figures, what all cells share in the
title, and a star instead of a word for the verdict. `overview` and `seed_tables` tell the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from alpine_cli.report.aggregate import SeedGroup, group_seeds, is_metric, pool_comparison
from alpine_cli.report.batches import batches_of
from alpine_cli.report.findings import points_text, ratio_text
from alpine_cli.report.setting import describe_pruning
from alpine_cli.report.tables import Cell, Column, Style, Table
from alpine_cli.results import Interval, Result, Verdict

__all__ = ["cell_labels", "cells_table", "seeds_table", "session_tables"]

# Of several figures for one column, the first that a result compares.
_QUESTIONS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "multiply-adds": ("total_macs",),
    "throughput": ("throughput",),
    "memory": ("inference_memory_cuda_run", "inference_memory_run"),
    "energy": ("energy_gross",),
}
_STAR = "*: the 95 % interval, in brackets, excludes no change"
_AXES: dict[str, Callable[[Result], str]] = {
    "checkpoint": lambda result: str(result.settings.get("checkpoint", "")),
    "batch": lambda result: str(batches_of(result.settings) or ""),
    "device": lambda result: str(result.settings.get("device", "")),
}


def session_tables(results: Sequence[Result], *, narrow: bool = False) -> list[Table]:
    """The table of cells and, where seeds repeat a setting, the table over seeds.

    `narrow` leaves the memory out, so that both fit 80 columns.
    """
    questions = {name: names for name, names in _QUESTIONS.items() if name != "memory"}
    asked = questions if narrow else _QUESTIONS
    seeds = seeds_table(results, asked)
    return [cells_table(results, asked), *([] if seeds is None else [seeds])]


def cell_labels(results: Sequence[Result]) -> list[str]:
    """What tells each result from the others: "batch 1", "a/ckpt.pt, cpu"; "" for a single one."""
    shown = {name: of for name, of in _AXES.items() if len(set(map(of, results))) > 1}
    return [
        ", ".join(f"batch {of(one)}" if name == "batch" else of(one) for name, of in shown.items())
        for one in results
    ]


Questions = Mapping[str, Sequence[str]]


def cells_table(results: Sequence[Result], questions: Questions = _QUESTIONS) -> Table:
    """Pruned against unpruned, a row per result; what all share goes into the title."""
    shown = {name: of for name, of in _AXES.items() if len(set(map(of, results))) > 1}
    same = [f"{name} {of(results[0])}" for name, of in _AXES.items() if name not in shown]
    rows = [
        [
            *(Cell(of(result)) for of in shown.values()),
            *(_cell(result, names) for names in questions.values()),
        ]
        for result in results
    ]
    modelled = any(
        figure.name == "energy_gross" and figure.provenance == "modelled"
        for result in results
        for figure in result.figures
    )
    notes = [f"accuracy: difference in points; all else: ratio pruned / unpruned. {_STAR}"]
    if modelled:
        notes.append("energy is modelled, not measured: it shows no saving beyond time")
    return Table(
        key="cells",
        title=_titled("Pruned against unpruned, by cell", same),
        columns=[*(Column(name, numeric=name == "batch") for name in shown), *_columns(questions)],
        rows=rows,
        notes=notes,
    )


def seeds_table(results: Sequence[Result], questions: Questions = _QUESTIONS) -> Table | None:
    """The same over fine-tuning seeds, a row per setting; None where no setting has two seeds."""
    groups, remarks = group_seeds(results)
    if not groups:
        return None
    every: dict[str, Callable[[SeedGroup], str]] = {
        "pruning": lambda group: describe_pruning(group.first),
        "batch": lambda group: group.setting.batch_size,
        "device": lambda group: group.setting.device,
        "seeds": lambda group: ", ".join(map(str, group.by_seed)),
    }
    shown = {name: of for name, of in every.items() if len(set(map(of, groups))) > 1}
    same = [f"{name} {of(groups[0])}" for name, of in every.items() if name not in shown]
    rows = [
        [
            *(Cell(of(group)) for of in shown.values()),
            *(_pooled(group, figures) for figures in questions.values()),
        ]
        for group in groups
    ]
    return Table(
        key="seeds",
        title=_titled("The same over fine-tuning seeds", same),
        columns=[*(Column(name, numeric=name == "batch") for name in shown), *_columns(questions)],
        rows=rows,
        notes=[f"mean over seeds (of ratios: geometric), t interval over seeds. {_STAR}", *remarks],
    )


def _titled(title: str, same: Sequence[str]) -> str:
    return f"{title} ({'; '.join(same)})" if same else title


def _columns(questions: Questions) -> list[Column]:
    return [Column(title, "points" if title == "accuracy" else "ratio") for title in questions]


def _cell(result: Result, names: Sequence[str]) -> Cell:
    for name in names:
        found = result.comparison(name)
        if found is None:
            continue
        if is_metric(name) and found.difference is not None:
            return _marked(True, found.difference, found.difference_interval, found.verdict)
        if found.ratio is not None:
            return _marked(False, found.ratio, found.interval, found.verdict)
    return Cell("n/a", style="absent")


def _pooled(group: SeedGroup, names: Sequence[str]) -> Cell:
    for name in names:
        found = pool_comparison(group, name)
        if found.value is not None:
            return _marked(is_metric(name), found.value, found.interval, found.verdict)
    return Cell("n/a", style="absent")


def _marked(metric: bool, value: float, interval: Interval | None, verdict: Verdict) -> Cell:
    """A difference of shares or a ratio, its verdict told by a star as well as by colour."""
    text = points_text(value, interval, "share") if metric else ratio_text(value, interval)
    style: Style = ""
    if verdict in ("better", "worse"):
        style = "better" if verdict == "better" else "worse"
        text = text.replace(" [", "* [") if interval else text
    scale = 100 if metric else 1
    return Cell(
        text.replace(" pts", ""),
        value=scale * value,
        low=None if interval is None else scale * interval.low,
        high=None if interval is None else scale * interval.high,
        style=style,
    )
