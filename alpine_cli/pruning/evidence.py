"""What a layer knows when it decides which tokens go."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import TokenState
from alpine_cli.pruning.selection import protected_tokens

__all__ = ["Evidence"]


@dataclass(frozen=True)
class Evidence:
    """The tokens of one layer, between its attention and its feed-forward part.

    Attributes:
        tokens: what they are.
        hidden_TD: (T, D), without gradient; None where only scores decide.
        scores_T: (T,) float32, as the configured score defines them; None for rules that read
            none.
        layer: index of the layer.
        step: how many layers pruned before this one.
    """

    tokens: TokenState
    hidden_TD: Tensor | None
    scores_T: Tensor | None
    layer: int
    step: int

    @property
    def ragged(self) -> Ragged:
        """Layout of the T tokens."""
        return self.tokens.ragged

    def protected_T(self, config: PruningConfig) -> Tensor:
        """(T,) bool: the tokens that never go."""
        return protected_tokens(self.tokens, config)

    def require_scores(self) -> Tensor:
        """The scores, for rules that rest on them."""
        assert self.scores_T is not None  # attention of this layer ran before, and was asked
        return self.scores_T

    def require_hidden(self) -> Tensor:
        """The hidden states, for merges that compare tokens."""
        assert self.hidden_TD is not None
        return self.hidden_TD
