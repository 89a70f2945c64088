"""All results at a glance: a row per result, then what is missing, then the same over batch sizes.

Nothing is averaged here (`seed_tables` does that); every number is one that a result's own table
shows, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from alpine_cli.report.aggregate import is_metric
from alpine_cli.report.batches import Batches, batches_of
from alpine_cli.report.cell_text import BRACKETS
from alpine_cli.report.findings import points_text, ratio_text, style_of
from alpine_cli.report.setting import (
    Setting,
    describe_pruning,
    setting_of,
    training_seed_of,
    unusual_precision,
)
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Comparison, Result

__all__ = ["COLUMNS", "batch_size_tables", "coverage_table", "overview_table"]

# Title of a column and the figures it may show; the first that a result compares is taken, and
# the two kinds of memory never stand in one row.
COLUMNS: dict[str, tuple[str, ...]] = {
    "accuracy": ("accuracy",),
    "multiply-adds": ("total_macs",),
    "throughput": ("throughput",),
    "latency": ("latency",),
    "memory": ("inference_memory_cuda_run", "inference_memory_run"),
    "energy": ("energy_gross",),
}


def overview_table(results: Iterable[Result]) -> Table | None:
    """A row per result that compares pruned with unpruned; None where none does."""
    compared = [result for result in results if _compares(result)]
    if not compared:
        return None
    # What all results share is said once, below.
    axes = {name: of for name, of in _AXES.items() if len(set(map(of, compared))) > 1}
    shared = [of(compared[0]) for name, of in _AXES.items() if name not in axes]
    columns = [Column(name, numeric=False) for name in ("model", "task", "pruning", *axes)]
    columns += [Column("result", numeric=False), *[Column(title) for title in COLUMNS]]
    rows = []
    for result in compared:
        subject = result.subject
        row = [Cell(subject.model), Cell(subject.task), Cell(describe_pruning(result))]
        row += [Cell(of(result)) for of in axes.values()]
        row += [Cell(result.id), *[change_cell(result, title) for title in COLUMNS]]
        rows.append(row)
    told = ", ".join(word for word in shared if word)
    notes = [f"All with {told}."] if told else []
    notes += [
        "Pruned against unpruned on the same engine: accuracy as a difference in points, all else"
        f" as the ratio pruned / unpruned. {BRACKETS}",
        "Better and worse: the interval excludes “no change”. No difference shown: it does not."
        " Not judged: runs were too few for an interval, or the figure is modelled.",
    ]
    return Table("overview", "All results at a glance", columns, rows, notes)


def _compares(result: Result) -> bool:
    return any((c.variant, c.baseline) == ("pruned", "unpruned") for c in result.comparisons)


def _batch(result: Result) -> str:
    batches = batches_of(result.settings)
    return "" if batches is None else f"batch {batches}"


def _seed(result: Result) -> str:
    seed = training_seed_of(result)
    return "" if seed is None else f"seed {seed}"


def _machine(result: Result) -> str:
    gpus, device = result.environment.gpus, str(result.settings.get("device", ""))
    name = gpus[0].name if gpus and device.startswith("cuda") else result.environment.cpu_model
    return f"{device} ({name})" if device else name


def _precision(result: Result) -> str:
    return ", ".join(unusual_precision(result))


_AXES: dict[str, Callable[[Result], str]] = {
    "batch": _batch,
    "precision": _precision,
    "seed": _seed,
    "device": _machine,
}


def change_cell(result: Result, title: str) -> Cell:
    """What pruning changed in the figure of an overview column, with interval and verdict."""
    for name in COLUMNS[title]:
        found = result.comparison(name, "pruned", "unpruned")
        if found is not None and (found.ratio is not None or found.difference is not None):
            figure = result.figure(name, "pruned")
            modelled = figure is not None and figure.provenance == "modelled"
            return _told(found, "modelled" if modelled else "", figure.unit if figure else "1")
    for name in COLUMNS[title]:
        figure = result.figure(name, "pruned")
        if figure is not None and figure.reason is not None:
            return Cell("n/a", note=figure.reason, style="absent")
    return Cell("–", note="not part of this result", style="absent")


def _told(found: Comparison, remark: str, unit: str) -> Cell:
    if is_metric(found.figure) and found.difference is not None:
        value, interval = found.difference, found.difference_interval
        text = points_text(value, interval, unit)
        factor = 100 if unit == "share" else 1
    else:
        assert found.ratio is not None
        value, interval, factor = found.ratio, found.interval, 1
        text = ratio_text(value, interval)
    words = f"{found.verdict}, {remark}" if remark else found.verdict
    return Cell(
        f"{text} {words}",
        value * factor,
        None if interval is None else interval.low * factor,
        None if interval is None else interval.high * factor,
        found.reason,
        style_of(found),
    )


def coverage_table(results: Sequence[Result]) -> Table | None:
    """How many results each model and task has per pruning; None where nothing is missing."""
    compared = [result for result in results if _compares(result)]
    prunings = sorted({describe_pruning(result) for result in compared})
    subjects = sorted({(result.subject.model, result.subject.task) for result in compared})
    models = sorted({model for model, _ in subjects})
    tasks = sorted({task for _, task in subjects})
    columns = [Column(name, numeric=False) for name in ("model", "task")]
    columns += [Column(pruning, "results") for pruning in prunings]
    rows = []
    for model, task in ((model, task) for model in models for task in tasks):
        row = [Cell(model), Cell(task)]
        for pruning in prunings:
            count = sum(
                (r.subject.model, r.subject.task, describe_pruning(r)) == (model, task, pruning)
                for r in compared
            )
            row.append(Cell(str(count), count) if count else Cell("missing", style="absent"))
        rows.append(row)
    missing = sum(cell.style == "absent" for row in rows for cell in row)
    # A few unrelated results are no grid with holes.
    if missing == 0 or 2 * missing > len(rows) * len(prunings):
        return None
    notes = ["Missing: no result in the files of this report; nothing stands in for it."]
    return Table("coverage", "Which cells have results", columns, rows, notes)


def batch_size_tables(results: Iterable[Result]) -> list[Table]:
    """One table per setting that was measured at several batch sizes, smallest first."""
    families: dict[tuple[Setting, str], list[tuple[Batches, Result]]] = {}
    for result in results:
        size = batches_of(result.settings)
        if not _compares(result) or size is None:
            continue
        sha = result.variants["pruned"].checkpoint_sha256
        setting = replace(setting_of(result), batch_size="any")
        families.setdefault((setting, sha), []).append((size, result))
    tables = []
    for (setting, _), members in families.items():
        if len({size for size, _ in members}) < 2:
            continue
        members.sort(key=lambda member: (member[0], member[1].created))
        columns = [Column("batch"), Column("result", numeric=False)]
        columns += [Column(f"{name}, throughput", "samples/s") for name in ("unpruned", "pruned")]
        columns += [Column(title) for title in COLUMNS]
        rows = [
            [
                Cell(str(size), size.samples or size.tokens),
                Cell(result.id),
                *[_rate(result, variant) for variant in ("unpruned", "pruned")],
                *[change_cell(result, title) for title in COLUMNS],
            ]
            for size, result in members
        ]
        first = members[0][1]
        title = f"Across batch sizes: {setting.model}, {setting.task}, {describe_pruning(first)}"
        notes = [f"On {setting.device}, {setting.machine}."]
        tables.append(Table(f"batch-sizes-{first.id}", title, columns, rows, notes))
    return tables


def _rate(result: Result, variant: str) -> Cell:
    figure = result.figure("throughput", variant)
    if figure is None:
        return Cell("–", note="not part of this result", style="absent")
    if figure.value is None:
        return Cell("n/a", note=figure.reason, style="absent")
    interval = figure.interval
    return Cell(
        f"{figure.value:.4g}",
        figure.value,
        interval.low if interval else None,
        interval.high if interval else None,
    )
