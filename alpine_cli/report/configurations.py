"""Configurations that were measured alike: what each computes, and the energy and time it takes.

A configuration is a variant of a model on the same samples, whatever its seed. Those measured on
one machine, for one task and at one batch size form a group; repeats within it are averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import geometric_mean

from alpine_cli.report.batches import Batches, batches_of
from alpine_cli.report.paper_runs import Run, runs_of
from alpine_cli.results import Result

__all__ = ["Group", "Point", "groups_of", "pairs_of"]

# The first that was measured stands for energy, a modelled total only where no meter was read.
_ENERGIES = ("energy_gross", "energy_gpu", "energy_cpu")

_ONE = Batches(samples=1)


@dataclass(frozen=True)
class Point:
    """One configuration; repeats of it (other seeds, other runs) are geometric means.

    Attributes:
        model, setting: its name, and the strategy as tables name it.
        role: stock, unpruned, pruned or reference.
        flops: per sample.
        flops_batch_size: the batch size they were counted at.
        energy_j: joules per sample; None where the energy of this configuration was not taken.
        seconds: per sample; None where the throughput was not.
    """

    model: str
    setting: str
    role: str
    flops: float
    flops_batch_size: Batches
    energy_j: float | None
    seconds: float | None

    @property
    def label(self) -> str:
        """Model and strategy."""
        return f"{self.model}, {self.setting}"


@dataclass(frozen=True)
class Group:
    """Configurations that can be set against each other.

    Attributes:
        machine, task, batch_size: what they share.
        energy: name of the figure that is their energy; None without any.
        modelled: whether that energy is modelled.
        points: one per configuration, by FLOPs.
    """

    machine: str
    task: str
    batch_size: Batches
    energy: str | None
    modelled: bool
    points: tuple[Point, ...]

    @property
    def where(self) -> str:
        """What the configurations share, in words."""
        return f"{self.machine}; {self.task}; batch size {self.batch_size}"


def groups_of(results: Iterable[Result]) -> list[Group]:
    """Configurations with FLOPs and energy or time, by machine, task, device and batch size.

    FLOPs do not depend on the machine: they may come from another result on the same samples.
    Those counted at the group's own batch size are taken, or else at the smallest there is.
    """
    runs = runs_of(list(results))
    flops: dict[tuple[str, ...], dict[Batches, list[float]]] = {}
    for run in runs:
        value = run.value("total_flops") or 2 * (run.value("total_macs") or 0.0)
        if value > 0:
            size = batches_of(run.result.settings, "flops_") or _ONE
            flops.setdefault(_configuration(run), {}).setdefault(size, []).append(value)
    together: dict[tuple[str, str, Batches], list[Run]] = {}
    for run in runs:
        timed = run.value("throughput") or _energies_of(run)
        if _configuration(run) in flops and timed:
            size = batches_of(run.result.settings) or _ONE
            together.setdefault((run.machine, run.task, size), []).append(run)
    groups = []
    for (machine, task, size), members in together.items():
        energy, modelled = _energy_of(members)
        points = []
        for key in dict.fromkeys(map(_configuration, members)):
            same = [run for run in members if _configuration(run) == key]
            counted = flops[key]
            at = size if size in counted else min(counted)
            points.append(_point(same, geometric_mean(counted[at]), at, energy, modelled))
        points.sort(key=lambda point: (point.flops, point.label))
        groups.append(Group(machine, task, size, energy, modelled, tuple(points)))
    return groups


def _configuration(run: Run) -> tuple[str, ...]:
    """What makes two runs the same configuration: everything but seed, machine and batch size."""
    subject = run.result.subject
    return (subject.model, subject.head, subject.data_sha256, run.setting, run.engine, run.protect)


def _energies_of(run: Run) -> dict[tuple[str, bool], float]:
    """Joules per sample by (figure, whether it is modelled)."""
    found = {}
    for name in _ENERGIES:
        figure = run.figure(name)
        if figure is not None and figure.value is not None and figure.value > 0:
            found[name, figure.provenance != "measured"] = figure.value
    return found


def _energy_of(runs: Sequence[Run]) -> tuple[str | None, bool]:
    """What stands for energy in a group, and whether it is modelled: the same for all points."""
    for name in _ENERGIES:
        if any((name, False) in _energies_of(run) for run in runs):
            return name, False
    modelled = any((_ENERGIES[0], True) in _energies_of(run) for run in runs)
    return (_ENERGIES[0], True) if modelled else (None, False)


def _point(
    runs: Sequence[Run], flops: float, flops_batch_size: Batches, energy: str | None, modelled: bool
) -> Point:
    joules = [
        value
        for run in runs
        if energy is not None and (value := _energies_of(run).get((energy, modelled)))
    ]
    rates = [value for run in runs if (value := run.value("throughput"))]
    first = runs[0]
    role = "stock" if first.is_stock else "pruned" if first.prunes else "unpruned"
    return Point(
        model=first.result.subject.model,
        setting=first.setting,
        role="reference" if first.engine == "reference" else role,
        flops=flops,
        flops_batch_size=flops_batch_size,
        energy_j=geometric_mean(joules) if joules else None,
        seconds=1 / geometric_mean(rates) if rates else None,
    )


def pairs_of(group: Group, x: str, y: str) -> tuple[list[float], list[float]]:
    """The values of two attributes of the points that have both."""
    both = [(getattr(p, x), getattr(p, y)) for p in group.points]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return [a for a, _ in known], [b for _, b in known]
