"""Table G of the paper: how long sequences are when they enter each layer."""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.report.paper_cells import NOT_MEASURED, source_notes
from alpine_cli.report.paper_differences import Marks, length_differences, run_differences
from alpine_cli.report.paper_runs import Run
from alpine_cli.report.paper_scores import fits
from alpine_cli.report.published import load_table
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Series

__all__ = ["length_table"]

_PAPER_LAYERS = 12


def length_table(runs: Sequence[Run]) -> Table | None:
    """Table G: a published row, ours under it; None without curves of ours.

    Column k is the mean length entering layer k. A curve of ours with fewer layers leaves cells
    empty; what leaves the last layer is shown in no column, as the paper has no such figure.
    """
    ours = [run for run in runs if _curve(run) is not None]
    if not ours:
        return None
    published = load_table("G")
    depth = max(_PAPER_LAYERS, *[len(_curve_of(run).x) - 1 for run in ours])
    marks = Marks()
    rows: list[list[Cell]] = []
    placed: list[Run] = []
    tasks = {run.task for run in ours}
    left_out = {cell.task for cell in published.cells if cell.task not in tasks}
    for cell in published.cells:
        if cell.task in left_out:
            continue
        assert cell.task is not None
        assert cell.model is not None
        assert cell.curve is not None
        fitting = [
            run
            for run in ours
            if run.task == cell.task
            and (fits(run, cell.model, cell.layers) or _flat(run, cell.model, cell.layers))
        ]
        placed += fitting
        chosen = _nearest(fitting)
        names = (cell.task, cell.model, cell.layers)
        rows.append(
            [
                *[Cell(text) for text in (*names, "published")],
                *_lengths(cell.curve, depth, published=True),
                NOT_MEASURED if chosen is None else Cell("ours below"),
            ]
        )
        if chosen is not None:
            differences = [*length_differences(chosen), *run_differences(chosen)]
            mark = Cell(marks.of(differences))
            rows.append([*[Cell(text) for text in names], *_ours(chosen, depth), mark])
    rest = [run for run in ours if not any(run is other for other in placed)]
    rest = [run for run in rest if run.result.kind not in ("sweep", "tune")]
    for key in dict.fromkeys((run.task, run.model, _strategy(run)) for run in rest):
        chosen = _nearest([r for r in rest if (r.task, r.model, _strategy(r)) == key])
        assert chosen is not None
        rows.append([*[Cell(text) for text in key], *_ours(chosen, depth), Cell("")])
    return Table(
        key="table-g",
        title=f"{published.title}: the paper's table G and our figures",
        columns=[
            Column("task", numeric=False),
            Column("model", numeric=False),
            Column("layers", numeric=False),
            Column("whose", numeric=False),
            *[Column(f"{layer}", "tokens") for layer in range(depth)],
            Column("see notes", numeric=False),
        ],
        rows=rows,
        notes=[
            *marks.notes(),
            *[
                f"No curve of ours for {task}: the published ones are left out."
                for task in left_out
            ],
            *source_notes(published),
        ],
    )


def _curve(run: Run) -> Series | None:
    for series in run.result.series:
        if (series.name, series.variant) == ("mean_length", run.variant):
            return series
    return None


def _curve_of(run: Run) -> Series:
    series = _curve(run)
    assert series is not None
    return series


def _flat(run: Run, model: str, layers: str) -> bool:
    """An engine that prunes nothing runs at the lengths of stock: either shows "none"."""
    return layers == "none" and run.in_paper and run.model == model and not run.prunes


def _strategy(run: Run) -> str:
    return run.setting if run.prunes else "none"


def _nearest(runs: Sequence[Run]) -> Run | None:
    if not runs:
        return None
    return max(
        runs,
        key=lambda run: (
            run.result.subject.split == "test",
            run.result.subject.samples,
            run.protect == "ends",
            run.result.created,
        ),
    )


def _ours(run: Run, depth: int) -> list[Cell]:
    curve = _curve_of(run)
    return [Cell(f"ours, {run.result.id}"), *_lengths(curve.y[: len(curve.x) - 1], depth)]


def _lengths(lengths: Sequence[float | None], depth: int, *, published: bool = False) -> list[Cell]:
    cells = [
        Cell("" if y is None else f"{y:.1f}", y, style="published" if published else "")
        for y in lengths
    ]
    return [*cells, *[Cell("")] * (depth - len(cells))]
