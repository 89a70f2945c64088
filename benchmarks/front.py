"""Accuracy against multiply-adds of every rule, training-free, beside truncation at equal cost.

    ALPINE_SHARED=../shared python -m benchmarks.front --checkpoint clone.pt \
        --data ../shared/data/bcb --limit 400

Runs `alpine sweep`'s machinery on the test split with a wider grid: all rules, several strengths
each, and truncation at many lengths. Writes front-NAME.json, .md, .png and .svg. Multiply-adds are
those of the lengths each layer really ran at. Interrupted, the same command goes on.

Every setting is set against `unpruned` and against truncation at equal cost on the same samples:
the shortest cut of the input that costs no less than the setting, so that the rival is never given
fewer multiply-adds. Intervals are 95 % percentile bootstraps over samples, after adding two samples
that got neither better nor worse, one that got better and one that got worse: half a sample to each
of the eight cells that `alpine_cli.measure.accuracy` adds to. With several
checkpoints (fine-tuning seeds of one model) a sample's outcome is averaged over them first: the
interval is about samples, the range over seeds is told beside it.

Nothing is chosen here: with so many settings the best of them is flattered. `--time` measures
throughput of those on the Pareto front, in turns with unpruned, `--energy` their energy (of the
first checkpoint: costs do not hang on the seed of the weights). `--again front-NAME.json` judges
and draws once more what was run before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from alpine_cli.files import write_atomic
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.grid import TRUNCATE, Family
from alpine_cli.measure.grid_options import choose_grid
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.pareto import pareto_front
from alpine_cli.measure.sweep import run_sweep
from alpine_cli.report.front import BASELINE, FrontPoint, front_points
from alpine_cli.report.front_figure import draw_points
from alpine_cli.report.pictures import slug
from alpine_cli.results import Comparison, Figure, Interval, Result

RESULTS = Path(__file__).parent / "results"
_SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)
GRID: tuple[Family, ...] = (
    Family("band", (2.0, 1.5, 1.0, 0.75, 0.5, 0.25), ("odd", "even", "all"), ("mean",)),
    Family("floor", (1.0, 0.75, 0.5, 0.25, 0.1, 0.05), merges=("mean", "nearest")),
    Family("top", _SHARES, merges=("mean", "nearest"), scores=("received", "cls")),
    Family("bipartite", _SHARES[:-1], merges=("nearest",)),
    Family("random", _SHARES),
    Family("first", _SHARES, merges=("none",)),
    Family(
        TRUNCATE,
        (16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448),
        optional=True,
    ),
)
_RESAMPLES = 9999
_ADDED = (-1.0, 0.0, 0.0, 1.0)
_WITHIN = 0.005
"""Of accuracy: what counts as nothing lost in the closing lines."""


Measured = tuple[float, float, float]


@dataclass(frozen=True)
class Change:
    """A paired difference of accuracy, as a fraction, with its 95 % interval."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{100 * self.difference:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


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


def paired(mine: NDArray[np.float64], theirs: NDArray[np.float64], seed: int = 0) -> Change:
    """The mean of mine - theirs over samples, with a percentile bootstrap.

    Resampling samples is drawing how often each of the few values that differences take occurs. See
    the head of this module for the four samples that are added.

    Args:
        mine, theirs: (samples,) correctness, averaged over checkpoints.
        seed: of the resampling.
    """
    n = len(mine)
    seen = np.append(np.round(mine - theirs, 9), _ADDED)
    values, counts = np.unique(seen, return_counts=True)
    drawn = np.random.default_rng(seed).multinomial(n, counts / counts.sum(), size=_RESAMPLES)
    low, high = np.quantile(drawn @ values / n, [0.025, 0.975])
    return Change(float((mine - theirs).mean()), float(low), float(high))


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


class Averaged(Protocol):
    """An accuracy over several checkpoints, mean and each, as fractions."""

    @property
    def accuracy(self) -> float:
        """Their mean."""

    @property
    def accuracies(self) -> list[float]:
        """Of each."""


def accuracy_text(row: Averaged) -> str:
    """In percent, with the range over checkpoints where there are several."""
    told = f"{100 * row.accuracy:.1f}"
    if len(row.accuracies) < 2:
        return told
    return f"{told} ({100 * min(row.accuracies):.1f}–{100 * max(row.accuracies):.1f})"


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


def main() -> None:
    """Run, print, write; see the head of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, action="append")
    what.add_argument("--again", type=Path, metavar="JSON", help="judge and draw what it holds")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--name", help="of the files; default: task and model")
    parser.add_argument("--rules", help="of the grid, joined by commas; default: all")
    parser.add_argument("--alphas")
    parser.add_argument("--keeps")
    parser.add_argument("--lengths")
    parser.add_argument("--layers", action="append")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time", action="store_true", help="measure throughput of the front")
    parser.add_argument("--energy", action="store_true", help="measure, or model, its energy")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.again is not None:
        rows, results = read_again(asked.again)
        rows = judged(rows, results)
        command = json.loads(asked.again.read_text("utf-8"))["command"]
        name = asked.again.stem.removeprefix("front-")
    else:
        results = _sweeps(asked)
        rows, command = rows_of(results), command_line(sys.argv)
        name = slug(asked.name or f"{results[0].subject.task} {asked.checkpoint[0].stem}")
    text, subject = document(name, rows, results), results[0].subject
    stem = asked.output / f"front-{name}"
    kept: dict[str, Any] = {
        "command": command,
        "rows": [asdict(row) for row in rows],
        # Figures follow from predictions and rows; a hundred settings of them would be megabytes.
        "results": [
            result.model_dump(mode="json", exclude={"figures", "comparisons", "series"})
            for result in results
        ],
    }
    write_atomic(stem.with_suffix(".json"), json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
    write_atomic(stem.with_suffix(".md"), text)
    draw_points(
        drawable(rows, results[0]), stem, f"{name}: {subject.samples:,} samples of {subject.data}"
    )
    print(text)


def _sweeps(asked: argparse.Namespace) -> list[Result]:
    """A sweep per checkpoint."""
    how = {name: getattr(asked, name) for name in ("rules", "alphas", "keeps", "lengths", "layers")}
    grid = choose_grid(GRID, **how)
    results = []
    for place, checkpoint in enumerate(asked.checkpoint):
        options = MeasureOptions(
            checkpoint=checkpoint,
            data=asked.data,
            split=asked.split,
            limit=asked.limit,
            batch_size=asked.batch_size,
            device=asked.device,
            threads=asked.threads,
            runs=asked.runs,
            min_seconds=5.0,
            seed=asked.seed,
        )
        results.append(
            run_sweep(
                options,
                grid,
                asked.output,
                time=asked.time and place == 0,
                energy=asked.energy and place == 0,
                on_progress=_progress,
                on_planned=lambda text: print(text, file=sys.stderr),
            )
        )
    return results


def _progress(done: int, total: int, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total} {text:<60}", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
