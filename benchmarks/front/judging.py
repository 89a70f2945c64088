"""Settings of one or several sweeps, set against unpruned and against truncation of equal cost."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alpine_cli.measure.grid import TRUNCATE
from alpine_cli.measure.pareto import pareto_front
from alpine_cli.report.front import BASELINE, front_points
from alpine_cli.results import Comparison, Result
from benchmarks.paired import Change, paired

Measured = tuple[float, float, float]


@dataclass(frozen=True)
class Row:
    """One setting, averaged over checkpoints.

    Attributes:
        setting: its name.
        series: its rule, score and merge.
        share: of the multiply-adds of unpruned.
        macs: per sample.
        accuracy: mean over checkpoints.
        accuracies: of each checkpoint.
        f1: mean over checkpoints.
        unpruned: against unpruned; None for unpruned itself.
        rival: truncation of equal cost; None where none is as dear.
        truncation: against that.
        throughput, energy: over that of unpruned, (value, low, high); None where it was not
            measured.
        energy_is: "measured" or "modelled".
        on_front: whether no other setting is both cheaper and better.
    """

    setting: str
    series: str
    share: float
    macs: float
    accuracy: float
    accuracies: list[float]
    f1: float
    unpruned: Change | None
    rival: str | None
    truncation: Change | None
    throughput: Measured | None
    on_front: bool
    energy: Measured | None = None
    energy_is: str = ""


def rows_of(results: Sequence[Result]) -> list[Row]:
    """The settings of these sweeps, one per checkpoint, cheapest first.

    Raises:
        SystemExit: they are not of the same samples.
    """
    if len({result.predictions.labels for result in results if result.predictions}) != 1:
        raise SystemExit("the checkpoints did not see the same samples")
    by_name = [{point.name: point for point in front_points(result)} for result in results]
    metered = results[0].figure("energy_gross", BASELINE)
    rows = []
    for name in by_name[0]:
        mine = [known[name] for known in by_name]
        rows.append(
            Row(
                setting=name,
                series="" if name == BASELINE else mine[0].series,
                share=float(np.mean([point.share for point in mine])),
                macs=float(np.mean([point.macs for point in mine])),
                accuracy=0.0,
                accuracies=[point.value for point in mine],
                f1=float(np.mean([_value(result, "f1", name) for result in results])),
                unpruned=None,
                rival=None,
                truncation=None,
                throughput=_measured(mine[0].throughput),
                energy=_measured(mine[0].energy),
                energy_is=metered.provenance if metered else "",
                on_front=False,
            )
        )
    return judged(rows, results)


def judged(rows: Sequence[Row], results: Sequence[Result]) -> list[Row]:
    """The rows, cheapest first, set against unpruned and truncation by the saved predictions."""
    right = {row.setting: _correct(results, row.setting) for row in rows}
    accuracies = {name: float(correct.mean()) for name, correct in right.items()}
    cuts = sorted((row.share, row.setting) for row in rows if row.series == TRUNCATE)
    front = pareto_front([row.share for row in rows], [accuracies[row.setting] for row in rows])
    told = []
    for place, row in enumerate(rows):
        mine, pruned = right[row.setting], row.setting != BASELINE
        rival = next((cut for share, cut in cuts if share >= row.share), None)
        if not pruned or row.series == TRUNCATE:
            rival = None
        told.append(
            replace(
                row,
                accuracy=accuracies[row.setting],
                unpruned=paired(mine, right[BASELINE]) if pruned else None,
                rival=rival,
                truncation=None if rival is None else paired(mine, right[rival]),
                on_front=place in front,
            )
        )
    return sorted(told, key=lambda row: (row.share, -row.accuracy))


def read_again(path: Path) -> tuple[list[Row], list[Result]]:
    """What `main` wrote: the rows, and the results without figures."""
    kept = json.loads(path.read_text("utf-8"))
    rows = []
    for row in kept["rows"]:
        for name in ("unpruned", "truncation"):
            row[name] = None if row[name] is None else Change(**row[name])
        rows.append(Row(**row))
    empty: dict[str, Any] = {"figures": [], "comparisons": [], "series": []}
    return rows, [Result.model_validate(result | empty) for result in kept["results"]]


def _correct(results: Sequence[Result], name: str) -> NDArray[np.float64]:
    """(samples,) whether a setting's answer is right, averaged over checkpoints."""
    right = []
    for result in results:
        saved = result.predictions
        assert saved is not None
        labels, answers = (np.array(list(text)) for text in (saved.labels, saved.predicted[name]))
        right.append(labels == answers)
    mean: NDArray[np.float64] = np.mean(right, axis=0)
    return mean


def _value(result: Result, figure: str, name: str) -> float:
    found = result.figure(figure, name)
    assert found is not None
    assert found.value is not None
    return found.value


def _measured(found: Comparison | None) -> Measured | None:
    if found is None or found.ratio is None or found.interval is None:
        return None
    return found.ratio, found.interval.low, found.interval.high
