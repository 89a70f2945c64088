"""Merges that look at tokens: each removed one goes into the most similar one that stays.

    nearest     whatever the rule removed, into the kept token of highest cosine similarity
    bipartite   rule and merge in one (Bolya et al., "Token Merging: Your ViT But Faster", ICLR
                2023): tokens alternate between two sets, each of the first finds its most similar
                of the second, and the most similar pairs merge

Both average by size, the number of input tokens a token stands for, and so that a merged token
keeps its weight, attention adds the logarithm of the key's size to its logits (`bias.SizeBias`).
Similarity is that of the hidden states between attention and feed-forward. Protected tokens take
nothing in as long as there is another.

In causal models tokens go only into later ones, whose right it is to see them, and never into
protected ones: a token that finds no such place stays, whatever the rule says.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from alpine_cli.pruning import kernels
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.partners import (
    merge_count,
    nearest_at_once,
    nearest_one_by_one,
    pairs_at_once,
    pairs_one_by_one,
)
from alpine_cli.pruning.plan import PruningPlan
from alpine_cli.pruning.rules import kept_counts, protected_counts

__all__ = ["plan_bipartite", "plan_nearest"]


def plan_nearest(keep_T: Tensor, evidence: Evidence, config: PruningConfig) -> PruningPlan:
    """The plan for a choice of tokens, each removed one merged into its most similar kept one.

    Copies the number of kept tokens of each sequence to the host, once.
    """
    ragged, causal = evidence.ragged, evidence.tokens.causal
    protected_T = evidence.protected_T(config)
    if causal:
        keep_T = keep_T | ~_followed(keep_T & ~protected_T, ragged)
    kept_B = ragged.sum_by_sequence(keep_T.to(torch.int64))
    if not causal:
        # where nothing is protected a rule may keep nothing: the first token takes in all others
        alone_T = (kept_B == 0)[ragged.segment_T] & (ragged.position_T == 0)
        keep_T, kept_B = keep_T | alone_T, kept_B.clamp(min=1).minimum(ragged.lengths_B)
    units_TD = F.normalize(evidence.require_hidden().to(torch.float32), dim=1)
    at_once = kernels.serves_cuda(keep_T.device)
    nearest = nearest_at_once if at_once else nearest_one_by_one
    target_T = nearest(units_TD, keep_T, protected_T, ragged, causal=causal)
    return _plan(keep_T, target_T, Ragged.from_lengths(kept_B, None, ragged.multiple), evidence)


def plan_bipartite(evidence: Evidence, config: PruningConfig) -> PruningPlan:
    """ToMe's bipartite soft matching, to the share of tokens that `config.keep` asks for.

    Every other token can go at most, so a layer keeps no less than about half. Copies the number
    of kept, or of protected, tokens of each sequence to the host, once; on CUDA nothing where the
    host knows how many are protected.
    """
    ragged, causal = evidence.ragged, evidence.tokens.causal
    counts = kept_counts(evidence, config)
    units_TD = F.normalize(evidence.require_hidden().to(torch.float32), dim=1)
    protected_T = evidence.protected_T(config)
    host_kept = None
    if kernels.serves_cuda(units_TD.device):
        merges = [
            merge_count(n, count, protected, causal)
            for n, count, protected in zip(
                ragged.lengths, counts, protected_counts(evidence, config), strict=True
            )
        ]
        target_T = pairs_at_once(units_TD, protected_T, ragged, merges, causal=causal)
        host_kept = [n - merged for n, merged in zip(ragged.lengths, merges, strict=True)]
    else:
        target_T = pairs_one_by_one(units_TD, protected_T, ragged, counts, causal=causal)
    keep_T = target_T == torch.arange(ragged.total, device=target_T.device)
    kept_B = ragged.sum_by_sequence(keep_T.to(torch.int64))
    after = Ragged.from_lengths(kept_B, host_kept, ragged.multiple)
    return _plan(keep_T, target_T, after, evidence)


def _followed(open_T: Tensor, ragged: Ragged) -> Tensor:
    """(T,) bool: whether an open token comes later in the same sequence."""
    seen_T = open_T.to(torch.int64).cumsum(0)
    upto_B = F.pad(seen_T, (1, 0))[ragged.cu_seqlens[1:]]
    return upto_B[ragged.segment_T] > seen_T


def _plan(keep_T: Tensor, target_T: Tensor, after: Ragged, evidence: Evidence) -> PruningPlan:
    """Each token goes where the kept token goes that it is merged into."""
    before = evidence.ragged
    # kept tokens of all sequences, in order, are the rows of the output
    slot_T = (keep_T.to(torch.int64).cumsum(0) - 1)[target_T]
    size_T = evidence.tokens.size_T
    assert size_T is not None
    removed_B = before.lengths_B - after.lengths_B
    return PruningPlan(
        before,
        after,
        keep_T,
        slot_T,
        torch.full_like(removed_B, after.total),
        removed_B,
        before.total > after.total,
        size_T,
        evidence.tokens.causal,
    )
