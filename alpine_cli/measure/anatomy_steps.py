"""From timed passes to the steps between unpruned and pruned time: numbers only, no model.

With u, p, c the times of the unpruned, pruned and replayed pass (`anatomy`) and r the pruned share
of the multiply-adds, at each layer's true lengths:

    attention, feed-forward    −u x saved share of all multiply-adds; together −u (1 − r)
    scoring                    p − c − selection: scores, and attention done so that it has them
    selection, repacking       timed by themselves
    padding                    what padding adds to c, less r times what it adds to u; 0 if packed
    calls and weights          (1 − r) x the fixed cost: that part of u does not shrink
    rest                       p less all of the above

They sum to p − u by construction, round by round; `rest` is what no measurement above explains.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from alpine_cli.measure.statistics import mean_interval, ratio_interval, spread
from alpine_cli.results import Figure, Interval, Part, Series

__all__ = ["STEPS", "Costs", "Step", "anatomy_part", "take_apart"]

Seconds = Mapping[str, NDArray[np.float64]]
"""By pass, (rounds,) seconds of one pass over all timed samples."""


@dataclass(frozen=True)
class Step:
    """A step of the waterfall: its short name, its label, and how it was taken."""

    key: str
    label: str
    provenance: Literal["measured", "modelled"]
    method: str


STEPS = (
    Step(
        "attention_saved",
        "attention: multiply-adds saved",
        "modelled",
        "unpruned time x the share of all multiply-adds that attention no longer does",
    ),
    Step(
        "feed_forward_saved",
        "feed-forward: multiply-adds saved",
        "modelled",
        "unpruned time x the share of all multiply-adds that feed-forward no longer does",
    ),
    Step(
        "scoring",
        "scoring",
        "measured",
        "pruned pass - the same pass with its recorded plans given (no scores, no decisions)"
        " - selection",
    ),
    Step(
        "selection",
        "selection",
        "measured",
        "the pass's decisions alone: scores to plans, on its recorded scores",
    ),
    Step(
        "repacking",
        "repacking and merging",
        "measured",
        "the pass's shortening alone: its recorded plans applied to hidden states of their shapes",
    ),
    Step(
        "padding",
        "padding",
        "measured",
        "(replayed pass - the same on the packed engine) - pruned share of multiply-adds x"
        " (unpruned pass - the same on the packed engine); 0 where the engine packs",
    ),
    Step(
        "calls",
        "calls and reading weights",
        "modelled",
        "saved share of multiply-adds x the time of an unpruned pass with one token per sequence"
        " (less that token's own multiply-adds): calls, kernel launches and reading the weights"
        " do not shrink with the tokens",
    ),
    Step(
        "rest",
        "rest: lower efficiency",
        "modelled",
        "pruned time less unpruned time and all other steps: shorter matrices are multiplied less"
        " efficiently, and steps timed alone meet other caches than within a pass",
    ),
)


@dataclass(frozen=True)
class Costs:
    """Multiply-adds of one pass over all timed samples, at each layer's true lengths."""

    attention_unpruned: float
    attention_pruned: float
    feed_forward_unpruned: float
    feed_forward_pruned: float
    total_unpruned: float
    total_pruned: float
    total_shortest: float

    @property
    def left(self) -> float:
        """r: pruned multiply-adds over unpruned ones."""
        return self.total_pruned / self.total_unpruned


def take_apart(seconds: Seconds, costs: Costs) -> dict[str, NDArray[np.float64]]:
    """By step, (rounds,) seconds; in every round they sum to pruned − unpruned.

    Args:
        seconds: of the passes "unpruned", "pruned", "replayed", "selection", "repacking" and
            "shortest"; engines that pad also "unpruned unpadded" and "replayed unpadded".
        costs: of the same samples.
    """
    unpruned, pruned, replayed = (seconds[name] for name in ("unpruned", "pruned", "replayed"))
    per_mac = unpruned / costs.total_unpruned
    fixed = seconds["shortest"] - per_mac * costs.total_shortest
    padding = np.zeros_like(unpruned)
    if "replayed unpadded" in seconds:
        in_pruned = replayed - seconds["replayed unpadded"]
        in_unpruned = unpruned - seconds["unpruned unpadded"]
        padding = in_pruned - costs.left * in_unpruned
    steps = {
        "attention_saved": per_mac * (costs.attention_pruned - costs.attention_unpruned),
        "feed_forward_saved": per_mac * (costs.feed_forward_pruned - costs.feed_forward_unpruned),
        "scoring": pruned - replayed - seconds["selection"],
        "selection": seconds["selection"],
        "repacking": seconds["repacking"],
        "padding": padding,
        "calls": (1 - costs.left) * fixed,
    }
    steps["rest"] = pruned - unpruned - np.sum(list(steps.values()), axis=0)
    return steps


def anatomy_part(seconds: Seconds, costs: Costs, samples: int, where: str, seed: int) -> Part:
    """The waterfall as a series, every step as a figure, and the efficiency.

    Args:
        seconds, costs: see `take_apart`.
        samples: how many samples one pass covers.
        where: what ran, for the methods ("256 samples in batches of 32, packed engine").
        seed: of the resampling.
    """
    runs = len(seconds["pruned"])
    taken = f"{where}; mean of {runs} runs; passes take turns in random order after a warm-up"

    def figure(name: str, variant: str, values: NDArray[np.float64], step: Step | None) -> Figure:
        milliseconds = [float(value) for value in values * 1000 / samples]
        what = step.method if step else "wall time of a whole pass over its samples"
        return Figure(
            name=name,
            variant=variant,
            unit="ms",
            value=float(np.mean(milliseconds)),
            provenance=step.provenance if step else "measured",
            method=f"{what}; {taken}",
            per="sample",
            better="lower" if step is None else None,
            n=runs,
            aggregate="mean",
            interval=mean_interval(milliseconds, seed=seed),
            spread=spread(milliseconds),
            samples=milliseconds,
        )

    parts = take_apart(seconds, costs)
    steps = [figure(f"anatomy_{step.key}", "pruned", parts[step.key], step) for step in STEPS]
    ends = [figure("anatomy_time", name, seconds[name], None) for name in ("unpruned", "pruned")]
    series = _waterfall([ends[0], *steps, ends[1]], taken)
    return Part(figures=[*ends, *steps, *_ratios(seconds, costs, taken, seed)], series=[series])


def _waterfall(bars: list[Figure], taken: str) -> Series:
    return Series(
        name="speedup_anatomy",
        variant="pruned",
        baseline="unpruned",
        unit="ms",
        x_name="step",
        x=[float(at) for at in range(len(bars))],
        y=[bar.value for bar in bars],
        low=[bar.interval.low if bar.interval else None for bar in bars],
        high=[bar.interval.high if bar.interval else None for bar in bars],
        labels=["unpruned", *(step.label for step in STEPS), "pruned"],
        method="first and last: time per sample; between them, what each step adds to it or takes"
        f" from it, together their difference; {taken}; the anatomy_ figures say how each step"
        " was taken",
    )


def _ratios(seconds: Seconds, costs: Costs, taken: str, seed: int) -> list[Figure]:
    """How many times fewer multiply-adds, how many times less time, and their quotient."""
    runs = len(seconds["pruned"])
    flops_ratio = 1 / costs.left
    time_ratio = float(seconds["unpruned"].mean() / seconds["pruned"].mean())
    between = ratio_interval(list(seconds["unpruned"]), list(seconds["pruned"]), seed=seed)
    scaled = between and Interval(
        low=between.low / flops_ratio,
        high=between.high / flops_ratio,
        level=between.level,
        method=between.method,
    )
    rows = (
        (
            "flops_ratio",
            flops_ratio,
            None,
            "unpruned over pruned multiply-adds of the timed samples, formula at each layer's"
            " true lengths (FLOPs: the same ratio; padding and pruning's own additions left out)",
        ),
        ("time_ratio", time_ratio, between, "unpruned over pruned time"),
        (
            "efficiency",
            time_ratio / flops_ratio,
            scaled,
            "time_ratio / flops_ratio: 1 means that every saved multiply-add saved its time",
        ),
    )
    return [
        Figure(
            name=name,
            variant="pruned",
            unit="1",
            value=value,
            provenance="analytic" if name == "flops_ratio" else "measured",
            method=method if name == "flops_ratio" else f"{method}; {taken}",
            better="higher",
            n=None if name == "flops_ratio" else runs,
            interval=interval,
        )
        for name, value, interval, method in rows
    ]
