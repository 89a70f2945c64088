"""Which token each token is most like: the choice of partners behind the merges of `merging`.

Each choice exists twice, with the same results, ties included (the first of equals wins):
- `*_one_by_one`: one sequence after the other, on exactly the tokens that matter. Best on a CPU.
- `*_at_once`: all sequences over left-aligned padding. More arithmetic, but few launches, and no
  question to the device how many tokens matter. Best on CUDA.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from alpine_cli.pruning.packed import Ragged, pack, to_device, unpack

__all__ = [
    "merge_count",
    "nearest_at_once",
    "nearest_one_by_one",
    "pairs_at_once",
    "pairs_one_by_one",
]

_CHUNK = 1 << 24
"""Similarities worked on at once over padding: 64 MiB of float32."""


def nearest_one_by_one(
    units_TD: Tensor, keep_T: Tensor, protected_T: Tensor, ragged: Ragged, *, causal: bool
) -> Tensor:
    """Each removed token's most similar kept one.

    Args:
        units_TD: (T, D) float32 hidden states of length 1.
        keep_T: (T,) bool; of each sequence, and in causal models behind each removed token, one at
            least.
        protected_T: (T,) bool, tokens that take nothing in as long as there is another.
        ragged: layout of the T tokens.
        causal: whether tokens go into later ones only.

    Returns:
        (T,) int64, the row of the token that each goes into; of a kept one its own.
    """
    target_T = torch.arange(ragged.total, device=keep_T.device)
    for start, stop in ragged.spans():
        keep_n = keep_T[start:stop]
        removed_r, kept_k = (~keep_n).nonzero()[:, 0], keep_n.nonzero()[:, 0]
        if not len(removed_r):
            continue
        likeness_rk = _products(units_TD[start:stop][removed_r], units_TD[start:stop][kept_k])
        open_k = ~protected_T[start:stop][kept_k]
        likeness_rk[:, ~open_k & open_k.any()] = -torch.inf
        if causal:
            likeness_rk.masked_fill_(kept_k < removed_r[:, None], -torch.inf)
        target_T[start + removed_r] = start + kept_k[likeness_rk.argmax(dim=1)]
    return target_T


def nearest_at_once(
    units_TD: Tensor, keep_T: Tensor, protected_T: Tensor, ragged: Ragged, *, causal: bool
) -> Tensor:
    """See `nearest_one_by_one`. No copy to the host."""
    open_T = keep_T & ~protected_T
    has_open_B = ragged.sum_by_sequence(open_T.to(torch.int32)) > 0
    takes_T = torch.where(has_open_B[ragged.segment_T], open_T, keep_T)
    _, target_T = _most_similar(units_TD, takes_T, ragged, causal)
    own_T = torch.arange(ragged.total, device=keep_T.device)
    return torch.where(keep_T, own_T, target_T)


def merge_count(length: int, count: int, protected: int, causal: bool) -> int:
    """Pairs of a sequence that merge, so that `count` of its `length` tokens stay if they can."""
    free = length - protected
    # every other free token looks for a partner among the rest; the last of an odd number finds
    # one before it only, which in causal models it may not enter
    sources, targets = (free + 1) // 2, free // 2
    if causal:
        sources = targets
    return max(0, min(length - count, sources)) if targets else 0


def pairs_one_by_one(
    units_TD: Tensor,
    protected_T: Tensor,
    ragged: Ragged,
    counts: Sequence[int],
    *,
    causal: bool,
) -> Tensor:
    """The most similar pairs between every other free token and the rest.

    Args:
        units_TD: (T, D) float32 hidden states of length 1.
        protected_T: (T,) bool, tokens that take no part.
        ragged: layout of the T tokens.
        counts: how many tokens of each sequence should stay; see `merge_count`.
        causal: whether tokens go into later ones only.

    Returns:
        (T,) int64, the row of the token that each goes into; its own if it stays.
    """
    target_T = torch.arange(ragged.total, device=units_TD.device)
    of_those_not_empty = [count for count, n in zip(counts, ragged.lengths, strict=True) if n]
    for (start, stop), count in zip(ragged.spans(), of_those_not_empty, strict=True):
        free_f = (~protected_T[start:stop]).nonzero()[:, 0]
        source_a, target_b = free_f[0::2], free_f[1::2]
        merges = merge_count(stop - start, count, stop - start - len(free_f), causal)
        if not merges:
            continue
        likeness_ab = _products(units_TD[start:stop][source_a], units_TD[start:stop][target_b])
        if causal:
            likeness_ab.masked_fill_(target_b < source_a[:, None], -torch.inf)
        best_a, partner_a = likeness_ab.max(dim=1)
        gone_m = best_a.argsort(descending=True, stable=True)[:merges]
        target_T[start + source_a[gone_m]] = start + target_b[partner_a[gone_m]]
    return target_T


def pairs_at_once(
    units_TD: Tensor,
    protected_T: Tensor,
    ragged: Ragged,
    merges: Sequence[int],
    *,
    causal: bool,
) -> Tensor:
    """See `pairs_one_by_one`; `merges` are the sequences' `merge_count`. No copy to the host."""
    own_T = torch.arange(ragged.total, device=units_TD.device)
    if not ragged.total:
        return own_T
    free_T = ~protected_T
    before_T = free_T.cumsum(0) - free_T.to(torch.int64)  # free ones of all sequences before it
    first_B = ragged.cu_seqlens[:-1].clamp(max=ragged.total - 1)
    odd_T = (before_T - before_T[first_B][ragged.segment_T]) % 2 == 1
    best_T, target_T = _most_similar(units_TD, free_T & odd_T, ragged, causal)
    best_T = torch.where(free_T & ~odd_T, best_T, -torch.inf)
    grid_BL = unpack(best_T, ragged).masked_fill(~ragged.mask_BL, -torch.inf)
    order_BL = grid_BL.argsort(dim=1, descending=True, stable=True)
    columns_BL = torch.arange(ragged.longest, device=order_BL.device).expand_as(order_BL)
    place_T = pack(torch.empty_like(order_BL).scatter_(1, order_BL, columns_BL), ragged)
    gone_T = place_T < to_device(merges, units_TD.device)[ragged.segment_T]
    return torch.where(gone_T, target_T, own_T)


def _most_similar(
    units_TD: Tensor, takes_T: Tensor, ragged: Ragged, causal: bool
) -> tuple[Tensor, Tensor]:
    """(T,) similarity and (T,) row of the most similar token of the same sequence that takes.

    −inf, and a row without meaning, where there is none (in causal models: none behind).
    """
    units_BLD, takes_BL = unpack(units_TD, ragged), unpack(takes_T, ragged)
    best_BL = units_TD.new_empty(takes_BL.shape)
    column_BL = torch.empty_like(best_BL, dtype=torch.int64)
    columns_L = torch.arange(ragged.longest, device=units_TD.device)
    for some, rows in _chunks(ragged.batch, ragged.longest):
        likeness = _products(units_BLD[some, rows], units_BLD[some])
        likeness.masked_fill_(~takes_BL[some, None], -torch.inf)
        if causal:
            likeness.masked_fill_(columns_L < columns_L[rows, None], -torch.inf)
        best_BL[some, rows], column_BL[some, rows] = likeness.max(dim=2)
    return pack(best_BL, ragged), ragged.cu_seqlens[ragged.segment_T] + pack(column_BL, ragged)


def _products(left: Tensor, right: Tensor) -> Tensor:
    """(…, m, n) similarities of (…, m, D) and (…, n, D), in their dtype: autocast would round them.

    Tokens of a layer are alike, and in half precision many partners tie.
    """
    with torch.autocast(left.device.type, enabled=False):
        return torch.matmul(left, right.transpose(-1, -2))


def _chunks(batch: int, length: int) -> Iterator[tuple[slice, slice]]:
    """Sequences and query rows of a (B, L, L) grid, `_CHUNK` entries at a time at most."""
    sequences = max(1, _CHUNK // length**2)
    rows = max(1, min(length, _CHUNK // length))
    for first in range(0, batch, sequences):
        for row in range(0, length, rows):
            yield slice(first, first + sequences), slice(row, row + rows)
