"""Our runs in the paper's coordinates: which variant of which result stands for which cell.

A run is one variant of one result. It belongs to a published cell if model, data set, task, layers,
α (1.0 throughout the paper) and merging are the same; a run of our own `none` belongs to no pruning
cell. Two of our variants could stand for the paper's "none":

    stock      transformers, every sequence padded to the longest of its batch
    unpruned   the engine that also runs the pruned variant, no layer pruned

The paper ran none and pruned models in one engine, padded. `stock` is what its "none" is to a
user, so its figures stand in that cell; but every factor and cut of ours is against `unpruned`, so
that it holds the gain of pruning alone, as the paper's factors do. The gain of the engine is shown
apart.

Where results are repeats over fine-tuning seeds (`aggregate` decides), a run shows their mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alpine_cli.pruning.config import resolve_layers
from alpine_cli.pruning.errors import PruningError
from alpine_cli.report.aggregate import (
    Pooled,
    SeedGroup,
    group_seeds,
    is_metric,
    pool_comparison,
    pool_figure,
)
from alpine_cli.report.published import published_model
from alpine_cli.results import Figure, Interval, Result

__all__ = ["PAPER_ALPHA", "PAPER_LAYERS", "PAPER_SAMPLES", "Run", "Shown", "choose", "runs_of"]

PAPER_ALPHA = 1.0
PAPER_LAYERS = 12
PAPER_SAMPLES = {"defect-detection": 2732, "clone-detection": 4154}
"""Test samples of the paper: all of Devign's, 1 % of BigCloneBench's pairs."""

_DATA_NAMES = {"defect-detection": ("devign",), "clone-detection": ("bcb", "bigclone")}
_FULL_TEST = {"defect-detection": (2732,), "clone-detection": (4154, 415416)}
_GPU = re.compile(r"(A100|RTX 2080)(?! ?(Ti|Super))", re.IGNORECASE)


@dataclass(frozen=True)
class Run:
    """One variant of one result.

    Attributes:
        result: where it stands.
        variant: its name there.
        seeds: the repeats over fine-tuning seeds that the result belongs to.
    """

    result: Result
    variant: str
    seeds: SeedGroup | None = None

    @cached_property
    def pruning(self) -> dict[str, Any]:
        """The variant's pruning settings; empty for transformers as it ships."""
        return self.result.variants[self.variant].pruning or {}

    @property
    def is_stock(self) -> bool:
        """Whether it is transformers as it ships."""
        return self.result.variants[self.variant].pruning is None

    @property
    def task(self) -> str:
        """CodeXGLUE's name of the task."""
        return self.result.subject.task

    @cached_property
    def paper_model(self) -> str | None:
        """The paper's name of the model, or None for a model it lacks."""
        return published_model(self.result.subject.model)

    @cached_property
    def in_paper(self) -> bool:
        """Whether model, task and data set are the paper's, as far as names and sizes tell."""
        subject = self.result.subject
        names = _DATA_NAMES.get(subject.task, ())
        by_name = any(name in subject.data.lower() for name in names)
        by_size = subject.split == "test" and subject.samples in _FULL_TEST.get(subject.task, ())
        return self.paper_model is not None and (by_name or by_size)

    @property
    def model(self) -> str:
        """The paper's name, or the name in the file with the data it was measured on."""
        subject = self.result.subject
        if self.in_paper and self.paper_model is not None:
            return self.paper_model
        return f"{subject.model} on {subject.data}"

    @cached_property
    def layers(self) -> str:
        """all, even, odd, none, or a list of layers that is none of these."""
        layers = str(self.pruning.get("layers", "none"))
        if not self.in_paper or layers in ("none", "all", "even", "odd"):
            return layers
        for name in ("all", "even", "odd"):
            try:
                same = resolve_layers(layers, PAPER_LAYERS) == resolve_layers(name, PAPER_LAYERS)
            except PruningError:  # a list for a deeper model: it stays a list
                return layers
            if same:
                return name
        return layers

    @property
    def prunes(self) -> bool:
        """Whether any layer prunes."""
        return self.layers != "none"

    @property
    def alpha(self) -> float:
        """Half-width of the kept band, in standard deviations; NaN where a file has no number."""
        alpha = self.pruning.get("alpha", PAPER_ALPHA)
        return float(alpha) if isinstance(alpha, int | float) else float("nan")

    @property
    def merge(self) -> str:
        """mean or none."""
        return str(self.pruning.get("merge", "mean"))

    @property
    def protect(self) -> str:
        """special or ends."""
        return str(self.pruning.get("protect", "special"))

    @property
    def engine(self) -> str:
        """The engine's name; "transformers" for stock."""
        return "transformers" if self.is_stock else str(self.pruning.get("engine", "packed"))

    @property
    def training_seed(self) -> int | None:
        """Seed of the fine-tuning, where it is known."""
        return self.result.variants[self.variant].training_seed

    @property
    def setting(self) -> str:
        """The strategy as a table names it: "all", "even, α 0.5, dropped", "none, packed"."""
        if self.is_stock:
            return "none"
        words = [self.layers]
        if self.prunes:
            if self.alpha != PAPER_ALPHA:
                words.append(f"α {self.alpha:g}")
            if self.merge != "mean":
                words.append("dropped")
        if self.engine != "packed" or not self.prunes:
            words.append(self.engine)
        return ", ".join(words)

    @property
    def machine(self) -> str:
        """The GPU, or the processor and its threads, in words."""
        environment = self.result.environment
        if self.on_gpu and environment.gpus:
            return environment.gpus[0].name
        threads = environment.threads or "?"
        return f"{environment.cpu_model}, {threads} thread{'' if threads == 1 else 's'}"

    @property
    def on_gpu(self) -> bool:
        """Whether the device was a CUDA device."""
        return str(self.result.settings.get("device", "")).startswith("cuda")

    @property
    def paper_hardware(self) -> str | None:
        """ "A100" or "RTX 2080" where the run was on that GPU."""
        if not self.on_gpu:
            return None
        for gpu in self.result.environment.gpus[:1]:
            found = _GPU.search(gpu.name)
            if found:
                return found[1].upper()
        return None

    def figure(self, name: str) -> Figure | None:
        """The figure of that name, or None."""
        return self.result.figure(name, self.variant)

    def value(self, name: str) -> float | None:
        """Its value in this very result, or None where it is missing or could not be taken."""
        figure = self.figure(name)
        return None if figure is None else figure.value

    def shown(self, name: str) -> Shown | None:
        """What a table shows: the mean over seeds where there are several, or the value."""
        figure = self.figure(name)
        if figure is None or figure.value is None:
            return None
        if self.seeds is not None:
            pooled = pool_figure(self.seeds, name, self.variant)
            if pooled.value is not None and pooled.n > 1:
                return Shown(pooled.value, pooled.interval)
        return Shown(figure.value, figure.interval)

    @cached_property
    def unpruned(self) -> Run | None:
        """The run in the same result that prunes nothing: same engine if there is one, or stock."""
        names = [name for name in self.result.variants if name != self.variant]
        others = [Run(self.result, name, self.seeds) for name in names]
        still = [run for run in others if not run.prunes]
        return next(iter(sorted(still, key=lambda run: (run.is_stock, run.variant))), None)

    def against_unpruned(self, name: str) -> Shown | None:
        """variant / unpruned of a figure, with its interval where the results have one."""
        if not self.prunes or self.unpruned is None:
            return None
        base = self.unpruned.variant
        found = self.result.comparison(name, self.variant, base)
        if found is not None and found.ratio is not None:
            if self.seeds is not None and not is_metric(name):
                pooled: Pooled = pool_comparison(self.seeds, name, self.variant, base)
                if pooled.value is not None and pooled.n > 1:
                    return Shown(pooled.value, pooled.interval)
            return Shown(found.ratio, found.interval)
        ours, other = self.value(name), self.unpruned.value(name)
        return None if ours is None or not other else Shown(ours / other, None)


@dataclass(frozen=True)
class Shown:
    """A number of ours as a cell shows it, in base units, with its 95 % interval."""

    value: float
    interval: Interval | None


def runs_of(results: Sequence[Result]) -> list[Run]:
    """Every variant of every result, in their order."""
    groups, _ = group_seeds(results)
    of_result = {
        member.id: group
        for group in groups
        for members in group.by_seed.values()
        for member in members
    }
    return [
        Run(result, name, of_result.get(result.id))
        for result in results
        for name in result.variants
    ]


def choose(runs: Sequence[Run], figure: str) -> Run | None:
    """The run whose figure a cell shows, where several fit; None where none has the figure.

    The test split before others, then the most samples, then the published rule of protection,
    then the packed engine, then the newest: what comes nearest to the paper, at its best known.
    """
    having = [run for run in runs if run.value(figure) is not None]
    if not having:
        return None
    return max(
        having,
        key=lambda run: (
            run.result.subject.split == "test",
            run.result.subject.samples,
            run.protect == "ends",
            run.engine == "packed",
            run.result.created,
            run.result.id,
        ),
    )
