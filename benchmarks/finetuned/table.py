"""Runs of all seeds, told as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.finetuned.rivals import STARTED, TRUNCATION
from benchmarks.finetuned.runs import Outcome, Plan
from benchmarks.paired import Change, accuracy_text, paired


@dataclass(frozen=True)
class Row:
    """One rival in one way at one share, over all seeds.

    Attributes:
        share: as asked for; `macs` as it came out on the test split, relative to unpruned.
        settings: prunings, one name if all seeds have the same.
        accuracy, accuracies: mean over seeds, and of each.
        unpruned: paired difference to the unpruned model of the same seed.
        truncation: the same to truncation in the same way at the same share; None for itself.
        train_seconds: mean over seeds, relative to the unpruned model's training.
    """

    rival: str
    way: str
    share: float
    macs: float
    settings: str
    accuracy: float
    accuracies: list[float]
    unpruned: Change | None
    truncation: Change | None
    train_seconds: float


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """Rows in the order of the first seed's runs; only of runs that all seeds have."""
    seeds = sorted({outcome.seed for outcome in outcomes})
    by_run: dict[tuple[str, str, float], dict[int, Outcome]] = {}
    for outcome in outcomes:
        run = (outcome.rival, outcome.way, outcome.share)
        by_run.setdefault(run, {})[outcome.seed] = outcome
    whole = {
        run: [of[seed] for seed in seeds] for run, of in by_run.items() if len(of) == len(seeds)
    }
    base = whole["unpruned", STARTED, 1.0]
    rows = []
    for (rival, way, share), mine in whole.items():
        other = whole.get((TRUNCATION, way, share))
        rows.append(
            Row(
                rival=rival,
                way=way,
                share=share,
                macs=sum(one.macs for one in mine) / sum(one.macs for one in base),
                settings=", ".join(dict.fromkeys(one.setting for one in mine)),
                accuracy=float(_right(mine).mean()),
                accuracies=[float(_right([one]).mean()) for one in mine],
                unpruned=None if mine is base else paired(_right(mine), _right(base)),
                truncation=(
                    None if other is None or other is mine else paired(_right(mine), _right(other))
                ),
                train_seconds=sum(one.train_seconds for one in mine)
                / sum(one.train_seconds for one in base),
            )
        )
    return rows


def _right(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    """(samples,) correctness, averaged over seeds."""
    digits = [[float(digit) for digit in outcome.correct] for outcome in outcomes]
    mean: NDArray[np.float64] = np.mean(np.array(digits), axis=0)
    return mean


def document(name: str, plan: Plan, rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """The table in Markdown."""
    base = rows[0]
    samples = plan.test or "all"
    lines = [
        f"# Fine-tuned with pruning: {name}",
        "",
        f"{plan.task}, {Path(plan.data).name}: {plan.train or 'all'} training samples,"
        f" {plan.epochs} epoch{'s' * (plan.epochs > 1)}, recovery over {plan.recovery:g} of one,"
        f" input cut at {plan.max_length} tokens per function; {samples} test samples,"
        f" {len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))}). Unpruned:"
        f" {accuracy_text(base)} %. Brackets: 95 % bootstrap intervals of paired differences, over"
        " samples; the range over seeds stands behind accuracies. Training time is that of the run"
        " itself on one core that other runs shared a machine with, so read it as rough.",
        "",
        "| way | rule | setting | MACs, % | accuracy, % | against unpruned, points |"
        " against truncation the same way, points | training time / unpruned |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        change, against = row.unpruned or "", row.truncation or ""
        took = f"{row.train_seconds:.2f}" if row.train_seconds else ""
        lines.append(
            f"| {row.way} | {row.rival} | {row.settings} | {100 * row.macs:.1f} |"
            f" {accuracy_text(row)} | {change} | {against} | {took} |"
        )
    return "\n".join(lines) + "\n"
