"""FLOPs set against measured energy and time: does the one tell the other?

Many papers, Avatar among them, choose models by FLOPs in place of energy; critics answer that FLOPs
leave out data movement, launches and idle units. Here every configuration (a variant of a model on
the same samples) measured on one machine, task, device and batch size is a point; a table gives
Pearson's correlation of the logarithms, Spearman's of the ranks, and the slope on logarithms, which
would be 1 if energy were proportional to FLOPs.

Energy that is modelled from time is marked: such a correlation is one of FLOPs and time.

Which interval was decided by simulation (bivariate normal, correlation 0 to 0.98): a percentile
bootstrap at a plain 95 % covered 86 to 92 % for 6 to 20 configurations; at the level that
`statistics.expanded_level` asks for, 93 to 99 %. With 5 configurations either failed (84 to 92 % or
an interval of nearly everything), so there is none below 6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from alpine_cli.measure.statistics import expanded_level
from alpine_cli.report.configurations import Group, groups_of, pairs_of
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Interval, Result

__all__ = [
    "MIN_CONFIGURATIONS",
    "Correlation",
    "correlate",
    "draw_flops_against_energy",
    "flops_against_energy",
]

MIN_CONFIGURATIONS = 4
_MIN_FOR_INTERVAL = 6
_FEW = 10
_RESAMPLES = 5000
_MODELLED = "modelled energy follows time, so this correlation is one of FLOPs and time"
_SCOPE = {
    "energy_gross": "all components",
    "energy_gpu": "the GPU alone",
    "energy_cpu": "the processor alone",
}
_QUESTIONS = (
    ("FLOPs and energy", "flops", "energy_j"),
    ("FLOPs and time", "flops", "seconds"),
    ("time and energy", "seconds", "energy_j"),
)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Correlation:
    """How two quantities of n configurations go together.

    Attributes:
        n: number of configurations.
        pearson: of the logarithms; None where it cannot be formed, see `reason`.
        spearman: of the ranks.
        slope: of log y on log x, least squares: y changes by so many per cent per per cent of x.
        pearson_interval, spearman_interval: bootstrap over configurations; None below 6 of them.
        reason: why there are no coefficients.
    """

    n: int
    pearson: float | None = None
    spearman: float | None = None
    slope: float | None = None
    pearson_interval: Interval | None = None
    spearman_interval: Interval | None = None
    reason: str | None = None


def correlate(x: Sequence[float], y: Sequence[float], *, seed: int = 0) -> Correlation:
    """Pearson's correlation of the logarithms and Spearman's, with bootstrap intervals.

    Args:
        x, y: positive, index i the same configuration.
        seed: of the resampling.
    """
    n = len(x)
    if n < MIN_CONFIGURATIONS:
        return Correlation(
            n, reason=f"{n} configurations; at least {MIN_CONFIGURATIONS} are needed"
        )
    a, b = np.log(np.asarray(x, float)), np.log(np.asarray(y, float))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return Correlation(n, reason="one of the two is the same in every configuration")
    return Correlation(
        n,
        pearson=float(_pearson(a, b)),
        spearman=float(_spearman(a, b)),
        slope=float(np.polyfit(a, b, 1)[0]),
        pearson_interval=_interval(a, b, _pearson, seed),
        spearman_interval=_interval(a, b, _spearman, seed),
    )


def _pearson(a: Floats, b: Floats) -> Floats:
    """Along the last axis; nan where a side does not vary."""
    a = a - a.mean(axis=-1, keepdims=True)
    b = b - b.mean(axis=-1, keepdims=True)
    size = np.sqrt((a * a).sum(axis=-1) * (b * b).sum(axis=-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (a * b).sum(axis=-1) / np.where(size > 1e-300, size, np.nan)
    return np.clip(found, -1.0, 1.0)


def _spearman(a: Floats, b: Floats) -> Floats:
    return _pearson(stats.rankdata(a, axis=-1), stats.rankdata(b, axis=-1))


def _interval(
    a: Floats, b: Floats, statistic: Callable[[Floats, Floats], Floats], seed: int
) -> Interval | None:
    """Percentile bootstrap over configurations, at the level expanded for few of them."""
    n = len(a)
    if n < _MIN_FOR_INTERVAL:
        return None
    drawn = np.random.default_rng(seed).integers(0, n, (_RESAMPLES, n))
    found = statistic(a[drawn], b[drawn])
    found = found[~np.isnan(found)]  # resamples of one configuration only have no correlation
    tail = 50 * (1 - expanded_level(0.95, n))
    low, high = np.percentile(found, [tail, 100 - tail])
    method = f"percentile bootstrap over {n} configurations, level raised for their number"
    return Interval(low=float(low), high=float(high), method=method)


def flops_against_energy(results: Sequence[Result]) -> Table | None:
    """Correlations per machine, task, device and batch size; None where nothing has both.

    A group below four configurations has its row, absent, with the reason.
    """
    groups = groups_of(results)
    rows = []
    for group in groups:
        asked = [(title, y, pairs_of(group, x, y)) for title, x, y in _QUESTIONS]
        asked = [question for question in asked if question[2][0]]
        enough = [question for question in asked if len(question[2][0]) >= MIN_CONFIGURATIONS]
        for title, y, values in enough or asked[:1]:
            rows.append(_row(group, title, correlate(*values), uses_energy=y == "energy_j"))
    if not rows:
        return None
    notes = [
        "A point is a configuration: model, samples, strategy, engine; repeats of it are averaged"
        " (geometric mean). Energy and time are per sample.",
        "Slope: y changes by so many per cent when x changes by one. Were FLOPs a proxy of energy,"
        " r and the slope would both be near 1.",
        "[low, high]: 95 % bootstrap interval over configurations; none below"
        f" {_MIN_FOR_INTERVAL} of them.",
    ]
    padding = {
        (point.flops_batch_size, group.batch_size)
        for group in groups
        for point in group.points
        if point.flops_batch_size != group.batch_size
    }
    notes += [
        f"FLOPs were counted at batch size {counted}, energy and time taken at {size}: where an"
        " engine pads, that costs energy and time but no FLOPs."
        for counted, size in sorted(padding)
    ]
    if any(group.modelled for group in groups):
        notes.append(f"Where energy is modelled: {_MODELLED}.")
    if any(MIN_CONFIGURATIONS <= len(group.points) < _FEW for group in groups):
        notes.append(
            f"Fewer than {_FEW} configurations show a tendency at most; variants of one model share"
            " their weights and are no independent draws."
        )
    return Table(
        key="flops-against-energy",
        title="FLOPs as a proxy: their correlation with energy and time",
        columns=[
            Column("where", numeric=False),
            Column("x and y", numeric=False),
            Column("configurations"),
            Column("Pearson r of the logs"),
            Column("Spearman ρ"),
            Column("slope on logs"),
            Column("energy", numeric=False),
        ],
        rows=rows,
        notes=notes,
    )


def _row(group: Group, title: str, found: Correlation, *, uses_energy: bool) -> list[Cell]:
    kind = Cell("")
    if uses_energy and group.energy is not None:
        state = "modelled" if group.modelled else "measured"
        note = _MODELLED if group.modelled else None
        kind = Cell(f"{state}, {_SCOPE[group.energy]}", note=note)
    absent = Cell("absent", note=found.reason, style="absent")
    few = f"n = {found.n}: few" if found.n < _FEW else None
    return [
        Cell(group.where),
        Cell(title),
        Cell(str(found.n), found.n, note=few if found.pearson is not None else None),
        absent if found.pearson is None else _coefficient(found.pearson, found.pearson_interval),
        absent if found.spearman is None else _coefficient(found.spearman, found.spearman_interval),
        absent if found.slope is None else Cell(f"{found.slope:.2f}", found.slope),
        kind,
    ]


def _coefficient(value: float, interval: Interval | None) -> Cell:
    if interval is None:
        return Cell(f"{value:.2f}", value)
    text = f"{value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"
    return Cell(text, value, interval.low, interval.high)


def draw_flops_against_energy(results: Sequence[Result], path: Path) -> bool:
    """The picture of the same points; see `correlation_figure.draw`."""
    from alpine_cli.report.correlation_figure import draw  # it needs `correlate` of this module

    return draw(groups_of(results), path)
