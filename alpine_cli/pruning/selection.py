"""Scores → plan: the published band rule, and turning any choice of tokens into a plan.

The rule (ALPINE §3): over the tokens of one sequence that are not protected, with mean μ and
population standard deviation σ of their scores, a token stays if |score − μ| ≤ ασ. Both ends
belong to the band, and tokens with unusually *high* attention go too. Protected tokens always
stay and count in neither μ nor σ.

Thresholds and rounding: μ and σ are computed in float64 (on MPS, which has none and where none of
this was ever run, in float32, in two passes all the same), and the band is widened by
`TOLERANCE`·μ. Scores are float32 sums whose rounding differs between engines by some 1e-7 of μ;
structural ties (two tokens, which lie exactly on μ ± σ; equal scores, where σ is 0) would
otherwise be decided by that rounding. With the tolerance, ties stay.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.config import Merge, PruningConfig
from alpine_cli.pruning.kernels.layout import lay_out
from alpine_cli.pruning.packed import Ragged, to_device, widest_float
from alpine_cli.pruning.plan import PruningPlan, TokenState

__all__ = [
    "TOLERANCE",
    "band",
    "plan_keep",
    "plan_read",
    "protected_tokens",
    "score_statistics",
]

TOLERANCE = 2e-6
"""Widening of the band relative to μ: above float32 rounding, far below any real σ/μ."""


def band(scores_T: Tensor, protected_T: Tensor, ragged: Ragged, alpha: float) -> Tensor:
    """Tokens that the published rule keeps.

    Args:
        scores_T: (T,) scores ≥ 0, any float dtype.
        protected_T: (T,) bool, tokens that stay whatever their score.
        ragged: layout of the T tokens.
        alpha: half-width of the band in standard deviations, > 0.

    Returns:
        (T,) bool. A sequence whose tokens are all protected, or all score the same, keeps all.
    """
    deviation_T, mean_B, sigma_B = score_statistics(scores_T, protected_T, ragged)
    width_B = alpha * sigma_B + TOLERANCE * mean_B
    return protected_T | (deviation_T.abs() <= width_B[ragged.segment_T])


def score_statistics(
    scores_T: Tensor, protected_T: Tensor, ragged: Ragged
) -> tuple[Tensor, Tensor, Tensor]:
    """Score − μ of every token, and μ and population σ of every sequence.

    In `packed.widest_float`: float64 but on MPS.

    Protected tokens count in neither μ nor σ, which are 0 where nothing counts.

    Returns:
        (T,) deviations, (B,) means, (B,) standard deviations.
    """
    wide = widest_float(scores_T.device)
    scores = scores_T.to(wide)
    counted_T = (~protected_T).to(wide)
    counted_B = ragged.sum_by_sequence(counted_T).clamp(min=1)
    mean_B = ragged.sum_by_sequence(scores * counted_T) / counted_B
    deviation_T = scores - mean_B[ragged.segment_T]
    variance_B = ragged.sum_by_sequence(deviation_T.square() * counted_T) / counted_B
    return deviation_T, mean_B, variance_B.sqrt()


def plan_keep(
    keep_T: Tensor,
    ragged: Ragged,
    merge: Merge,
    host_kept: Sequence[int] | None = None,
    *,
    kept_B: Tensor | None = None,
    causal: bool = False,
) -> PruningPlan:
    """Turn a choice of tokens into a plan: kept ones in order, then one merged token.

    Copies from the device to the host once, the lengths after pruning, unless they are known.

    Args:
        keep_T: (T,) bool.
        ragged: layout of the T tokens.
        merge: "mean" (removed tokens of a sequence share one slot, appended last) or "none".
        host_kept: how many tokens of each sequence `keep_T` keeps, where the caller knows.
        kept_B: (B,) int64, the same on the device, where the caller knows.
        causal: the merged token takes the place of the last one removed instead; see `plan`.
    """
    if kernels.chosen(keep_T.device) and ragged.total:
        if kept_B is None and host_kept is not None:
            kept_B = to_device(host_kept, keep_T.device)
        elif kept_B is None:
            kept_B = ragged.sum_by_sequence(keep_T.to(torch.int64))
        return _plan_at_once(keep_T, kept_B, ragged, merge, host_kept, causal)
    keeps_T = keep_T.to(torch.int64)
    if kept_B is None:
        kept_B = ragged.sum_by_sequence(keeps_T)
    removed_B = ragged.lengths_B - kept_B
    has_merged_B = (removed_B > 0) if merge == "mean" else torch.zeros_like(removed_B).bool()
    after_B = kept_B + has_merged_B
    if host_kept is None:
        host_kept = kept_B.tolist()
    host_after, removes = _lengths_after(ragged, host_kept, merge)
    after = Ragged.from_lengths(after_B, host_after, ragged.multiple)
    total = after.total
    if causal:
        slot_T, merged_row_B = _slots_in_order(keep_T, ragged, has_merged_B, total)
        return PruningPlan(
            ragged, after, keep_T, slot_T, merged_row_B, removed_B, removes, causal=True
        )
    merged_row_B = torch.where(has_merged_B, after.cu_seqlens[1:] - 1, total)
    # Rank of a kept token within its sequence: kept so far, less those of earlier sequences.
    earlier_B = kept_B.cumsum(0) - kept_B
    rank_T = keeps_T.cumsum(0) - 1 - earlier_B[ragged.segment_T]
    slot_T = torch.where(
        keep_T,
        after.cu_seqlens[:-1][ragged.segment_T] + rank_T,
        merged_row_B[ragged.segment_T],
    )
    return PruningPlan(ragged, after, keep_T, slot_T, merged_row_B, removed_B, removes)


def _lengths_after(
    ragged: Ragged, host_kept: Sequence[int], merge: Merge
) -> tuple[tuple[int, ...], bool]:
    """Lengths of the shorter sequences, and whether any is shorter, on the host."""
    shorter = [kept < n for n, kept in zip(ragged.lengths, host_kept, strict=True)]
    if merge == "none":
        return tuple(host_kept), any(shorter)
    return tuple(map(operator.add, host_kept, shorter)), any(shorter)


def _plan_at_once(
    keep_T: Tensor,
    kept_B: Tensor,
    ragged: Ragged,
    merge: Merge,
    host_kept: Sequence[int] | None,
    causal: bool,
) -> PruningPlan:
    """`plan_keep` by a kernel, which runs while the lengths are on their way to the host."""
    layout = lay_out(keep_T, kept_B, ragged, merges=merge == "mean", causal=causal)
    if host_kept is None:
        host_kept = kept_B.tolist()
    host_after, removes = _lengths_after(ragged, host_kept, merge)
    after = Ragged(
        host_after, layout.cu_seqlens, layout.segment_R[: sum(host_after)], ragged.multiple
    )
    return PruningPlan(
        ragged,
        after,
        keep_T,
        layout.slot_T,
        layout.merged_row_B,
        layout.removed_B,
        removes,
        causal=causal,
        found_members=layout.members,
    )


def _slots_in_order(
    keep_T: Tensor, ragged: Ragged, has_merged_B: Tensor, total: int
) -> tuple[Tensor, Tensor]:
    """(T,) slots and (B,) rows of merged tokens that stand where the last removed token stood."""
    row_T = torch.arange(ragged.total, device=keep_T.device)
    nowhere_B = torch.full_like(ragged.lengths_B, -1)
    removed_row_T = torch.where(keep_T, -1, row_T)
    last_B = nowhere_B.scatter_reduce(0, ragged.segment_T, removed_row_T, "amax")
    last_B = torch.where(has_merged_B, last_B, -1)
    # The rows of the output, over all sequences, in the order in which they stand in the input.
    stands_T = keep_T | (row_T == last_B[ragged.segment_T])
    rank_T = stands_T.to(torch.int64).cumsum(0) - 1
    merged_row_B = torch.full_like(last_B, total)
    if ragged.total:
        merged_row_B = torch.where(has_merged_B, rank_T[last_B.clamp(min=0)], merged_row_B)
    return torch.where(keep_T, rank_T, merged_row_B[ragged.segment_T]), merged_row_B


def protected_tokens(tokens: TokenState, config: PruningConfig) -> Tensor:
    """(T,) bool: the tokens that `config.protect` never removes.

    In causal models both settings mean the same: the first token, which takes the attention that
    finds nothing else, and the one that is read. Nothing is appended there that could displace it.
    """
    if tokens.causal:
        return tokens.special_T
    return tokens.special_T if config.protect == "special" else tokens.ends_T()


def plan_read(tokens: TokenState) -> PruningPlan:
    """Only the token of each sequence that is read, nothing merged. No copy to the host.

    That is the first token, in causal models the one that `read_T` marks.
    """
    ragged = tokens.ragged
    keep_T = ragged.position_T == 0 if tokens.read_T is None else tokens.read_T
    first_B = ragged.lengths_B.clamp(max=1)
    host = [min(length, 1) for length in ragged.lengths]
    after = Ragged.from_lengths(first_B, host, ragged.multiple)
    slot_T = torch.where(keep_T, after.cu_seqlens[:-1][ragged.segment_T], after.total)
    nowhere_B = torch.full_like(first_B, after.total)
    removed_B = ragged.lengths_B - first_B
    return PruningPlan(
        ragged, after, keep_T, slot_T, nowhere_B, removed_B, ragged.total > after.total
    )
