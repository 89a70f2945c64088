"""Engines: how the tokens of a batch are laid out while an encoder runs, and how they shorten.

An engine is stateless. It takes the model's padded input into its own layout (`enter`), attends,
plans, shortens, and gives the layout back (`leave`). `packed` and `padded` stand here,
`reference` in its own file; all three fulfil `Engine` and give the same numbers.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from alpine_cli.pruning.attention import (
    BACKENDS,
    Request,
    attend_grid,
    backend_name,
    choose_backend,
)
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import PruningConfig, Score
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged, pack, unpack
from alpine_cli.pruning.plan import PruningPlan, apply_plan
from alpine_cli.pruning.planning import make_plan

__all__ = ["Engine", "EngineAttended", "PackedEngine", "PaddedEngine"]


_HALF_ROWS = 32
"""oneDNN builds half-precision kernels per token count; rounded counts come back and reuse them."""


class EngineAttended(NamedTuple):
    """What an engine's attention returns.

    Attributes:
        out_SNHd: (S, N, H, d) attended values.
        scores_T: (T,) float32 packed scores of the kind asked for; None unless asked for.
        backend: what computed it, see `attention.BACKENDS`; other engines name their own way.
    """

    out_SNHd: Tensor
    scores_T: Tensor | None
    backend: str


class Engine(Protocol):
    """The way a batch runs through an encoder. S is the engine's batch size, N its row length.

    packed: S = 1, N = `Ragged.rows`: T, filled up where fresh token counts are dear.
    padded, reference: S = B, N = L of the longest sequence left.
    """

    def row_multiple(self, device: torch.device, dtype: torch.dtype) -> int:
        """What the packed row is filled up to a multiple of, for matrix products in `dtype`."""

    def enter(self, packed: Tensor, ragged: Ragged) -> Tensor:
        """Packed (T, ...) values into the layout (S, N, ...)."""

    def leave(self, hidden_SND: Tensor, ragged: Ragged) -> Tensor:
        """Hidden states (S, N, D) into left-aligned (B, L, D), zeros where there is no token."""

    def to_grid(self, x_SHNd: Tensor, ragged: Ragged) -> Tensor:
        """Queries or keys (S, H, N, d) as a left-aligned (B, H, L, d) grid."""

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
        """Attended values (S, N, H, d) and, if asked, the packed scores (T,) of that kind.

        With `causal` each token attends to itself and those before it in its sequence. `backend`
        is what an earlier run of the same layer named, which this one repeats.
        """

    def tokens_of(self, hidden_SND: Tensor, ragged: Ragged) -> Tensor:
        """(S, N, D) → (T, D): one row per token."""

    def plan(self, evidence: Evidence, config: PruningConfig) -> PruningPlan:
        """Decide which tokens stay, and where the others go."""

    def shorten(self, hidden_SND: Tensor, plan: PruningPlan) -> Tensor:
        """Apply the plan: (S, N, D) → (S, N', D)."""


class PackedEngine:
    """One row of all tokens: linear layers see no padding, attention respects `cu_seqlens`."""

    def row_multiple(self, device: torch.device, dtype: torch.dtype) -> int:
        """32 in half precision on a CPU, where kernels are built per shape; else 1."""
        return _HALF_ROWS if device.type == "cpu" and dtype.itemsize == 2 else 1

    def enter(self, packed: Tensor, ragged: Ragged) -> Tensor:
        """(T, ...) → (1, N, ...)."""
        return _filled(packed, ragged)[None]

    def leave(self, hidden_SND: Tensor, ragged: Ragged) -> Tensor:
        """(1, N, D) → (B, L, D)."""
        return unpack(hidden_SND[0, : ragged.total], ragged)

    def to_grid(self, x_SHNd: Tensor, ragged: Ragged) -> Tensor:
        """(1, H, N, d) → (B, H, L, d)."""
        return unpack(x_SHNd[0].transpose(0, 1)[: ragged.total], ragged).transpose(1, 2)

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
        """See `Engine.attend`; see `attention.choice` for the back ends."""
        if ragged.total == 0:
            no_scores = q_SHNd.new_zeros(0, dtype=torch.float32) if score else None
            return EngineAttended(torch.zeros_like(v_SHNd).transpose(1, 2), no_scores, "none")
        q, k, v = (
            x[0].transpose(0, 1)[: ragged.total]
            if ragged.rows > ragged.total
            # a slice of everything would still cost a copy of its gradient
            else x[0].transpose(0, 1)
            for x in (q_SHNd, k_SHNd, v_SHNd)
        )
        attend = BACKENDS.get(backend) if backend is not None else None
        if attend is None:
            request = Request.of(
                q, k, v, ragged, dropout=dropout, score=score, bias=bias, causal=causal
            )
            attend = choose_backend(request)
        attended = attend(
            q, k, v, ragged, scaling=scaling, dropout=dropout, score=score, bias=bias, causal=causal
        )
        return EngineAttended(
            _filled(attended.out_THd, ragged)[None], attended.scores_T, backend_name(attend)
        )

    def tokens_of(self, hidden_SND: Tensor, ragged: Ragged) -> Tensor:
        """The row without what fills it up."""
        return hidden_SND[0, : ragged.total]

    def plan(self, evidence: Evidence, config: PruningConfig) -> PruningPlan:
        """See `planning.make_plan`."""
        return make_plan(evidence, config)

    def shorten(self, hidden_SND: Tensor, plan: PruningPlan) -> Tensor:
        """See `plan.apply_plan`."""
        if not plan.removes:
            return hidden_SND
        return apply_plan(hidden_SND[0, : plan.before.total], plan, plan.after.rows)[None]


def _filled(packed: Tensor, ragged: Ragged) -> Tensor:
    """(T, ...) → (N, ...), zeros behind."""
    missing = ragged.rows - ragged.total
    if not missing:
        return packed
    return torch.cat((packed, packed.new_zeros(missing, *packed.shape[1:])))


class PaddedEngine(PackedEngine):
    """Left-aligned rows padded to the longest sequence left, shortened by gather and scatter."""

    def row_multiple(self, device: torch.device, dtype: torch.dtype) -> int:
        """1: there is no packed row."""
        return 1

    def enter(self, packed: Tensor, ragged: Ragged) -> Tensor:
        """(T, ...) → (B, L, ...), zeros where there is no token."""
        return unpack(packed, ragged)

    def leave(self, hidden_SND: Tensor, ragged: Ragged) -> Tensor:
        """Zero what padding holds by now (biases and norms made it non-zero)."""
        return torch.where(ragged.mask_BL[..., None], hidden_SND, 0.0)

    def to_grid(self, x_SHNd: Tensor, ragged: Ragged) -> Tensor:
        """The layout is the grid."""
        return x_SHNd

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
        """See `Engine.attend`."""
        out_BHLd, scores_BL = attend_grid(
            q_SHNd,
            k_SHNd,
            v_SHNd,
            ragged,
            scaling=scaling,
            dropout=dropout,
            score=score,
            bias=bias,
            causal=causal,
        )
        scores_T = None if scores_BL is None else pack(scores_BL, ragged)
        return EngineAttended(out_BHLd.transpose(1, 2), scores_T, "grid")

    def tokens_of(self, hidden_SND: Tensor, ragged: Ragged) -> Tensor:
        """Gather the tokens; columns behind the longest sequence hold none."""
        if hidden_SND.shape[1] > ragged.longest:
            hidden_SND = hidden_SND[:, : ragged.longest]
        return pack(hidden_SND, ragged)

    def shorten(self, hidden_SND: Tensor, plan: PruningPlan) -> Tensor:
        """Gather the tokens, apply the plan, scatter into the shorter grid."""
        if not plan.removes:
            return hidden_SND
        return unpack(apply_plan(pack(hidden_SND, plan.before), plan), plan.after)
