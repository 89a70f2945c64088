"""The published algorithm as it reads: eager attention everywhere, one sample after the other.

Oracle for the fast engines and the baseline called "the published way". It shares no arithmetic
with `scoring`, `selection` and `plan`: scores, mean, deviation, choice and merged token are
computed here from each sample's own attention matrix, in plain PyTorch.

Where the published code and the method part, this follows the method (papers: the ALPINE
replication package; its defects are listed in the project's notes): padded query rows count in no
score, padding enters no merged token, a sample that loses nothing gets no merged token, and the
mask comes from lengths. What is kept of its manner is what costs time: attention matrices in all
layers, host synchronisation per sample, `pad_sequence`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from alpine_cli.pruning.attention import grid_probabilities
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import PruningConfig, Score
from alpine_cli.pruning.engines import EngineAttended, PaddedEngine
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged, widest_float
from alpine_cli.pruning.plan import PruningPlan
from alpine_cli.pruning.planning import make_plan
from alpine_cli.pruning.selection import TOLERANCE, plan_keep

__all__ = ["ReferenceEngine", "keep_sample", "score_sample", "shorten_sample"]


def score_sample(probs_HNN: Tensor, causal: bool = False) -> Tensor:
    """(n,) scores of one sample from its own (H, n, n) probabilities: heads, then queries.

    Causal: of each token, over the queries from itself on, each in units of uniform attention.
    """
    probs_NN = probs_HNN.mean(dim=0)
    if not causal:
        return probs_NN.mean(dim=0)
    scores_n = probs_NN.new_zeros(probs_NN.shape[0])
    for key in range(len(scores_n)):
        keys_seen = torch.arange(key + 1, len(scores_n) + 1, device=probs_NN.device)
        scores_n[key] = (probs_NN[key:, key] * keys_seen).mean()
    return scores_n


def read_token_score(probs_HNN: Tensor, causal: bool = False) -> Tensor:
    """(n,) attention of the first token, in causal models of the last, mean over heads."""
    row = -1 if causal else 0
    return probs_HNN.mean(dim=0)[row] if probs_HNN.shape[1] else probs_HNN.mean(dim=(0, 1))


def keep_sample(scores_n: Tensor, protected_n: Tensor, alpha: float) -> Tensor:
    """(n,) bool: the tokens of one sample that the band rule keeps (ALPINE §3)."""
    scores = scores_n.to(widest_float(scores_n.device))
    counted = scores[~protected_n]
    if counted.numel() == 0:
        return torch.ones_like(protected_n)
    mean = counted.mean()
    deviation = counted.std(correction=0)
    slack = TOLERANCE * mean
    low, high = mean - alpha * deviation - slack, mean + alpha * deviation + slack
    return protected_n | ((scores >= low) & (scores <= high))


def shorten_sample(hidden_nD: Tensor, keep_n: Tensor, merge: str, causal: bool = False) -> Tensor:
    """(n', D): the kept rows in order and, if any row went and `merge` says so, their mean.

    The mean comes last; in causal models, where the last row that went has stood.
    """
    kept = hidden_nD[keep_n]
    removed = hidden_nD[~keep_n]
    if merge == "none" or removed.shape[0] == 0:
        return kept
    mean = removed.mean(dim=0, keepdim=True)
    if not causal:
        return torch.cat([kept, mean])
    last = int((~keep_n).nonzero()[-1])
    return torch.cat([hidden_nD[:last][keep_n[:last]], mean, hidden_nD[last:][keep_n[last:]]])


class ReferenceEngine(PaddedEngine):
    """Padded rows, eager attention in every layer, one Python iteration per sample."""

    def attend(
        self,
        q_SHNd: Tensor,
        k_SHNd: Tensor,
        v_SHNd: Tensor,
        ragged: Ragged,
        *,
        scaling: float,
        dropout: float,
        score: Score | None,
        bias: LogitBias | None = None,
        causal: bool = False,
        backend: str | None = None,
    ) -> EngineAttended:
        """See `Engine.attend`; the attention matrix is computed whether or not it is read."""
        probs = grid_probabilities(
            q_SHNd, k_SHNd, ragged, scaling=scaling, bias=bias, causal=causal
        )
        scores_T = None
        if score is not None:
            of_sample = score_sample if score == "received" else read_token_score
            rows = [
                of_sample(probs[b, :, :n, :n].detach(), causal)
                for b, n in enumerate(ragged.lengths)
            ]
            scores_T = torch.cat([row[:n] for row, n in zip(rows, ragged.lengths, strict=True)])
        probs = torch.nn.functional.dropout(probs.to(v_SHNd.dtype), p=dropout, training=dropout > 0)
        return EngineAttended(torch.matmul(probs, v_SHNd).transpose(1, 2), scores_T, "eager")

    def plan(self, evidence: Evidence, config: PruningConfig) -> PruningPlan:
        """The published rule: choose sample by sample, share only the bookkeeping of the choice.

        Rules that were never published in this form are those of the other engines.
        """
        if config.rule != "band" or config.merge == "nearest":
            return make_plan(evidence, config)
        scores_T, protected_T = evidence.require_scores(), evidence.protected_T(config)
        keep_T = torch.ones_like(protected_T)
        for start, stop in evidence.ragged.spans():
            sample = slice(start, stop)
            keep_T[sample] = keep_sample(scores_T[sample], protected_T[sample], config.alpha)
        return plan_keep(keep_T, evidence.ragged, config.merge, causal=evidence.tokens.causal)

    def shorten(self, hidden_SND: Tensor, plan: PruningPlan) -> Tensor:
        """Shorten each sample by itself, then pad to the longest."""
        if plan.size_T is not None:
            return super().shorten(hidden_SND, plan)
        merges = bool((plan.merged_row_B < plan.after.total).any())
        rows, start = [], 0
        for b, n in enumerate(plan.before.lengths):
            keep_n = plan.keep_T[start : start + n]
            merge = "mean" if merges else "none"
            rows.append(shorten_sample(hidden_SND[b, :n], keep_n, merge, plan.causal))
            start += n
        padded = pad_sequence(rows, batch_first=True)
        if padded.shape[1] == 0:  # a batch of empty sequences still has a first column
            return hidden_SND.new_zeros(padded.shape[0], 1, hidden_SND.shape[2])
        return padded
