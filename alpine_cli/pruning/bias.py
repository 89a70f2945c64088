"""What attention logits gain or lose by where tokens stand and how many they stand for.

Encoders with absolute position embeddings need no `PositionBias`: their tokens carry positions.
ModernBERT's local layers and T5's relative biases look at positions in every layer, so once tokens
leave, a token must still know where it stood. `TokenState.position_T` holds that: a kept token's
own position in the input, a merged token's mean of those it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from alpine_cli.pruning.packed import Ragged, unpack

__all__ = ["BiasRule", "LogitBias", "PositionBias", "SizeBias", "SumOfBiases", "Window"]


class BiasRule(Protocol):
    """Positions → additive logits."""

    def __call__(self, position_BL: Tensor) -> Tensor:
        """(..., L) float32 positions → (..., H or 1, L, L); rows are queries, −inf hides a key."""


@dataclass(frozen=True)
class Window:
    """Local attention: keys further than `half_width` positions from the query are hidden."""

    half_width: float

    def __call__(self, position_BL: Tensor) -> Tensor:
        """See `BiasRule`; one map for all heads."""
        distance = (position_BL[..., :, None] - position_BL[..., None, :]).abs()
        hidden = torch.zeros_like(distance).masked_fill_(distance > self.half_width, -torch.inf)
        return hidden.unsqueeze(-3)


class LogitBias(Protocol):
    """What is added to the attention logits of the tokens at hand, in whichever layout."""

    def of_rows(self, start: int, stop: int) -> Tensor:
        """For the sequence in rows [start, stop): broadcastable to (H, n, n)."""

    def of_grid(self, ragged: Ragged) -> Tensor:
        """Over left-aligned padding: broadcastable to (B, H, L, L)."""

    def key_T(self) -> Tensor | None:
        """(T,) finite, where it depends on the key alone; None where it does not.

        Kernels that take no bias can be given such a one in other ways, see `attention.fused`.
        """


@dataclass(frozen=True)
class PositionBias:
    """A rule, bound to the positions of the T tokens at hand."""

    rule: BiasRule
    position_T: Tensor

    def of_rows(self, start: int, stop: int) -> Tensor:
        """(H or 1, n, n) of the sequence that stands in rows [start, stop)."""
        return self.rule(self.position_T[start:stop])

    def of_grid(self, ragged: Ragged) -> Tensor:
        """(B, H or 1, L, L) over left-aligned padding.

        Padding stands where its sequence begins, so that no query finds every key hidden.
        """
        grid_BL = unpack(self.position_T, ragged)
        return self.rule(torch.where(ragged.mask_BL, grid_BL, grid_BL[:, :1]))

    def key_T(self) -> None:
        """None: it depends on where the query stands."""
        return


@dataclass(frozen=True)
class SizeBias:
    """Proportional attention (Bolya et al. 2023, eq. 1): a key weighs as many tokens as it is."""

    size_T: Tensor

    def of_rows(self, start: int, stop: int) -> Tensor:
        """(1, 1, n) logarithms of the keys' sizes."""
        return self.size_T[start:stop].log()[None, None]

    def of_grid(self, ragged: Ragged) -> Tensor:
        """(B, 1, 1, L); 0 at padding."""
        return unpack(self.size_T.log(), ragged)[:, None, None]

    def key_T(self) -> Tensor:
        """(T,) logarithms of the keys' sizes."""
        return self.size_T.log()


@dataclass(frozen=True)
class SumOfBiases:
    """Several at once."""

    terms: tuple[LogitBias, ...]

    def of_rows(self, start: int, stop: int) -> Tensor:
        """See `LogitBias.of_rows`."""
        return _sum([term.of_rows(start, stop) for term in self.terms])

    def of_grid(self, ragged: Ragged) -> Tensor:
        """See `LogitBias.of_grid`."""
        return _sum([term.of_grid(ragged) for term in self.terms])

    def key_T(self) -> Tensor | None:
        """The sum, where every term depends on the key alone."""
        keys = [term.key_T() for term in self.terms]
        known = [key_T for key_T in keys if key_T is not None]
        return _sum(known) if len(known) == len(keys) else None


def _sum(terms: list[Tensor]) -> Tensor:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
