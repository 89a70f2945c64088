"""Which tokens may attend to which, where that is not simply all to all; and how it follows them.

A mask such as GraphCodeBERT's graph-guided one belongs to the tokens of the input. When tokens
leave, their rows and columns leave with them; tokens that share a slot share their rights: a merged
token attends to whatever one of its members could attend to, and is attended by whoever could
attend to one of them. A token that is left with nobody to attend to (because removed tokens went
nowhere) attends to itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from alpine_cli.pruning.packed import Ragged, unpack

__all__ = ["Visibility", "allowed_pairs", "attended_tokens"]


def allowed_pairs(attention_mask: Tensor, batch: int) -> Tensor:
    """(B, L, L) bool of a 4-D attention mask: bool, or added to the logits (0 where allowed).

    Args:
        attention_mask: (B or 1, 1, L, L), rows are queries.
        batch: B.
    """
    mask = attention_mask[:, 0]
    if mask.dtype != torch.bool:
        # Masks hide keys by −inf or by the lowest number of some dtype.
        mask = mask > -1e4 if mask.is_floating_point() else mask != 0
    return mask.expand(batch, *mask.shape[1:])


def attended_tokens(allowed_BLL: Tensor) -> Tensor:
    """(B, L) bool: positions that at least one other or they themselves attend to.

    The others are padding: no token of the sequence takes notice of them.
    """
    return allowed_BLL.any(dim=1)


@dataclass(frozen=True)
class Visibility:
    """Who attends to whom among the tokens at hand; a `bias.LogitBias`.

    Attributes:
        sees_BLL: (B, L, L) bool over left-aligned padding, rows are queries. Rows and columns of
            padding are without meaning.
        ragged: layout of the tokens.
    """

    sees_BLL: Tensor
    ragged: Ragged

    @classmethod
    def of_input(cls, allowed_BLL: Tensor, source_T: Tensor, ragged: Ragged) -> Visibility:
        """Of the tokens that stand in columns `source_T` of the model's input."""
        column_BL = unpack(source_T, ragged)
        width = allowed_BLL.shape[2]
        rows = allowed_BLL.gather(1, column_BL[:, :, None].expand(-1, -1, width))
        sees = rows.gather(2, column_BL[:, None, :].expand(-1, column_BL.shape[1], -1))
        return cls(_with_someone(sees, ragged), ragged)

    def after(self, slot_T: Tensor, after: Ragged) -> Visibility:
        """Once each token has gone into row `slot_T` of the layout `after`; T' is nowhere."""
        width, segment_T = after.longest, self.ragged.segment_T
        within_T = slot_T - after.cu_seqlens[:-1][segment_T]
        # one slot more per sequence, for tokens that go nowhere
        place_T = segment_T * (width + 1) + torch.where(slot_T < after.total, within_T, width)
        sees = self._shared_rows(self.sees_BLL, place_T, width)  # (B, L', L)
        sees = self._shared_rows(sees.transpose(1, 2), place_T, width).transpose(1, 2)
        return Visibility(_with_someone(sees, after), after)

    def _shared_rows(self, sees: Tensor, place_T: Tensor, width: int) -> Tensor:
        """Rows (B, L, N) into (B, L', N): True where it is for one of those that share a place."""
        batch, _, columns = sees.shape
        rows_TN = sees.reshape(-1, columns)[self.ragged.grid_index_T].to(torch.int16)
        counts = rows_TN.new_zeros(batch * (width + 1), columns).index_add_(0, place_T, rows_TN)
        return (counts > 0).view(batch, width + 1, columns)[:, :width]

    @cached_property
    def _row_at(self) -> dict[int, int]:
        """First packed row → sequence, of those that are not empty."""
        found, start = {}, 0
        for b, length in enumerate(self.ragged.lengths):
            if length:
                found[start] = b
            start += length
        return found

    def of_rows(self, start: int, stop: int) -> Tensor:
        """(1, n, n): 0 where the query sees the key, else −inf."""
        n = stop - start
        return _hiding(self.sees_BLL[self._row_at[start], :n, :n])[None]

    def of_grid(self, ragged: Ragged) -> Tensor:
        """(B, 1, L, L); rows of padding see everything, so that softmax stays finite."""
        return _hiding(self.sees_BLL | ~ragged.mask_BL[:, :, None])[:, None]

    def key_T(self) -> None:
        """None: it depends on the query, too."""
        return


def _hiding(sees: Tensor) -> Tensor:
    return torch.zeros(sees.shape, device=sees.device).masked_fill_(~sees, -torch.inf)


def _with_someone(sees_BLL: Tensor, ragged: Ragged) -> Tensor:
    """Let tokens that see no token see themselves."""
    present_BL = ragged.mask_BL
    sees_BLL = sees_BLL & present_BL[:, None, :]
    blind_BL = ~sees_BLL.any(dim=2) & present_BL
    return sees_BLL | torch.diag_embed(blind_BL)
