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

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.plan import PruningPlan
from alpine_cli.pruning.rules import kept_counts

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
    after = Ragged.from_lengths(kept_B, None, ragged.multiple)
    units_TD = F.normalize(evidence.require_hidden().to(torch.float32), dim=1)
    slot_T = _kept_slots(keep_T, after)
    for start, stop in ragged.spans():
        keep_n = keep_T[start:stop]
        removed_r, kept_k = (~keep_n).nonzero()[:, 0], keep_n.nonzero()[:, 0]
        if not len(removed_r):
            continue
        likeness_rk = units_TD[start:stop][removed_r] @ units_TD[start:stop][kept_k].T
        open_k = ~protected_T[start:stop][kept_k]
        likeness_rk[:, ~open_k & open_k.any()] = -torch.inf
        if causal:
            likeness_rk.masked_fill_(kept_k < removed_r[:, None], -torch.inf)
        chosen_r = kept_k[likeness_rk.argmax(dim=1)]
        slot_T[start + removed_r] = slot_T[start + chosen_r]
    return _plan(keep_T, slot_T, after, evidence)


def plan_bipartite(evidence: Evidence, config: PruningConfig) -> PruningPlan:
    """ToMe's bipartite soft matching, to the share of tokens that `config.keep` asks for.

    Every other token can go at most, so a layer keeps no less than about half.
    """
    ragged, share = evidence.ragged, config.share_at(evidence.step)
    units_TD = F.normalize(evidence.require_hidden().to(torch.float32), dim=1)
    protected_T = evidence.protected_T(config)
    keep_T = torch.ones_like(protected_T)
    target_T = torch.arange(ragged.total, device=keep_T.device)
    spans = ragged.spans()
    counts = [count for count in kept_counts(ragged, share) if count]
    for (start, stop), count in zip(spans, counts, strict=True):
        free_f = (~protected_T[start:stop]).nonzero()[:, 0]
        source_a, target_b = free_f[0::2], free_f[1::2]
        merges = min(stop - start - count, len(source_a))
        if merges <= 0 or not len(target_b):
            continue
        likeness_ab = units_TD[start:stop][source_a] @ units_TD[start:stop][target_b].T
        if evidence.tokens.causal:  # the last of an odd number has no partner behind it
            likeness_ab.masked_fill_(target_b < source_a[:, None], -torch.inf)
            merges = min(merges, len(target_b))
        best_a, partner_a = likeness_ab.max(dim=1)
        gone_m = best_a.argsort(descending=True, stable=True)[:merges]
        keep_T[start + source_a[gone_m]] = False
        target_T[start + source_a[gone_m]] = start + target_b[partner_a[gone_m]]
    kept_B = ragged.sum_by_sequence(keep_T.to(torch.int64))
    after = Ragged.from_lengths(kept_B, None, ragged.multiple)
    slot_T = _kept_slots(keep_T, after)[target_T]
    return _plan(keep_T, slot_T, after, evidence)


def _followed(open_T: Tensor, ragged: Ragged) -> Tensor:
    """(T,) bool: whether an open token comes later in the same sequence."""
    seen_T = open_T.to(torch.int64).cumsum(0)
    upto_B = F.pad(seen_T, (1, 0))[ragged.cu_seqlens[1:]]
    return upto_B[ragged.segment_T] > seen_T


def _kept_slots(keep_T: Tensor, after: Ragged) -> Tensor:
    """(T,) output row of each kept token, in order; without meaning for removed ones."""
    # kept tokens of all sequences, in order, are the rows of the output
    return (keep_T.to(torch.int64).cumsum(0) - 1).clamp(min=0, max=max(0, after.total - 1))


def _plan(keep_T: Tensor, slot_T: Tensor, after: Ragged, evidence: Evidence) -> PruningPlan:
    before = evidence.ragged
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
