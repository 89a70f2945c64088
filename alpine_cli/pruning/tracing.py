"""What a trace records: which tokens every layer kept and merged, and at which length it ran."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from alpine_cli.pruning.plan import PruningPlan, TokenState
from alpine_cli.pruning.run import PruningRun

__all__ = ["SampleTrace", "Trace", "TracedForward", "TracedLayer"]


@dataclass(frozen=True)
class SampleTrace:
    """One sample in one layer. Positions are columns of the model's (B, L) input.

    Attributes:
        length_in: tokens that enter the layer, at which its attention ran.
        length_out: tokens that leave it, at which its feed-forward part ran.
        kept: input positions that are still tokens of their own.
        merged: input positions that this layer removed (into the merged token, or altogether
            under merge="none").
        merged_tokens_removed: layers whose merged token this layer removed in turn.
        scores: mean attention received by each token that entered, in order; None if the layer
            does not prune.
    """

    length_in: int
    length_out: int
    kept: tuple[int, ...]
    merged: tuple[int, ...]
    merged_tokens_removed: tuple[int, ...]
    scores: tuple[float, ...] | None


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
    """

    tokens: tuple[TokenState, ...]
    plans: dict[int, PruningPlan]
    scores: dict[int, Tensor]

    @classmethod
    def of(cls, run: PruningRun) -> TracedForward:
        """Freeze what a finished run holds."""
        return cls(tuple(run.tokens), dict(run.plans), dict(run.scores))

    @property
    def lengths(self) -> list[tuple[int, ...]]:
        """Per layer, the length of every sample entering it; last, those leaving the encoder."""
        return [tokens.ragged.lengths for tokens in self.tokens]

    @property
    def ffn_lengths(self) -> list[tuple[int, ...]]:
        """Per layer, the length of every sample in its feed-forward part."""
        return self.lengths[1:]

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
                    scores=None if scores is None else tuple(scores[b]),
                )
            )
        return TracedLayer(index, plan is not None, tuple(samples))


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
