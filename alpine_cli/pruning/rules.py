"""Rules: which tokens of a layer stay. One function each, from what is known to a (T,) mask.

    band        |score − μ| ≤ ασ: the published rule (ALPINE §3); tokens with much attention go too
    floor       score ≥ μ − ασ: one-sided, only tokens with little attention go
    top         the share `keep` with the highest scores
    random      a share `keep` chosen by nothing: the control that every rule must beat
    first       the leading share `keep`: truncation, layer by layer; what users do instead
    bipartite   no mask of its own: pairs of similar tokens, see `merging`

Rules by share keep `kept_count(n)` tokens of a sequence of n, a number that the host knows
beforehand: they need no copy from the device. Protected tokens always stay and count among them;
where a caller named them, the host must know how many (asked once, when the model is entered).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.kernels.selection import keep_by_spread
from alpine_cli.pruning.packed import Ragged, to_device, widest_float
from alpine_cli.pruning.selection import TOLERANCE, band, score_statistics

__all__ = [
    "Kept",
    "floor",
    "keep_share",
    "kept_count",
    "kept_counts",
    "kept_tokens",
    "protected_counts",
]


def floor(scores_T: Tensor, protected_T: Tensor, ragged: Ragged, alpha: float) -> Tensor:
    """(T,) bool: tokens at or above μ − ασ. Statistics and tolerance are those of `band`."""
    deviation_T, mean_B, sigma_B = score_statistics(scores_T, protected_T, ragged)
    width_B = alpha * sigma_B + TOLERANCE * mean_B
    return protected_T | (deviation_T >= -width_B[ragged.segment_T])


def kept_count(length: int, share: float, protected: int = 2) -> int:
    """Tokens of a sequence that stay: ⌈share · length⌉, no fewer than are protected, or than 2."""
    # the slack keeps 0.6 · 5 = 3.0000000000000004 from becoming 4
    return min(length, max(math.ceil(share * length - 1e-9), protected, 2))


def kept_counts(evidence: Evidence, config: PruningConfig) -> list[int]:
    """`kept_count` of every sequence, on the host."""
    share, ragged = config.share_at(evidence.step), evidence.ragged
    limit = evidence.tokens.special_limit
    # two stay in any case: that one of two may be missing, as in decoders, need not be known
    protected = (
        [limit] * ragged.batch
        if limit is not None and limit <= 2
        else protected_counts(evidence, config)
    )
    return [kept_count(n, share, p) for n, p in zip(ragged.lengths, protected, strict=True)]


def protected_counts(evidence: Evidence, config: PruningConfig) -> Sequence[int]:
    """How many tokens of each sequence are protected; copied to the host where it cannot know."""
    ragged, tokens = evidence.ragged, evidence.tokens
    if config.protect == "ends" and not tokens.causal:
        return [min(n, 2) for n in ragged.lengths]
    if tokens.special_counts is not None:
        return tokens.special_counts
    return ragged.sum_by_sequence(tokens.special_T.to(torch.int64)).tolist()


def keep_share(
    rank_T: Tensor, protected_T: Tensor, ragged: Ragged, counts: Sequence[int]
) -> Tensor:
    """The tokens of highest rank, protected ones first, `counts` of each sequence.

    Args:
        rank_T: (T,) any real dtype; among equals the earlier token stays.
        protected_T: (T,) bool.
        ragged: layout of the T tokens.
        counts: how many tokens of each sequence stay, no fewer than are protected.
    """
    counts_B = to_device(counts, rank_T.device)
    wide = widest_float(rank_T.device)
    # Padding last, protected tokens first: one sort of a (B, L) grid, no loop, no host copy.
    grid_BL = torch.full(
        (ragged.batch * ragged.longest,), -torch.inf, dtype=wide, device=rank_T.device
    )
    ranks = torch.where(protected_T, torch.inf, rank_T.to(wide))
    grid_BL[ragged.grid_index_T] = ranks
    order_BL = grid_BL.view(ragged.batch, -1).argsort(dim=1, descending=True, stable=True)
    place_BL = torch.empty_like(order_BL).scatter_(
        1, order_BL, torch.arange(ragged.longest, device=rank_T.device).expand_as(order_BL)
    )
    return place_BL.flatten()[ragged.grid_index_T] < counts_B[ragged.segment_T]


@dataclass(frozen=True)
class Kept:
    """What a rule chose.

    Attributes:
        keep_T: (T,) bool, the tokens that stay.
        kept_B: (B,) int64, how many they are in each sequence, where that was counted on the way.
        host_kept: the same on the host, where the rule decides that beforehand.
    """

    keep_T: Tensor
    kept_B: Tensor | None = None
    host_kept: Sequence[int] | None = None


def _by_spread(evidence: Evidence, config: PruningConfig) -> Kept:
    scores_T, protected_T = evidence.require_scores(), evidence.protected_T(config)
    ragged, alpha, two_sided = evidence.ragged, config.alpha, config.rule == "band"
    if kernels.chosen(scores_T.device):
        return Kept(
            *keep_by_spread(scores_T, protected_T, ragged, alpha, TOLERANCE, two_sided=two_sided)
        )
    rule = band if two_sided else floor
    return Kept(rule(scores_T, protected_T, ragged, alpha))


def _by_share(rank_T: Tensor, evidence: Evidence, config: PruningConfig) -> Kept:
    counts = kept_counts(evidence, config)
    keep_T = keep_share(rank_T, evidence.protected_T(config), evidence.ragged, counts)
    return Kept(keep_T, host_kept=counts)


def _top(evidence: Evidence, config: PruningConfig) -> Kept:
    return _by_share(evidence.require_scores(), evidence, config)


def _first(evidence: Evidence, config: PruningConfig) -> Kept:
    return _by_share(-evidence.ragged.position_T, evidence, config)


def _random(evidence: Evidence, config: PruningConfig) -> Kept:
    return _by_share(_noise(evidence.tokens.source_T, evidence.layer), evidence, config)


def _noise(source_T: Tensor, layer: int) -> Tensor:
    """(T,) numbers in [0, 1), a fixed function of a token's place in the input and of the layer.

    Not drawn from a generator: a sample's result must not depend on its batch mates. It is the
    finaliser of MurmurHash3 on 32-bit words, as float64 (`packed.widest_float`).
    """
    word_T = (source_T * 0x9E3779B1 + (layer + 1) * 0x85EBCA77) & 0xFFFFFFFF
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
        word_T = ((word_T ^ (word_T >> shift)) * factor) & 0xFFFFFFFF
    return word_T.to(widest_float(word_T.device)) / 2**32


_RULES: dict[str, Callable[[Evidence, PruningConfig], Kept]] = {
    "band": _by_spread,
    "floor": _by_spread,
    "top": _top,
    "random": _random,
    "first": _first,
}


def kept_tokens(evidence: Evidence, config: PruningConfig) -> Kept:
    """The tokens that `config.rule` keeps; every rule but "bipartite"."""
    return _RULES[config.rule](evidence, config)
