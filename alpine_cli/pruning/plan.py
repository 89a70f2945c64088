"""The plan of one pruning layer, and applying it to packed hidden states.

Decide, then apply: `selection` makes a plan, everything else only reads it. A plan says for each
token of the packed batch into which output slot it goes and with what weight: a kept token goes
alone into a slot of its own, removed tokens share the slot of their sequence's merged token, a
token that is dropped goes nowhere. Where removed tokens go into kept ones (`merging`), they share
those tokens' slots, and all count by size.

In causal models (decoders) order means something: a token sees those before it. Their merged token
stands where the last of its members stood, so it sees what any of its members saw and is seen by
those that saw all of them. Nothing of a later token reaches an earlier one, the tokens that are
left are causal in the plain sense, and no mask is needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.kernels import carry, repack
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.visibility import Visibility

__all__ = [
    "Members",
    "PruningPlan",
    "TokenState",
    "apply_plan",
    "initial_tokens",
    "members_by_sort",
    "tokens_after",
]


@dataclass(frozen=True)
class Members:
    """The tokens of each slot: a plan, read from its result.

    Attributes:
        order_T: (T,) int32, all tokens, those that share a slot side by side and in order.
        first_R: (T',) int32, where in `order_T` those of a slot begin.
        count_R: (T',) int32, how many they are. Both may have more entries, without meaning.
    """

    order_T: Tensor
    first_R: Tensor
    count_R: Tensor


def members_by_sort(slot_T: Tensor, total: int) -> Members:
    """The members of each of the `total` slots, whatever the plan. No copy to the host."""
    sorted_T, order_T = slot_T.sort(stable=True)
    rows = torch.arange(total + 1, device=slot_T.device)
    bounds = torch.searchsorted(sorted_T, rows).to(torch.int32)
    return Members(order_T.to(torch.int32), bounds[:-1], bounds.diff())


@dataclass(frozen=True)
class PruningPlan:
    """Which tokens stay, and where each removed one goes.

    Attributes:
        before: layout of the sequences that the plan was made for, T tokens.
        after: layout once it is applied, T' tokens: kept ones in order, then, per sequence that
            lost any (and if merging is on), its merged token; in causal models that stands in
            the place of its last member.
        keep_T: (T,) bool.
        slot_T: (T,) int64, output row of each token; T' for a dropped one.
        merged_row_B: (B,) int64, row of each sequence's merged token; T' where it has none.
        removed_B: (B,) int64, how many tokens each sequence lost.
        removes: False if no token of the whole batch goes: applying is then the identity.
        size_T: (T,) float32, weights of the tokens that share slots with kept ones; None where a
            slot of several holds removed tokens only, all of one weight.
        causal: whether merged tokens stand in the place of their last member.
        found_members: `members`, where they were found on the way.
    """

    before: Ragged
    after: Ragged
    keep_T: Tensor
    slot_T: Tensor
    merged_row_B: Tensor
    removed_B: Tensor
    removes: bool
    size_T: Tensor | None = None
    causal: bool = False
    found_members: Members | None = field(default=None, compare=False, repr=False)

    @cached_property
    def members(self) -> Members:
        """The tokens of each slot; what kernels read."""
        if self.found_members is not None:
            return self.found_members
        return members_by_sort(self.slot_T, self.after.total)

    @property
    def weight_T(self) -> Tensor:
        """(T,) float32: share of each token in its slot; 1 if alone there, 0 if dropped."""
        if self.size_T is not None:
            return self.size_T / self.size_after()[self.slot_T]
        share_T = self.removed_B.clamp(min=1).reciprocal()[self.before.segment_T]
        share_T = torch.where(self.slot_T < self.after.total, share_T, 0.0)
        return torch.where(self.keep_T, 1.0, share_T)

    def size_after(self) -> Tensor:
        """(T',) float32: summed sizes of the tokens of each slot; for plans with sizes."""
        assert self.size_T is not None
        return self.size_T.new_zeros(self.after.total).index_add_(0, self.slot_T, self.size_T)


def apply_plan(hidden_TD: Tensor, plan: PruningPlan, rows: int | None = None) -> Tensor:
    """Shorten packed hidden states as `plan` says: (T, D) → (T', D). Differentiable.

    Kept rows are copied unchanged; a merged row is the mean of the rows that share its slot,
    summed in float32 at least. Without anything to remove the input itself is returned.

    Args:
        hidden_TD: one row per token.
        plan: what goes where.
        rows: rows of the result, T' at least; those behind the T'-th hold nothing of meaning.
    """
    if not plan.removes:
        return hidden_TD
    total = plan.after.total
    rows = total if rows is None else rows
    if kernels.chosen(hidden_TD.device) and repack.takes(hidden_TD):
        return repack.repack(hidden_TD, plan, rows)
    wide = hidden_TD.to(torch.promote_types(hidden_TD.dtype, torch.float32))
    if plan.size_T is not None:
        weighted = wide * plan.weight_T.to(wide.dtype)[:, None]
        out = wide.new_zeros(rows, wide.shape[1]).index_add_(0, plan.slot_T, weighted)
        return out.to(hidden_TD.dtype)
    # One row more than the output: where dropped tokens fall, and stand-ins for sequences
    # without a merged token, so that no shape depends on data beyond the plan's totals.
    # Summing first and scaling the merged rows after spares a weighted copy of all rows.
    out = wide.new_zeros(max(total + 1, rows), wide.shape[1]).index_add_(0, plan.slot_T, wide)
    scale_B = plan.removed_B.clamp(min=1).reciprocal().to(wide.dtype)
    merged_BD = out.index_select(0, plan.merged_row_B) * scale_B[:, None]
    out = out.index_copy_(0, plan.merged_row_B, merged_BD)
    return out[:rows].to(hidden_TD.dtype)


@dataclass(frozen=True)
class TokenState:
    """The tokens that enter a layer: their layout, and what they came from.

    Attributes:
        ragged: layout, T tokens.
        special_T: (T,) bool, the input's own first and last token of each sequence, unless the
            caller named others.
        source_T: (T,) int64, column of the token in the model's (B, L) input; −(l + 1) for a
            token merged in layer l.
        position_T: (T,) float32, position of the token in the input, for families whose layers
            look at positions; a merged token's is the mean of those it stands for. Else None.
        size_T: (T,) float32, how many input tokens the token stands for; None where nothing asks.
        visibility: who attends to whom, where not all to all; else None.
        place_T: (T,) int64, in causal models the column where the token stands: its own, a merged
            token that of its last member. Ascending within a sequence. Else None.
        read_T: (T,) bool, in causal models the one token of each sequence that heads read.
        special_counts: how many tokens of each sequence are special, where the host knows; they
            stay, so it knows for all layers. Else None.
        special_limit: no sequence has more special tokens than this; None where a caller named
            them.
        memo: what layers derive from these very tokens and share (rotary tables).
    """

    ragged: Ragged
    special_T: Tensor
    source_T: Tensor
    position_T: Tensor | None = None
    size_T: Tensor | None = None
    visibility: Visibility | None = None
    place_T: Tensor | None = None
    read_T: Tensor | None = None
    special_counts: tuple[int, ...] | None = None
    special_limit: int | None = None
    memo: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def causal(self) -> bool:
        """Whether each token attends to itself and those before it only."""
        return self.place_T is not None

    def ends_T(self) -> Tensor:
        """(T,) bool: first and last position of each current sequence."""
        within_T = self.ragged.position_T
        last_T = self.ragged.lengths_B[self.ragged.segment_T] - 1
        return (within_T == 0) | (within_T == last_T)


def initial_tokens(mask_BL: Tensor, multiple: int = 1) -> TokenState:
    """Tokens of a padded input with validity `mask_BL` (B, L) bool, holes allowed.

    `multiple` is that of the layout, see `Ragged.rows`. Copies the lengths to the host, nothing
    else.
    """
    ragged = Ragged.from_lengths(mask_BL.sum(1), multiple=multiple)
    # nonzero() would ask the device once more how many there are
    mask_N = mask_BL.flatten()
    place_N = torch.where(mask_N, mask_N.cumsum(0) - 1, ragged.total)
    column_N = torch.arange(mask_BL.shape[1], device=mask_BL.device).expand_as(mask_BL).flatten()
    source_T = column_N.new_empty(ragged.total + 1).scatter_(0, place_N, column_N)[:-1]
    unmarked = TokenState(ragged, torch.zeros_like(source_T, dtype=torch.bool), source_T)
    special_counts = tuple(min(length, 2) for length in ragged.lengths)
    return TokenState(
        ragged, unmarked.ends_T(), source_T, special_counts=special_counts, special_limit=2
    )


def _carried(
    source_T: Tensor, special_T: Tensor, plan: PruningPlan, merged: int
) -> tuple[Tensor, Tensor]:
    """(T',) sources and (T',) special tokens: those of kept tokens; `merged` and False else."""
    if kernels.chosen(source_T.device):
        return carry.carried(source_T, special_T, plan, merged)
    total, slot_T = plan.after.total, _writers(plan)
    source_T = torch.where(plan.keep_T, source_T, merged)
    source = source_T.new_zeros(total + 1).index_copy_(0, slot_T, source_T)
    special_T = special_T & plan.keep_T
    special = special_T.new_zeros(total + 1).index_copy_(0, slot_T, special_T)
    return source[:total], special[:total]


def _writers(plan: PruningPlan) -> Tensor:
    """(T,) slots of the tokens that say what their slot is; T' for others.

    Tokens that share a slot without sizes are all removed ones: they all write the same value.
    With sizes there is one kept token among them, and only that one writes.
    """
    if plan.size_T is None:
        return plan.slot_T
    return torch.where(plan.keep_T, plan.slot_T, plan.after.total)


def tokens_after(tokens: TokenState, plan: PruningPlan, layer: int) -> TokenState:
    """What the tokens are once `plan` has been applied in layer `layer`."""
    if not plan.removes:
        return tokens
    total = plan.after.total
    source_T, special_T = _carried(tokens.source_T, tokens.special_T, plan, -(layer + 1))
    position_T, size_T = tokens.position_T, tokens.size_T
    if position_T is not None:
        position_T = apply_plan(position_T[:, None], plan)[:, 0]
    if plan.size_T is not None:
        size_T = plan.size_after()
    elif size_T is not None:  # nothing merges: size_T[keep_T], whose length the host knows
        size_T = size_T.new_zeros(total + 1).index_copy_(0, plan.slot_T, size_T)[:total]
    visibility = tokens.visibility
    if visibility is not None:
        visibility = visibility.after(plan.slot_T, plan.after)
    place_T, read_T = tokens.place_T, tokens.read_T
    if place_T is not None:
        place = place_T.new_zeros(total + 1).scatter_reduce_(0, plan.slot_T, place_T, "amax")
        place_T = place[:total]
    if read_T is not None:  # never removed: a slot of its own, or one that it takes others into
        slot_T = _writers(plan)
        read_T = read_T.new_zeros(total + 1).index_copy_(0, slot_T, read_T & plan.keep_T)[:total]
    return TokenState(
        plan.after,
        special_T,
        source_T,
        position_T,
        size_T,
        visibility,
        place_T,
        read_T,
        tokens.special_counts,
        tokens.special_limit,
    )
