"""How many tokens were left: mean sequence lengths per layer, summed up over forward passes.

Read off `alpine_cli.trace`, which holds the lengths on the host already: no synchronisation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["TokensKept", "TracedLengths"]


class TracedLengths(Protocol):
    """What is used of a traced forward pass: per layer (and last, after it) all row lengths."""

    @property
    def lengths(self) -> Sequence[Sequence[int]]:
        """Entry l: the length of every row entering layer l; last: leaving the encoder."""


@dataclass
class TokensKept:
    """Sums of row lengths; a row is one function."""

    rows: int = 0
    sums: list[int] = field(default_factory=list)

    def add(self, call: TracedLengths) -> None:
        """Count one forward pass."""
        lengths = call.lengths
        self.merge(TokensKept(len(lengths[0]), [sum(entry) for entry in lengths]))

    def merge(self, other: TokensKept) -> None:
        """Count what another process or another part counted."""
        if not other.rows:
            return
        if not self.sums:
            self.sums = [0] * len(other.sums)
        self.rows += other.rows
        self.sums = [mine + theirs for mine, theirs in zip(self.sums, other.sums, strict=True)]

    def take(self) -> TokensKept:
        """What was counted so far; counting starts anew."""
        taken = TokensKept(self.rows, self.sums)
        self.rows, self.sums = 0, []
        return taken

    def summary(self) -> dict[str, float]:
        """Nothing where nothing was counted, else

        tokens_in: mean length of a row entering the encoder.
        tokens_out: mean length leaving it.
        tokens_kept: share (0 to 1) of the tokens that the feed-forward parts of all layers ran
            on, relative to an unpruned run.
        """
        if not self.rows or not self.sums[0]:
            return {}
        entering, after = self.sums[0], self.sums[1:]
        return {
            "tokens_in": entering / self.rows,
            "tokens_out": self.sums[-1] / self.rows,
            "tokens_kept": sum(after) / (len(after) * entering) if after else 1.0,
        }

    def per_layer(self) -> list[float]:
        """Mean length entering each layer, and last the length leaving the encoder."""
        return [total / self.rows for total in self.sums] if self.rows else []
