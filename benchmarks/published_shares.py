"""Prune exactly as many tokens per layer as the published runs did, on any weights.

Random weights attend almost uniformly, so the band at α = 1 removes other shares than on a
fine-tuned model, and costs follow the shares. `ScheduledBand` wraps an engine and, before each
plan, sets α to the value at which this layer keeps its published share of the batch's tokens.
Scoring, selection, merging and repacking are the engine's own and run in full. α is found when a
layer first sees sequences of these very lengths, and remembered: a user's α is a constant, too. So
with the same batches again it costs nothing; with fresh ones its quantile counts against pruning,
unless `settle` was called.

The lengths are those of the ALPINE replication package (BigCloneBench, mean per layer over
batches of 8, padded to the longest). The length after layer 11 was not recorded: it is continued
with the geometric mean of the other pruned layers' shares.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.engines import Engine
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.plan import PruningPlan, TokenState
from alpine_cli.pruning.selection import score_statistics

__all__ = ["LENGTHS_ENTERING", "ScheduledBand", "shares", "shares_at_depth"]

LENGTHS_ENTERING: dict[tuple[str, str], tuple[float, ...]] = {
    ("codebert", "all"): (
        512.0, 410.0, 376.8, 360.3, 336.7, 314.8, 284.2, 235.7, 204.0, 170.1, 137.8, 101.6,
    ),
    ("codebert", "even"): (
        512.0, 420.2, 420.2, 404.6, 404.6, 360.1, 360.1, 343.9, 343.9, 302.0, 302.0, 266.6,
    ),
    ("codebert", "odd"): (
        512.0, 512.0, 439.7, 439.7, 374.9, 374.9, 358.9, 358.9, 331.9, 331.9, 290.1, 290.1,
    ),
    ("unixcoder", "all"): (
        512.0, 490.6, 460.0, 418.8, 363.0, 320.4, 282.9, 258.4, 219.8, 188.2, 156.1, 143.4,
    ),
}  # fmt: skip
"""Mean sequence length entering layers 0..11, by model and layers (BigCloneBench)."""


def shares(model: str, layers: str) -> dict[int, float]:
    """Share of tokens that each pruned layer passes on, by layer index."""
    lengths = LENGTHS_ENTERING[model, layers]
    pruned = PruningConfig(layers=layers).resolve(len(lengths))
    known = {l: lengths[l + 1] / lengths[l] for l in pruned if l + 1 < len(lengths)}  # noqa: E741
    typical = math.exp(sum(map(math.log, known.values())) / len(known))
    return {layer: known.get(layer, typical) for layer in pruned}


def shares_at_depth(model: str, layers: str, depth: int) -> dict[int, float]:
    """The same for an encoder of another depth: what is left falls along the same curve.

    After a given part of its pruned layers an encoder of any depth keeps what the published one of
    twelve layers kept after that part of its own; between two of those, by their geometric mean.
    """
    published = shares(model, layers)
    pruned = PruningConfig(layers=layers).resolve(depth)
    if len(pruned) == len(published):
        return dict(zip(pruned, published.values(), strict=True))
    steps = [0.0, *itertools.accumulate(map(math.log, published.values()))]
    left = [
        _interpolated(steps, len(published) * step / len(pruned)) for step in range(len(pruned) + 1)
    ]
    return {
        layer: math.exp(after - before)
        for layer, (before, after) in zip(pruned, itertools.pairwise(left), strict=True)
    }


def _interpolated(values: Sequence[float], at: float) -> float:
    """The value at a place between entries, linearly."""
    below = min(int(at), len(values) - 2)
    return values[below] + (at - below) * (values[below + 1] - values[below])


class ScheduledBand:
    """An engine whose band is as wide, layer by layer, as a given share of tokens asks for."""

    def __init__(self, engine: Engine, shares: Mapping[int, float]) -> None:
        self._engine = engine
        self._shares = [shares[layer] for layer in sorted(shares)]
        self._turn = 0
        self._alphas: dict[tuple[int, tuple[int, ...]], float] = {}
        self._settled: list[float] | None = None
        self.unseen = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def settle(self) -> None:
        """From now on lengths never seen take the geometric mean of their layer's α so far.

        For rounds whose lengths vary by chance, as dropout and sums in no fixed order make them:
        a quantile sought in the middle of a timed round would be counted against pruning. `unseen`
        counts the plans that this was needed for.
        """
        by_turn: list[list[float]] = [[] for _ in self._shares]
        for (turn, _), alpha in self._alphas.items():
            by_turn[turn].append(math.log(alpha))
        self._settled = [math.exp(sum(found) / len(found)) for found in by_turn]

    def plan(self, evidence: Evidence, config: PruningConfig) -> PruningPlan:
        """Plan with the α that keeps this layer's share; layers take turns in order."""
        turn = self._turn % len(self._shares)
        self._turn += 1
        key = (turn, evidence.ragged.lengths)
        if key not in self._alphas and self._settled is not None:
            self.unseen += 1
            return self._engine.plan(evidence, replace(config, alpha=self._settled[turn]))
        if key not in self._alphas:
            scores_T, protected_T = evidence.require_scores(), evidence.protected_T(config)
            found = _alpha_for(self._shares[turn], scores_T, protected_T, evidence.tokens)
            self._alphas[key] = found
        return self._engine.plan(evidence, replace(config, alpha=self._alphas[key]))


def _alpha_for(share: float, scores_T: Tensor, protected_T: Tensor, tokens: TokenState) -> float:
    ragged = tokens.ragged
    deviation_T, _, sigma_B = score_statistics(scores_T, protected_T, ragged)
    z_T = deviation_T.abs() / sigma_B.clamp(min=1e-12)[ragged.segment_T]
    free = z_T[~protected_T]
    protected = ragged.total - free.numel()
    # every sequence that loses tokens gains a merged one
    stay = round(share * ragged.total) - protected - ragged.batch
    if free.numel() == 0 or stay >= free.numel():
        return 1e6
    return max(float(torch.kthvalue(free, max(stay, 1)).values), 1e-6)
