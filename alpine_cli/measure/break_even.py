"""After how many inferences a fine-tuning with pruning has paid itself back.

    break-even = what the fine-tuning took / what pruning saves per sample

once in energy (break_even_samples) and once in time (break_even_samples_by_time). The whole
fine-tuning is set against the saving, not only what it took beyond an unpruned one: that is the
question of somebody who has a model without pruning already. What it took is known to the joule;
what is saved has an interval, from the paired blocks of the bench, and so has the break-even.
Where pruning shows no saving there is no break-even, and the figure says why.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alpine_cli.errors import DataError
from alpine_cli.files import sha256_of
from alpine_cli.measure.meter import COMPONENTS
from alpine_cli.measure.statistics import judge, mean_interval, ratio_interval
from alpine_cli.result_files import read_result
from alpine_cli.results import Caution, Environment, Figure, Interval, Part, Provenance, Result

__all__ = ["TRAINING_RECORD", "break_even", "find_training_record"]

TRAINING_RECORD = "training.json"
"""Name of a run's record, beside its ckpt.pt."""


def find_training_record(checkpoint: Path) -> Result | None:
    """The record of the very run that made a checkpoint; None where there is none.

    A record beside it that is unreadable, or is of other weights, counts as none.
    """
    path = checkpoint.parent / TRAINING_RECORD
    if not path.is_file():
        return None
    try:
        record = read_result(path)
    except DataError:
        return None
    digests = {variant.checkpoint_sha256 for variant in record.variants.values()}
    return record if record.kind == "training" and sha256_of(checkpoint) in digests else None


def break_even(
    measured: Part,
    training: Result,
    *,
    variant: str = "pruned",
    baseline: str = "unpruned",
    environment: Environment | None = None,
) -> Part:
    """The figures break_even_samples and break_even_samples_by_time of `variant`.

    Args:
        measured: a bench, or a part of one, with energy and throughput of both variants. What it
            does not hold has no break-even and is left out.
        training: the record of the fine-tuning that made `variant`.
        variant, baseline: whose saving against whose consumption.
        environment: of the bench, where `measured` is a part without one.
    """
    if isinstance(measured, Result):
        environment = measured.environment
    figures = [
        figure
        for figure in (
            _by_energy(measured, training, variant, baseline),
            _by_time(measured, training, variant, baseline),
        )
        if figure is not None
    ]
    taken = any(figure.value is not None for figure in figures)
    cautions = _cautions(training, environment) if taken else []
    return Part(figures=figures, cautions=cautions)


@dataclass(frozen=True)
class _Side:
    """Amounts per sample of one variant, one per block, and where they come from."""

    per_sample: list[float]
    provenance: Provenance


def _by_energy(measured: Part, training: Result, variant: str, baseline: str) -> Figure | None:
    name = "break_even_samples"
    if _figure(measured, "energy_gross", variant) is None:
        return None
    parts = _common_components(measured, training, variant, baseline)
    if not parts:
        reason = (
            "no component (GPU, CPU, memory) was metered in the same way in fine-tuning and bench"
        )
        return _absent(name, variant, reason)
    spent = sum(_value(training, f"finetuning_energy_{part}") for part in parts)
    sides = [_energy_of(measured, who, parts) for who in (variant, baseline)]
    what = f"joules of fine-tuning ({', '.join(parts)}) over joules saved per sample"
    return _figure_of(name, variant, baseline, spent, *sides, what=what, saved="energy")


def _common_components(
    measured: Part, training: Result, variant: str, baseline: str
) -> tuple[str, ...]:
    """Components that fine-tuning and both variants have, each with one provenance throughout."""
    found = []
    for part in COMPONENTS:
        figures = [
            _figure(training, f"finetuning_energy_{part}", None),
            _figure(measured, f"energy_{part}", variant),
            _figure(measured, f"energy_{part}", baseline),
        ]
        if all(figure is not None and figure.value is not None for figure in figures):
            kinds = {figure.provenance for figure in figures if figure is not None}
            if len(kinds) == 1:
                found.append(part)
    return tuple(found)


def _energy_of(measured: Part, variant: str, parts: Sequence[str]) -> _Side:
    figures = [_figure(measured, f"energy_{part}", variant) for part in parts]
    samples = [figure.samples or [figure.value or 0.0] for figure in figures if figure is not None]
    kinds = {figure.provenance for figure in figures if figure is not None}
    return _Side(
        [sum(blocks) for blocks in zip(*samples, strict=True)],
        "measured" if kinds == {"measured"} else "modelled",
    )


def _by_time(measured: Part, training: Result, variant: str, baseline: str) -> Figure | None:
    rates = [_figure(measured, "throughput", who) for who in (variant, baseline)]
    spent = _figure(training, "finetuning_seconds", None)
    if spent is None or spent.value is None:
        return None
    sides = []
    for rate in rates:
        if rate is None or not rate.samples:
            return None
        sides.append(_Side([1 / value for value in rate.samples], rate.provenance))
    return _figure_of(
        "break_even_samples_by_time",
        variant,
        baseline,
        spent.value,
        *sides,
        what="seconds of fine-tuning over seconds saved per sample",
        saved="time",
    )


def _figure_of(
    name: str,
    variant: str,
    baseline: str,
    spent: float,
    ours: _Side,
    theirs: _Side,
    *,
    what: str,
    saved: str,
) -> Figure:
    a, b = ours.per_sample, theirs.per_sample
    ratio = float(np.mean(a) / np.mean(b))
    paired = len(a) == len(b)
    interval = ratio_interval(a, b, paired=paired)
    verdict = judge(interval, "lower")
    shown = f"{variant} uses {ratio:.3f} of {baseline}'s {saved} per sample"
    if interval is not None:
        shown += f" (95 % CI {interval.low:.3f} to {interval.high:.3f})"
    if verdict == "no difference shown":
        return _absent(name, variant, f"no saving of {saved} is shown: {shown}")
    if verdict == "worse" or ratio >= 1:
        return _absent(name, variant, f"fine-tuning never pays itself back: {shown}")
    saving = float(np.mean(b) - np.mean(a))
    inverted = _inverted(mean_interval(list(np.subtract(b, a))) if paired else None, spent)
    why_not = "" if inverted else "; no interval: too few runs, or some that saved nothing"
    return Figure(
        name=name,
        variant=variant,
        unit="samples",
        value=spent / saving,
        provenance=ours.provenance,
        method=f"{what}, {variant} against {baseline}{why_not}",
        better="lower",
        n=len(a),
        interval=inverted,
    )


def _inverted(saving: Interval | None, spent: float) -> Interval | None:
    """The interval of spent / saving; None where the saving's reaches 0, and so has no end."""
    if saving is None or saving.low <= 0:
        return None
    return Interval(
        low=spent / saving.high,
        high=spent / saving.low,
        level=saving.level,
        method=f"{saving.method}, of the saving per sample, inverted",
    )


def _cautions(training: Result, here: Environment | None) -> list[Caution]:
    there = training.environment
    if here is None:
        return []
    machines = [
        (environment.cpu_model, tuple(gpu.name for gpu in environment.gpus))
        for environment in (there, here)
    ]
    if machines[0] == machines[1]:
        return []
    names = [", ".join((cpu, *gpus)) for cpu, gpus in machines]
    return [
        Caution(
            code="other-machine",
            text=f"the model was fine-tuned on another machine ({names[0]}) than it was measured"
            f" on ({names[1]})",
            effect="the break-even sets what was spent there against what is saved here",
        )
    ]


def _figure(part: Part, name: str, variant: str | None) -> Figure | None:
    """The figure of that name; None for `variant` takes the only one there is."""
    for figure in part.figures:
        if figure.name == name and variant in (None, figure.variant):
            return figure
    return None


def _value(part: Part, name: str) -> float:
    figure = _figure(part, name, None)
    assert figure is not None
    assert figure.value is not None
    return figure.value


def _absent(name: str, variant: str, reason: str) -> Figure:
    return Figure.absent(name, variant, "samples", reason, better="lower")
