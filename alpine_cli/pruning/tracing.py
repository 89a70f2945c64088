"""What a trace records: which tokens every layer kept and merged, why, and at which length it ran.

Recording keeps the tensors a forward pass made anyway (layouts, plans, scores); without a trace
they are let go as soon as they are used. Everything below is worked out from them when it is read,
on the host, so that a traced forward pass computes what an untraced one does.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.plan import PruningPlan, TokenState
from alpine_cli.pruning.run import PruningRun
from alpine_cli.pruning.selection import TOLERANCE, protected_tokens, score_statistics

__all__ = ["SampleTrace", "Trace", "TracedForward", "TracedLayer"]


@dataclass(frozen=True)
class SampleTrace:
    """One sample in one layer. Positions are columns of the model's (B, L) input.

    `entered`, `keeps` and `scores` speak of the same tokens in the same order: those that enter
    the layer. A merged token has no column of its own and is called −(l + 1), l being the layer
    that made it.

    Attributes:
        length_in: tokens that enter the layer, at which its attention ran.
        length_out: tokens that leave it, at which its feed-forward part ran.
        kept: input positions that are still tokens of their own.
        merged: input positions that this layer removed (into the merged token, or altogether
            under merge="none").
        merged_tokens_removed: layers whose merged token this layer removed in turn.
        entered: the tokens that enter, by input position or −(l + 1).
        keeps: whether each of them stays; None if the layer does not prune.
        scores: mean attention that each of them received (see `scoring`); None if the layer does
            not prune or followed a given plan.
        band: lowest and highest score at which a token that is not protected stays, the rounding
            tolerance included (see `selection`); None under other rules, without scores, or if
            all are protected.
    """

    length_in: int
    length_out: int
    kept: tuple[int, ...]
    merged: tuple[int, ...]
    merged_tokens_removed: tuple[int, ...]
    entered: tuple[int, ...]
    keeps: tuple[bool, ...] | None
    scores: tuple[float, ...] | None
    band: tuple[float, float] | None


@dataclass(frozen=True)
class TracedLayer:
    """One layer of one forward pass."""

    index: int
    prunes: bool
    samples: tuple[SampleTrace, ...]


@dataclass(frozen=True)
class TracedForward:
    """One forward pass; sample b is row b of the batch.

    Attributes:
        tokens: entry l, the tokens entering layer l; the last entry, those leaving the encoder.
        plans: by layer, of the layers that pruned.
        scores: by layer, (T,) float32.
        config: what pruned them.
        backends: by layer, what computed its attention (`attention.BACKENDS`, or the engine's own
            way: "grid", "eager"; "none" where there was no token).
    """

    tokens: tuple[TokenState, ...]
    plans: dict[int, PruningPlan]
    scores: dict[int, Tensor]
    config: PruningConfig
    backends: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: PruningRun) -> TracedForward:
        """Freeze what a finished run holds."""
        return cls(
            tuple(run.tokens), dict(run.plans), dict(run.scores), run.config, dict(run.backends)
        )

    @property
    def lengths(self) -> list[tuple[int, ...]]:
        """Per layer, the length of every sample entering it; last, those leaving the encoder."""
        return [tokens.ragged.lengths for tokens in self.tokens]

    @property
    def ffn_lengths(self) -> list[tuple[int, ...]]:
        """Per layer, the length of every sample in its feed-forward part."""
        return self.lengths[1:]

    def removed_in(self) -> Tensor:
        """(B, L) int64 on the host: the layer that removed the token of each input column.

        The number of layers where the token stayed to the end, −1 where there is none. L reaches
        to the last column that holds a token.
        """
        first = self.tokens[0]
        depth = len(self.tokens) - 1
        width = int(first.source_T.max()) + 1 if first.ragged.total else 0
        layer_BL = torch.full((first.ragged.batch, width), -1, device="cpu")
        layer_BL[first.ragged.segment_T.cpu(), first.source_T.cpu()] = depth
        for layer, plan in self.plans.items():
            before = self.tokens[layer]
            gone_T = ~plan.keep_T & (before.source_T >= 0)
            row, column = before.ragged.segment_T[gone_T], before.source_T[gone_T]
            layer_BL[row.cpu(), column.cpu()] = layer
        return layer_BL

    @property
    def layers(self) -> list[TracedLayer]:
        """Per layer, what became of every sample's tokens."""
        return [self._layer(index) for index in range(len(self.tokens) - 1)]

    def _layer(self, index: int) -> TracedLayer:
        before, after = self.tokens[index], self.tokens[index + 1]
        plan, scores_T = self.plans.get(index), self.scores.get(index)
        sources_in, sources_out = _split(before.source_T, before), _split(after.source_T, after)
        keeps = _split(plan.keep_T, before) if plan is not None else None
        scores = _split(scores_T, before) if scores_T is not None else None
        bands = self._bands(before, scores_T)
        samples = []
        for b, sources in enumerate(sources_in):
            removed = (
                []
                if keeps is None
                else [s for s, k in zip(sources, keeps[b], strict=True) if not k]
            )
            samples.append(
                SampleTrace(
                    length_in=len(sources),
                    length_out=len(sources_out[b]),
                    kept=tuple(s for s in sources_out[b] if s >= 0),
                    merged=tuple(s for s in removed if s >= 0),
                    merged_tokens_removed=tuple(-s - 1 for s in removed if s < 0),
                    entered=tuple(sources),
                    keeps=None if keeps is None else tuple(keeps[b]),
                    scores=None if scores is None else tuple(scores[b]),
                    band=bands[b],
                )
            )
        return TracedLayer(index, plan is not None, tuple(samples))

    def _bands(
        self, tokens: TokenState, scores_T: Tensor | None
    ) -> list[tuple[float, float] | None]:
        """Per sample, the scores between which a token stayed, where the rule is a band."""
        if scores_T is None or self.config.rule != "band":
            return [None] * tokens.ragged.batch
        protected_T = protected_tokens(tokens, self.config)
        _, mean_B, sigma_B = score_statistics(scores_T, protected_T, tokens.ragged)
        width_B = self.config.alpha * sigma_B + TOLERANCE * mean_B
        counts_B = tokens.ragged.sum_by_sequence((~protected_T).to(torch.int64))
        ends = torch.stack((mean_B - width_B, mean_B + width_B), dim=1).tolist()
        return [
            (low, high) if counted else None
            for (low, high), counted in zip(ends, counts_B.tolist(), strict=True)
        ]


def _split(values_T: Tensor, tokens: TokenState) -> list[list]:
    """Per sample, its packed values on the host."""
    values, out, start = values_T.tolist(), [], 0
    for length in tokens.ragged.lengths:
        out.append(values[start : start + length])
        start += length
    return out


@dataclass
class Trace:
    """The forward passes made while tracing, oldest first."""

    calls: list[TracedForward] = field(default_factory=list)
