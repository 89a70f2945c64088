"""What every attention back end takes and gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged

__all__ = ["Attend", "Attended"]


@dataclass(frozen=True)
class Attended:
    """What one attention returns.

    Attributes:
        out_THd: (T, H, d) attended values.
        scores_T: (T,) float32 mean attention received; None unless asked for.
    """

    out_THd: Tensor
    scores_T: Tensor | None


class Attend(Protocol):
    """Attention of every sequence to itself.

    q, k and v are (T, H, d); `scaling` multiplies the logits; `dropout` is the probability with
    which attention probabilities are dropped (0 outside training); `score` says which scores are
    wanted, if any; `bias` is added to the logits; `causal` hides later keys. T is at least 1.
    """

    def __call__(
        self,
        q_THd: Tensor,
        k_THd: Tensor,
        v_THd: Tensor,
        ragged: Ragged,
        *,
        scaling: float,
        dropout: float,
        score: Score | None,
        bias: LogitBias | None = None,
        causal: bool = False,
    ) -> Attended:
        """Attend, and score the tokens if `score` is given."""
