"""Tables A and B of the paper: scores of every strategy with what they cost."""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.report.paper_cells import (
    figure_cell,
    printed,
    printed_value,
    source_notes,
    sources,
    times,
)
from alpine_cli.report.paper_differences import Marks, cost_differences, run_differences
from alpine_cli.report.paper_runs import PAPER_ALPHA, Run, choose
from alpine_cli.report.published import MODELS, PublishedCell, load_table
from alpine_cli.report.tables import Cell, Column, Table

__all__ = ["SCORES", "SHARE", "fits", "main_table"]

SCORES = {"defect-detection": "accuracy", "clone-detection": "f1"}
"""The metric the paper reports for each task, as our figures call it."""

_STRATEGIES = ("none", "all", "even", "odd")
_BENCH_LIKE = ("bench", "flops", "throughput", "accuracy", "memory", "energy")
_GIGA = 1e9
SHARE = 0.01
"""Scores are shown in per cent."""


def main_table(letter: str, runs: Sequence[Run]) -> Table | None:
    """Table A or B: score, multiply-adds and throughput of every strategy; None without ours.

    The published rows come first, each with ours beside it; below them our runs that have no cell
    in the paper (other models, other α), settings of sweeps left out.
    """
    published = load_table(letter)
    task = published.cells[0].task
    assert task is not None
    ours = [run for run in runs if run.task == task and _has_any(run)]
    if not ours:
        return None
    marks = Marks()
    rows: list[list[Cell]] = []
    placed: list[Run] = []
    for model in MODELS:
        for layers in _STRATEGIES:
            fitting = [run for run in ours if fits(run, model, layers)]
            placed += fitting
            cell = published.cell(layers, task=task, model=model)
            rows.append(_row(model, layers, task, cell, fitting, marks))
            if layers == "none":
                engine = [run for run in ours if _is_unpruned(run, model)]
                placed += engine
                for setting in dict.fromkeys(run.setting for run in engine):
                    same = [run for run in engine if run.setting == setting]
                    rows.append(_row(model, setting, task, None, same, marks))
    rest = [r for r in ours if not any(r is run for run in placed)]
    swept = [run for run in rest if run.result.kind not in _BENCH_LIKE]
    rest = [run for run in rest if run.result.kind in _BENCH_LIKE]
    for model, setting in dict.fromkeys((run.model, run.setting) for run in rest):
        same = [run for run in rest if (run.model, run.setting) == (model, setting)]
        rows.append(_row(model, setting, task, None, same, marks))
    unit = published.quantities["throughput"].unit
    score = published.quantities["score"].title
    notes = [
        "Ours: none is transformers as it ships, padded (stock); none with an engine's name is that"
        " engine without pruning. Factors of pruned rows are against the latter where it was"
        " measured, so they hold the gain of pruning alone; [low, high] are 95 % confidence"
        " intervals. Published factors of the multiply-adds are as printed, those of the"
        f" {unit} are computed from the column.",
        *marks.notes(),
        *source_notes(published),
    ]
    if swept:
        notes.append(
            f"Left out: {len(swept)} setting(s) of sweeps that have no cell in the paper; their own"
            " tables show them."
        )
    return Table(
        key=f"table-{letter.lower()}",
        title=f"{published.title}: the paper's table {letter} and our figures",
        columns=[
            Column("model", numeric=False),
            Column("layers", numeric=False),
            Column(f"{score}, published", "%"),
            Column(f"{score}, ours", "%"),
            Column("multiply-adds (× fewer), published", "GMACs"),
            Column("multiply-adds (× fewer), ours", "GMACs"),
            Column("throughput (× faster), published", unit),
            Column("throughput (× faster), ours", unit),
            Column("our results", numeric=False),
            Column("see notes", numeric=False),
        ],
        rows=rows,
        notes=notes,
    )


def _has_any(run: Run) -> bool:
    names = (SCORES[run.task], "total_macs", "throughput")
    return any(run.figure(name) is not None for name in names)


def _is_unpruned(run: Run, model: str) -> bool:
    return run.in_paper and run.model == model and not run.prunes and not run.is_stock


def fits(run: Run, model: str, layers: str) -> bool:
    """Whether a run stands for the published cell of that model and strategy."""
    if not run.in_paper or run.model != model or run.layers != layers:
        return False
    if layers == "none":
        return run.is_stock
    if run.engine == "reference":  # the published algorithm's own engine has rows of its own
        return False
    return run.alpha == PAPER_ALPHA and run.merge == "mean"


def _row(
    model: str,
    layers: str,
    task: str,
    cell: PublishedCell | None,
    fitting: list[Run],
    marks: Marks,
) -> list[Cell]:
    metric = SCORES[task]
    chosen = {
        quantity: (choose(fitting, name), fitting)
        for quantity, name in (("score", metric), ("macs", "total_macs"), ("speed", "throughput"))
    }
    score, macs, speed = (chosen[quantity][0] for quantity in ("score", "macs", "speed"))
    differences: list[str] = []
    if cell is not None:
        for run in (score, macs):
            if run is not None:
                differences += run_differences(run)
        differences += cost_differences(macs, speed)
    return [
        Cell(model),
        Cell(layers),
        printed(cell, "score", 2),
        figure_cell(score, fitting, metric, SHARE),
        _published_macs(cell),
        figure_cell(macs, fitting, "total_macs", _GIGA, factor=True),
        _published_speed(cell),
        figure_cell(speed, fitting, "throughput", factor=True),
        sources(chosen) if fitting else Cell(""),
        Cell(marks.of(differences)),
    ]


def _published_macs(cell: PublishedCell | None) -> Cell:
    found = printed(cell, "macs")
    if cell is None or "reduction" not in cell.values:
        return found
    notes = [cell.notes[name] for name in ("macs", "reduction") if name in cell.notes]
    text = f"{found.text} ({times(cell.values['reduction'])})"
    assert found.value is not None
    return printed_value(text, found.value, "; ".join(notes) or None)


def _published_speed(cell: PublishedCell | None) -> Cell:
    found = printed(cell, "throughput", 2)
    if cell is None or cell.layers == "none" or found.value is None:
        return found
    table = load_table("A" if cell.task == "defect-detection" else "B")
    none = table.value("throughput", "none", task=cell.task, model=cell.model)
    return printed_value(f"{found.text} ({times(found.value / none)})", found.value)
