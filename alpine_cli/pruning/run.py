"""One forward pass of a pruned encoder: the state that travels through it, made explicit.

A `PruningRun` is created when the base model is called and handed from the model to its encoder,
layers and attention functions as the keyword argument `RUN` (`LAYER_RUN` below a layer).
Nothing is stored on modules, so concurrent and nested calls do not meet.

Plans are kept by layer and never made twice: when gradient checkpointing runs a layer again in
the backward pass, it does the same work and meets the plan of the first time. A run can also be
given the plans of an earlier one; it then computes no scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch.nn.functional as F
from torch import Tensor, nn

from alpine_cli.pruning.attention import grid_probabilities
from alpine_cli.pruning.bias import BiasRule, LogitBias, PositionBias, SizeBias, SumOfBiases
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.engines import Engine
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import PruningPlan, TokenState, tokens_after
from alpine_cli.pruning.selection import plan_read

__all__ = ["LAYER_RUN", "RUN", "LayerRun", "PruningRun"]

RUN = "alpine_run"
LAYER_RUN = "alpine_layer_run"


@dataclass
class PruningRun:
    """State of one forward pass.

    Attributes:
        model: the base model that runs.
        config: what to prune.
        engine: how.
        pruned_layers: indices of the layers that prune by their scores.
        first_only: index of the layer that only the tokens that are read leave, or None: the first
            ones, in causal models see `TokenState.read_T`.
        tokens: entry l holds the tokens that enter layer l; entry 0 the model's input.
        given_plans: by layer, plans of an earlier run to follow instead of scores; or None.
        plans: by layer; filled as layers run.
        scores: by layer, (T,) float32; those of the layers that prune.
        backends: by layer, what computed its attention, see `engines.EngineAttended`. A layer that
            runs again stays with it.
        want_attentions: whether attention functions return probabilities.
        keeps_scores: whether `scores` is kept after use (tracing).
        depth: how many layers the model has.
        columns: in causal models, L of the input, in whose columns hidden states come back.
    """

    model: nn.Module
    config: PruningConfig
    engine: Engine
    pruned_layers: tuple[int, ...]
    tokens: list[TokenState]
    first_only: int | None = None
    given_plans: Mapping[int, PruningPlan] | None = None
    plans: dict[int, PruningPlan] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)
    backends: dict[int, str] = field(default_factory=dict)
    want_attentions: bool = False
    keeps_scores: bool = False
    depth: int = 0
    columns: int = 0

    def at(self, layer: int) -> LayerRun:
        """The view of this run that layer `layer` works with."""
        return LayerRun(self, layer)

    def leave(self, hidden_SND: Tensor, tokens: TokenState) -> Tensor:
        """Hidden states of these tokens as the caller gets them: (B, L', D), left-aligned.

        In causal models (B, L, D), each token in the column of its place. Zeros elsewhere.
        """
        ragged, place_T = tokens.ragged, tokens.place_T
        if place_T is None:
            return self.engine.leave(hidden_SND, ragged)
        hidden_TD = self.engine.tokens_of(hidden_SND, ragged)
        out = hidden_TD.new_zeros(ragged.batch * self.columns, hidden_TD.shape[1])
        out = out.index_copy(0, ragged.segment_T * self.columns + place_T, hidden_TD)
        return out.view(ragged.batch, self.columns, -1)


@dataclass(frozen=True)
class LayerRun:
    """One layer's view of a run; entered once per forward (and again by checkpointing)."""

    run: PruningRun
    layer: int

    @property
    def prunes(self) -> bool:
        """Whether this layer prunes by its scores."""
        # not `in`: torch.compile may hold the layer for a symbol, which a tuple does not contain
        return any(self.layer == pruned for pruned in self.run.pruned_layers) and (
            not self.is_first_only
        )

    @property
    def is_first_only(self) -> bool:
        """Whether only the tokens that heads read leave this layer."""
        return self.layer == self.run.first_only

    @property
    def tokens(self) -> TokenState:
        """The tokens that enter this layer."""
        return self.run.tokens[self.layer]

    @property
    def ragged(self) -> Ragged:
        """Their layout."""
        return self.tokens.ragged

    def attend(
        self,
        q_SHNd: Tensor,
        k_SHNd: Tensor,
        v_SHNd: Tensor,
        scaling: float,
        dropout: float,
        rule: BiasRule | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Attended values (S, N, H, d) and, where they were asked for, probabilities (B, H, L, L).

        Scores are computed only if this layer prunes and its plan was not given. `rule` biases
        the logits by the tokens' positions, which the model's family must track then.
        """
        bias = self._bias(rule)
        config = self.run.config
        wants_scores = self.prunes and config.needs_scores and self.run.given_plans is None
        out, scores_T, backend = self.run.engine.attend(
            q_SHNd,
            k_SHNd,
            v_SHNd,
            self.ragged,
            scaling=scaling,
            dropout=dropout,
            score=config.score if wants_scores else None,
            bias=bias,
            causal=self.tokens.causal,
            backend=self.run.backends.get(self.layer),
        )
        self.run.backends[self.layer] = backend
        if scores_T is not None:
            self.run.scores[self.layer] = scores_T
        return out, self._probabilities(q_SHNd, k_SHNd, scaling, bias)

    def _bias(self, rule: BiasRule | None) -> LogitBias | None:
        """What visibility, positions and sizes add to the logits."""
        terms: list[LogitBias] = []
        if self.tokens.visibility is not None:
            terms.append(self.tokens.visibility)
        if rule is not None:
            assert self.tokens.position_T is not None
            terms.append(PositionBias(rule, self.tokens.position_T))
        # up to and including the first layer that prunes, every token is one token
        if self.tokens.size_T is not None and self.layer > self.run.pruned_layers[0]:
            terms.append(SizeBias(self.tokens.size_T))
        if len(terms) < 2:
            return terms[0] if terms else None
        return SumOfBiases(tuple(terms))

    def _probabilities(
        self, q_SHNd: Tensor, k_SHNd: Tensor, scaling: float, bias: LogitBias | None
    ) -> Tensor | None:
        if not self.run.want_attentions:
            return None
        q_BHLd, k_BHLd = (self.run.engine.to_grid(x, self.ragged) for x in (q_SHNd, k_SHNd))
        return grid_probabilities(
            q_BHLd,
            k_BHLd,
            self.ragged,
            scaling=scaling,
            bias=bias,
            causal=self.tokens.causal,
        )

    def shorten(self, hidden_SND: Tensor) -> Tensor:
        """Between attention and feed-forward: plan, apply, note the tokens of the next layer."""
        after = self.tokens
        if self.prunes or self.is_first_only:
            plan = self._plan(hidden_SND)
            hidden_SND = self.run.engine.shorten(hidden_SND, plan)
            after = tokens_after(self.tokens, plan, self.layer)
        if len(self.run.tokens) == self.layer + 1:  # else the layer runs again in backward
            self.run.tokens.append(after)
        return hidden_SND

    def refill(self, hidden_SND: Tensor) -> Tensor:
        """What leaves the last layer, filled with zeros to the rows that entered the model.

        For models that insist on giving back the shape they got; nobody reads the zeros.
        """
        if self.layer + 1 < self.run.depth:
            return hidden_SND
        first = self.run.tokens[0]
        rows = self.run.engine.enter(first.source_T, first.ragged).shape[1]
        return F.pad(hidden_SND, (0, 0, 0, rows - hidden_SND.shape[1]))

    def _plan(self, hidden_SND: Tensor) -> PruningPlan:
        """This layer's plan: made the first time, the same ever after."""
        run, layer = self.run, self.layer
        scores_T = run.scores.get(layer) if run.keeps_scores else run.scores.pop(layer, None)
        if layer not in run.plans:
            if self.is_first_only:
                run.plans[layer] = plan_read(self.tokens)
            elif run.given_plans is not None:
                run.plans[layer] = run.given_plans[layer]
            else:
                hidden_TD = None
                if run.config.merge == "nearest":
                    hidden_TD = run.engine.tokens_of(hidden_SND.detach(), self.ragged)
                step = run.pruned_layers.index(layer)
                evidence = Evidence(self.tokens, hidden_TD, scores_T, layer, step)
                run.plans[layer] = run.engine.plan(evidence, run.config)
        return run.plans[layer]
