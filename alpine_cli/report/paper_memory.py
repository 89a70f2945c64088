"""Table C of the paper: memory of inference, and what pruning cuts of it."""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.report.batches import batches_of
from alpine_cli.report.paper_cells import (
    NOT_MEASURED,
    cut,
    figure_cell,
    printed,
    published_cut,
    source_notes,
    sources,
)
from alpine_cli.report.paper_differences import Marks, run_differences
from alpine_cli.report.paper_runs import Run, choose
from alpine_cli.report.paper_scores import fits
from alpine_cli.report.published import PublishedCell, load_table
from alpine_cli.report.tables import Cell, Column, Table

__all__ = ["memory_table"]

_MEMORY = ("inference_memory_cuda_run", "inference_memory_run")
_MEGA = 1e6
_TASKS = ("defect-detection", "clone-detection")


def memory_table(runs: Sequence[Run]) -> Table | None:
    """Table C: memory of none and pruned, and the cut; None without ours."""
    ours = [run for run in runs if run.task in _TASKS and _memory_name(run) is not None]
    if not ours:
        return None
    published = load_table("C")
    marks = Marks()
    rows: list[list[Cell]] = []
    placed: list[Run] = []
    for cell in published.cells:
        if cell.layers == "none":
            continue
        assert cell.model is not None
        fitting = [r for r in ours if r.task == cell.task and fits(r, cell.model, cell.layers)]
        placed += fitting
        none = published.cell("none", task=cell.task, model=cell.model)
        rows.append(_memory_row(cell, none, fitting, marks))
    rest = [r for r in ours if r.prunes and not any(r is run for run in placed)]
    rest = [run for run in rest if run.result.kind in ("bench", "memory")]
    for key in dict.fromkeys((run.task, run.model, run.setting, run.on_gpu) for run in rest):
        same = [r for r in rest if (r.task, r.model, r.setting, r.on_gpu) == key]
        rows.append(_memory_row(None, None, same, marks))
    return Table(
        key="table-c",
        title=f"{published.title} of inference: the paper's table C and our figures",
        columns=[
            Column("task", numeric=False),
            Column("model", numeric=False),
            Column("layers", numeric=False),
            Column("none, published", "MB"),
            Column("pruned, published", "MB"),
            Column("cut, published", "%"),
            Column("stock, ours", "MB"),
            Column("none in the same engine, ours", "MB"),
            Column("pruned, ours", "MB"),
            Column("cut, ours", "%"),
            Column("our results", numeric=False),
            Column("see notes", numeric=False),
        ],
        rows=rows,
        notes=[
            "1 MB is 1,000,000 bytes. Our cut is pruned against the same engine without pruning."
            " Published cuts are computed from the columns.",
            *marks.notes(),
            *source_notes(published),
        ],
    )


def _memory_name(run: Run) -> str | None:
    """The figure that shows a run's memory: on the GPU where it ran there."""
    return next((name for name in _MEMORY if run.figure(name) is not None), None)


def _memory_row(
    cell: PublishedCell | None, none: PublishedCell | None, fitting: list[Run], marks: Marks
) -> list[Cell]:
    gpu = [run for run in fitting if _memory_name(run) == _MEMORY[0]]
    fitting = gpu or fitting  # the paper's is GPU memory; a CPU's stands in only for want of one
    name = (gpu and _MEMORY[0]) or _MEMORY[1]
    run = choose(fitting, name)
    differences: list[str] = []
    if run is not None:
        where = "GPU" if gpu else "CPU"
        differences.append(
            f"Memory: ours is the peak of inference without the weights on the {where}"
            f" ({run.machine}, batch size {batches_of(run.result.settings) or '?'}); how the"
            " published one was measured is not told"
        )
        if cell is not None:
            differences += run_differences(run)
    unpruned = None if run is None else run.unpruned
    unpruned = unpruned if unpruned is None or not unpruned.is_stock else None
    stock = None if run is None else _stock_of(run)
    if cell is not None:
        names = [cell.task or "", cell.model or "", str(cell.layers)]
    else:
        names = [fitting[0].task, fitting[0].model, fitting[0].setting]
    return [
        *[Cell(text) for text in names],
        printed(none, "memory"),
        printed(cell, "memory"),
        published_cut(none, cell, "memory"),
        _other(stock, name),
        _other(unpruned, name),
        figure_cell(run, fitting, name, _MEGA),
        cut(run, name),
        sources({"memory": (run, fitting)}),
        Cell(marks.of(differences)),
    ]


def _stock_of(run: Run) -> Run | None:
    for name in run.result.variants:
        other = Run(run.result, name, run.seeds)
        if other.is_stock:
            return other
    return None


def _other(run: Run | None, name: str) -> Cell:
    return (
        NOT_MEASURED
        if run is None
        else figure_cell(run if run.value(name) is not None else None, [run], name, _MEGA)
    )
