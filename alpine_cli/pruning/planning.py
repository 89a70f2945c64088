"""From what a layer knows to its plan: rule, then merge."""

from __future__ import annotations

from alpine_cli.pruning.config import SHARE_RULES, PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.merging import plan_bipartite, plan_nearest
from alpine_cli.pruning.plan import PruningPlan
from alpine_cli.pruning.rules import kept_counts, kept_tokens
from alpine_cli.pruning.selection import plan_keep

__all__ = ["make_plan"]


def make_plan(evidence: Evidence, config: PruningConfig) -> PruningPlan:
    """The plan of one layer.

    Rules by share with the merges "mean" and "none" copy nothing from the device to the host; all
    others copy once (bipartite and nearest merging: per sequence, where the device is not a CPU).
    """
    if config.rule == "bipartite":
        return plan_bipartite(evidence, config)
    keep_T = kept_tokens(evidence, config)
    if config.merge == "nearest":
        return plan_nearest(keep_T, evidence, config)
    counts = None
    if config.rule in SHARE_RULES:
        counts = kept_counts(evidence.ragged, config.share_at(evidence.step))
    return plan_keep(keep_T, evidence.ragged, config.merge, counts, causal=evidence.tokens.causal)
