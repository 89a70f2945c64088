"""Table F of the paper: what it is worth to merge the removed tokens instead of dropping them."""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.report.paper_cells import (
    NOT_MEASURED,
    NOT_PUBLISHED,
    figure_cell,
    printed,
    printed_value,
    source_notes,
    sources,
)
from alpine_cli.report.paper_differences import Marks, run_differences
from alpine_cli.report.paper_runs import PAPER_ALPHA, Run, choose
from alpine_cli.report.paper_scores import SCORES, SHARE
from alpine_cli.report.published import PublishedCell, load_table
from alpine_cli.report.tables import Cell, Column, Table

__all__ = ["merge_table"]


def merge_table(runs: Sequence[Run]) -> Table | None:
    """Table F: score with and without the merged token; None without a run that drops tokens."""
    dropping = [r for r in runs if r.task in SCORES and r.merge == "none" and r.prunes]
    dropping = [run for run in dropping if run.value(SCORES[run.task]) is not None]
    if not dropping:
        return None
    published = load_table("F")
    marks = Marks()
    rows: list[list[Cell]] = []
    placed: list[Run] = []
    for cell in published.cells:
        if cell.merge != "mean":
            continue
        assert cell.model is not None
        fitting = [
            run
            for run in dropping
            if run.in_paper
            and (run.task, run.model, run.layers) == (cell.task, cell.model, cell.layers)
            and run.alpha == PAPER_ALPHA
        ]
        placed += fitting
        without = published.cell(cell.layers, task=cell.task, model=cell.model, merge="none")
        rows.append(_merge_row(cell, without, fitting, runs, marks))
    rest = [run for run in dropping if not any(run is other for other in placed)]
    for key in dict.fromkeys((run.task, run.model, run.setting, run.protect) for run in rest):
        same = [r for r in rest if (r.task, r.model, r.setting, r.protect) == key]
        rows.append(_merge_row(None, None, same, runs, marks))
    return Table(
        key="table-f",
        title=f"{published.title}: the paper's table F and our figures",
        columns=[
            Column("task", numeric=False),
            Column("model", numeric=False),
            Column("layers", numeric=False),
            Column("merged, published", "%"),
            Column("dropped, published", "%"),
            Column("gain of merging, published", "points"),
            Column("merged, ours", "%"),
            Column("dropped, ours", "%"),
            Column("gain of merging, ours", "points"),
            Column("our results", numeric=False),
            Column("see notes", numeric=False),
        ],
        rows=rows,
        notes=[
            "Scores: accuracy for defect detection, F1 for clone detection. Ours are set against"
            " each other only where both ran on the same samples with the same layers and α.",
            *marks.notes(),
            *source_notes(published),
        ],
    )


def _merge_row(
    merged: PublishedCell | None,
    dropped: PublishedCell | None,
    fitting: list[Run],
    runs: Sequence[Run],
    marks: Marks,
) -> list[Cell]:
    """A row of table F: the published pair, or none, and the best pair of ours."""
    metric = SCORES[(merged.task if merged is not None else None) or fitting[0].task]
    without = choose(fitting, metric)
    partners = [] if without is None else [run for run in runs if _is_partner(run, without)]
    with_merge = _partner(partners, without, metric)
    differences: list[str] = []
    if merged is not None and without is not None:
        differences += run_differences(without)
    if (
        without is not None
        and with_merge is not None
        and _checkpoint(without) == _checkpoint(with_merge)
    ):
        differences.append(
            "Ours: merging was switched on and off on the same weights; whether the published pair"
            " was fine-tuned apart is not told"
        )
    if merged is not None and dropped is not None:
        gain = merged.values["score"] - dropped.values["score"]
        published_gain = printed_value(f"{gain:+.2f}", gain, merged.notes.get("score"))
        names: list[str] = [merged.task or "", merged.model or "", merged.layers]
    else:
        published_gain = NOT_PUBLISHED
        words = [word for word in fitting[0].setting.split(", ") if word != "dropped"]
        names = [fitting[0].task, fitting[0].model, ", ".join(words)]
    return [
        *[Cell(name) for name in names],
        printed(merged, "score", 2),
        printed(dropped, "score", 2),
        published_gain,
        figure_cell(with_merge, partners, metric, SHARE),
        figure_cell(without, fitting, metric, SHARE),
        _gain_cell(with_merge, without, metric),
        sources({"merged": (with_merge, partners), "dropped": (without, fitting)}),
        Cell(marks.of(differences)),
    ]


def _checkpoint(run: Run) -> str:
    return run.result.variants[run.variant].checkpoint_sha256


def _is_partner(run: Run, without: Run) -> bool:
    """Whether a run differs from one without merging in nothing but merging (and the weights)."""
    return (
        run.merge == "mean"
        and run.prunes
        and run.result.subject.data_sha256 == without.result.subject.data_sha256
        and (run.task, run.model, run.layers, run.alpha, run.protect)
        == (without.task, without.model, without.layers, without.alpha, without.protect)
    )


def _partner(partners: list[Run], without: Run | None, metric: str) -> Run | None:
    """The run with merging: of the same result or the same weights before any other."""
    if without is None:
        return None
    for nearer in (
        [run for run in partners if run.result.id == without.result.id],
        [run for run in partners if _checkpoint(run) == _checkpoint(without)],
        partners,
    ):
        found = choose(nearer, metric)
        if found is not None:
            return found
    return None


def _gain_cell(merged: Run | None, dropped: Run | None, metric: str) -> Cell:
    if merged is None or dropped is None:
        return NOT_MEASURED
    ours, without = merged.value(metric), dropped.value(metric)
    assert ours is not None
    assert without is not None
    gain = 100 * (ours - without)
    text = f"{gain:+.2f}"
    if merged.result.id == dropped.result.id:
        found = merged.result.comparison(metric, merged.variant, dropped.variant)
        if found is not None and found.difference_interval is not None:
            low = 100 * found.difference_interval.low
            high = 100 * found.difference_interval.high
            return Cell(f"{text} [{low:+.2f}, {high:+.2f}]", gain, low, high)
    return Cell(text, gain)
