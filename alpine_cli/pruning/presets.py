"""Named prunings, exact enough to be cited.

    alpine        the published rule (Saad et al., FSE 2025, §3) in every layer: the band μ ± 1·σ of
                  received attention, the removed tokens' mean appended as one merged token
    alpine-plus   ours, for pruning without re-training (measured in benchmarks/README.md): in every
                  layer the most similar pairs of tokens become one, so that 85 % stay:
                  bipartite soft matching (Bolya et al., ICLR 2023) of the hidden states between
                  attention and feed-forward, size-weighted, with proportional attention; `merging`

Both protect the input's first and last token. What a preset does not name (engine, output) is as
anywhere else. A preset never changes once released; a better one gets another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.errors import PruningError

__all__ = ["PRESETS", "preset", "preset_fields"]

_COMMON = {"layers": "all", "alpha": 1.0, "score": "received", "protect": "special"}
PRESETS: Mapping[str, Mapping[str, Any]] = {
    "alpine": {**_COMMON, "rule": "band", "keep": 1.0, "merge": "mean"},
    "alpine-plus": {**_COMMON, "rule": "bipartite", "keep": 0.85, "merge": "nearest"},
}


def preset_fields(name: str) -> dict[str, Any]:
    """The fields of `PruningConfig` that a preset sets.

    Raises:
        PruningError: no such preset; names those there are.
    """
    if name not in PRESETS:
        raise PruningError(f"preset: must be one of {', '.join(PRESETS)} (got {name!r})")
    return dict(PRESETS[name])


def preset(name: str) -> PruningConfig:
    """The pruning of that name, e.g. `alpine_cli.prune(model, alpine_cli.preset("alpine-plus"))`.

    Raises:
        PruningError: no such preset; names those there are.
    """
    return PruningConfig(**preset_fields(name))
