"""One forward pass of a pruned encoder: the state that travels through it, made explicit.

A `PruningRun` is created when the base model is called and handed from the model to its encoder,
layers and attention functions as the keyword argument `RUN` (`LAYER_RUN` below a layer).
Nothing is stored on modules, so concurrent and nested calls do not meet.

Plans are kept by layer and never made twice: when gradient checkpointing runs a layer again in
the backward pass, it meets the plan of the first time. A run can also be given the plans of an
earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from alpine_cli.pruning.attention import grid_probabilities
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.engines import Engine
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import PruningPlan, TokenState, tokens_after

__all__ = ["LAYER_RUN", "RUN", "LayerRun", "PruningRun"]

RUN = "alpine_run"
LAYER_RUN = "alpine_layer_run"


@dataclass
class PruningRun:
    """State of one forward pass.

    Attributes:
        config: what to prune.
        engine: how.
        pruned_layers: indices of the layers that prune.
        tokens: entry l holds the tokens that enter layer l; entry 0 the model's input.
        plans: by layer; filled as layers run, or given beforehand.
        scores: by layer, (T,) float32; those of the layers that prune.
        want_attentions: whether attention functions return probabilities.
        keeps_scores: whether `scores` is kept after use (tracing).
    """

    config: PruningConfig
    engine: Engine
    pruned_layers: tuple[int, ...]
    tokens: list[TokenState]
    plans: dict[int, PruningPlan] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)
    want_attentions: bool = False
    keeps_scores: bool = False

    def at(self, layer: int) -> LayerRun:
        """The view of this run that layer `layer` works with."""
        return LayerRun(self, layer)

    def give_plans(self, plans: Mapping[int, PruningPlan]) -> None:
        """Prune as `plans` say instead of by scores."""
        self.plans.update(plans)


@dataclass(frozen=True)
class LayerRun:
    """One layer's view of a run; entered once per forward (and again by checkpointing)."""

    run: PruningRun
    layer: int

    @property
    def prunes(self) -> bool:
        """Whether this layer prunes."""
        return self.layer in self.run.pruned_layers

    @property
    def tokens(self) -> TokenState:
        """The tokens that enter this layer."""
        return self.run.tokens[self.layer]

    @property
    def ragged(self) -> Ragged:
        """Their layout."""
        return self.tokens.ragged

    def attend(
        self, q_SHNd: Tensor, k_SHNd: Tensor, v_SHNd: Tensor, scaling: float, dropout: float
    ) -> tuple[Tensor, Tensor | None]:
        """Attended values (S, N, H, d) and, where they were asked for, probabilities (B, H, L, L).

        Scores are computed only if this layer prunes and its plan is not known yet.
        """
        wants_scores = self.prunes and self.layer not in self.run.plans
        out, scores_T = self.run.engine.attend(
            q_SHNd,
            k_SHNd,
            v_SHNd,
            self.ragged,
            scaling=scaling,
            dropout=dropout,
            want_scores=wants_scores,
        )
        if scores_T is not None:
            self.run.scores[self.layer] = scores_T
        return out, self._probabilities(q_SHNd, k_SHNd, scaling)

    def _probabilities(self, q_SHNd: Tensor, k_SHNd: Tensor, scaling: float) -> Tensor | None:
        if not self.run.want_attentions:
            return None
        q_BHLd, k_BHLd = (self.run.engine.to_grid(x, self.ragged) for x in (q_SHNd, k_SHNd))
        return grid_probabilities(q_BHLd, k_BHLd, self.ragged, scaling=scaling)

    def shorten(self, hidden_SND: Tensor) -> Tensor:
        """Between attention and feed-forward: plan, apply, note the tokens of the next layer."""
        after = self.tokens
        if self.prunes:
            if self.layer not in self.run.plans:
                scores_T = self.run.scores[self.layer]
                self.run.plans[self.layer] = self.run.engine.plan(
                    scores_T, self.tokens, self.run.config
                )
                if not self.run.keeps_scores:
                    del self.run.scores[self.layer]
            plan = self.run.plans[self.layer]
            hidden_SND = self.run.engine.shorten(hidden_SND, plan)
            after = tokens_after(self.tokens, plan, self.layer)
        if len(self.run.tokens) == self.layer + 1:  # else the layer runs again in backward
            self.run.tokens.append(after)
        return hidden_SND
