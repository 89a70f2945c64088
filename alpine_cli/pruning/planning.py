"""From what a layer knows to its plan: rule, then merge."""

from __future__ import annotations

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.merging import plan_bipartite, plan_nearest
from alpine_cli.pruning.plan import PruningPlan
from alpine_cli.pruning.rules import kept_tokens
from alpine_cli.pruning.selection import plan_keep

__all__ = ["make_plan"]


def make_plan(evidence: Evidence, config: PruningConfig) -> PruningPlan:
    """The plan of one layer.

    Rules by share with the merges "mean" and "none" copy nothing from the device to the host, nor
    does bipartite merging where the host knows how many tokens are protected; all others copy once.
    """
    if config.rule == "bipartite":
        return plan_bipartite(evidence, config)
    kept = kept_tokens(evidence, config)
    if config.merge == "nearest":
        return plan_nearest(kept.keep_T, evidence, config)
    return plan_keep(
        kept.keep_T,
        evidence.ragged,
        config.merge,
        kept.host_kept,
        kept_B=kept.kept_B,
        causal=evidence.tokens.causal,
    )
