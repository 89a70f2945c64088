"""Attention over packed sequences, with the scores of the tokens where they are asked for.

Two back ends behind one signature (`Attend`); others join through `choose_backend`:
- `attend_per_sequence`: one sequence after the other, no padding at all. On a CPU the call
  overhead is small against the work, and an attention matrix that is consumed while it is still
  in cache makes scores cost about a tenth of the attention itself.
- `attend_padded`: one batched call over left-aligned padding, for devices where a launch per
  sequence is dear.

Neither computes an attention matrix that nobody reads: without scores both use PyTorch's SDPA.
Scores are taken before attention dropout and carry no gradient.

Causal attention (`causal`) of what is left of a decoder's tokens is plain causal attention, because
they stay in order (see `plan`): SDPA is told so and needs no mask, left-aligned padding included.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged, pack, unpack
from alpine_cli.pruning.scoring import causal_units, token_scores

__all__ = [
    "Attend",
    "Attended",
    "attend_grid",
    "attend_padded",
    "attend_per_sequence",
    "choose_backend",
    "grid_probabilities",
]

_CHUNK_BYTES = 4 << 20
"""Attention probabilities worked on at once on a CPU: small enough to stay in its cache."""


@dataclass(frozen=True)
class Attended:
    """What one attention returns.

    Attributes:
        out_THd: (T, H, d) attended values.
        scores_T: (T,) float32 mean attention received; None unless asked for.
    """

    out_THd: Tensor
    scores_T: Tensor | None


class Attend(Protocol):
    """Attention of every sequence to itself.

    q, k and v are (T, H, d); `scaling` multiplies the logits; `dropout` is the probability with
    which attention probabilities are dropped (0 outside training); `score` says which scores are
    wanted, if any; `bias` is added to the logits; `causal` hides later keys. T is at least 1.
    """

    def __call__(
        self,
        q_THd: Tensor,
        k_THd: Tensor,
        v_THd: Tensor,
        ragged: Ragged,
        *,
        scaling: float,
        dropout: float,
        score: Score | None,
        bias: LogitBias | None = None,
        causal: bool = False,
    ) -> Attended:
        """Attend, and score the tokens if `score` is given."""


def choose_backend(device: torch.device) -> Attend:
    """The back end that serves a device best."""
    return attend_per_sequence if device.type == "cpu" else attend_padded


def attend_per_sequence(
    q_THd: Tensor,
    k_THd: Tensor,
    v_THd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    dropout: float,
    score: Score | None,
    bias: LogitBias | None = None,
    causal: bool = False,
) -> Attended:
    """One sequence after the other, without padding. See `Attend`."""
    trains = torch.is_grad_enabled() and any(x.requires_grad for x in (q_THd, k_THd, v_THd))
    # split, not slices: the backward pass of a slice fills a gradient for all T tokens.
    parts = zip(
        ragged.lengths,
        *(x.transpose(0, 1).split(ragged.lengths, dim=1) for x in (q_THd, k_THd, v_THd)),
        strict=True,
    )
    # Without gradients results go where they belong at once, and no list of them is kept.
    out_THd = torch.empty_like(v_THd, memory_format=torch.contiguous_format)
    scores_T = out_THd.new_empty(ragged.total if score else 0, dtype=torch.float32)
    outs: list[Tensor] = []
    stop = 0
    for n, q, k, v in parts:  # (H, n, d)
        start, stop = stop, stop + n
        if n == 0:
            continue
        added = None if bias is None else bias.of_rows(start, stop)
        plain = causal and added is None and score is None
        if causal and not plain:  # torch takes no mask besides is_causal
            later = _later_keys(n, q.device)
            added = later if added is None else added + later
        if score is None:
            out = F.scaled_dot_product_attention(
                q[None],
                k[None],
                v[None],
                attn_mask=None if added is None else added.to(q.dtype)[None],
                dropout_p=dropout,
                is_causal=plain,
                scale=scaling,
            )[0]
        elif trains or dropout:
            out, scores_T[start:stop] = _attend_scored(
                q, k, v, scaling, dropout, added, score, causal
            )
        else:
            out, scores_T[start:stop] = _attend_scored_in_chunks(
                q, k, v, scaling, added, score, causal
            )
        if trains:
            outs.append(out.transpose(0, 1))
        else:
            out_THd[start:stop] = out.transpose(0, 1)
    return Attended(torch.cat(outs) if trains else out_THd, scores_T if score else None)


def _attend_scored(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scaling: float,
    dropout: float,
    added: Tensor | None,
    score: Score,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """Attention of one sequence (H, n, d) with its scores (n,), differentiable."""
    logits = torch.matmul(q, k.transpose(1, 2)) * scaling
    probs = _softmax(logits if added is None else logits + added)
    received = token_scores(probs[None], score, causal=causal)[0]
    probs = F.dropout(probs.to(v.dtype), p=dropout, training=dropout > 0)
    return torch.matmul(probs, v), received


def _attend_scored_in_chunks(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scaling: float,
    added: Tensor | None,
    score: Score,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """The same for inference, a few heads at a time: probabilities never leave the cache.

    Of a sequence so long that one head's do not fit, a few queries at a time.

    Half precision is widened first: a sequence of every length would otherwise build kernels of
    its own, and converting each chunk of probabilities back costs more than the products gain.
    """
    dtype, wide = v.dtype, torch.promote_types(v.dtype, torch.float32)
    q, k, v = q.to(wide), k.to(wide), v.to(wide)
    heads, n, _ = q.shape
    chunk = max(1, min(heads, _CHUNK_BYTES // (4 * n * n)))
    out = torch.empty_like(v)
    received = torch.zeros(n, dtype=torch.float32, device=q.device)
    k_HdN = k.transpose(1, 2)
    units_n = causal_units(n, q.device) if causal else None
    if added is not None:
        added = added.expand(heads, n, n)
    rows = min(n, max(1, _CHUNK_BYTES // (4 * n)))
    reader = n - 1 if causal else 0  # the query that "cls" asks
    for first, start in itertools.product(range(0, heads, chunk), range(0, n, rows)):
        part, queries = slice(first, first + chunk), slice(start, start + rows)
        logits = torch.bmm(q[part, queries] * scaling, k_HdN[part])
        probs = _softmax(logits if added is None else logits + added[part, queries])
        if score == "cls":
            if start <= reader < start + rows:
                received += probs[:, reader - start].sum(dim=0)
        elif units_n is not None:
            received += torch.mv(probs.sum(dim=0, dtype=torch.float32).T, units_n[queries])
        else:
            received += probs.sum(dim=(0, 1))
        out[part, queries] = torch.bmm(probs, v[part])
    if score == "cls":
        return out.to(dtype), received / heads
    return out.to(dtype), received / (heads * (n if units_n is None else units_n.flip(0)))


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over keys, in float32 at least: scores must not carry half-precision rounding."""
    return torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def attend_padded(
    q_THd: Tensor,
    k_THd: Tensor,
    v_THd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    dropout: float,
    score: Score | None,
    bias: LogitBias | None = None,
    causal: bool = False,
) -> Attended:
    """All sequences in one call, padded to the longest for the time of it. See `Attend`."""
    q, k, v = (unpack(x, ragged).transpose(1, 2) for x in (q_THd, k_THd, v_THd))
    out_BHLd, scores_BL = attend_grid(
        q, k, v, ragged, scaling=scaling, dropout=dropout, score=score, bias=bias, causal=causal
    )
    out_THd = pack(out_BHLd.transpose(1, 2), ragged)
    return Attended(out_THd, None if scores_BL is None else pack(scores_BL, ragged))


def attend_grid(
    q_BHLd: Tensor,
    k_BHLd: Tensor,
    v_BHLd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    dropout: float,
    score: Score | None,
    bias: LogitBias | None = None,
    causal: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention over left-aligned padding: (B, H, L, d) values and, if asked, (B, L) scores.

    Rows of padding hold finite values that nobody may read.
    """
    if score is None:
        # no token sees padding, which stands behind all of them
        plain = causal and bias is None
        out = F.scaled_dot_product_attention(
            q_BHLd,
            k_BHLd,
            v_BHLd,
            attn_mask=None if plain else _grid_mask(ragged, bias, q_BHLd.dtype, causal),
            dropout_p=dropout,
            is_causal=plain,
            scale=scaling,
        )
        return out, None
    probs = grid_probabilities(q_BHLd, k_BHLd, ragged, scaling=scaling, bias=bias, causal=causal)
    scores_BL = token_scores(probs, score, ragged.mask_BL, causal)
    probs = F.dropout(probs.to(v_BHLd.dtype), p=dropout, training=dropout > 0)
    return torch.matmul(probs, v_BHLd), scores_BL


def grid_probabilities(
    q_BHLd: Tensor,
    k_BHLd: Tensor,
    ragged: Ragged,
    *,
    scaling: float,
    bias: LogitBias | None = None,
    causal: bool = False,
) -> Tensor:
    """(B, H, L, L) attention probabilities over left-aligned padding, float32 at least."""
    logits = torch.matmul(q_BHLd, k_BHLd.transpose(2, 3)) * scaling
    if bias is not None:
        logits = logits + bias.of_grid(ragged)
    mask = _key_mask(ragged)
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    if causal:
        logits = logits + _later_keys(ragged.longest, logits.device)
    return _softmax(logits)


def _later_keys(length: int, device: torch.device) -> Tensor:
    """(n, n): −inf where the key comes after the query, else 0."""
    return torch.full((length, length), -torch.inf, device=device).triu_(1)


def _key_mask(ragged: Ragged) -> Tensor | None:
    """(B, 1, 1, L) bool: keys that exist. None where every sequence is of full length.

    An empty sequence sees its first padding key: softmax over nothing would be NaN, and nobody
    reads the row.
    """
    if all(length == ragged.longest for length in ragged.lengths):
        return None
    columns = torch.arange(ragged.longest, device=ragged.cu_seqlens.device)
    return (columns < ragged.lengths_B.clamp(min=1)[:, None])[:, None, None, :]


def _grid_mask(
    ragged: Ragged, bias: LogitBias | None, dtype: torch.dtype, causal: bool
) -> Tensor | None:
    """What SDPA takes: bool keys, or the bias in `dtype` with −inf where there is no key."""
    mask = _key_mask(ragged)
    if bias is None:
        return mask
    added = bias.of_grid(ragged).to(dtype)
    if causal:
        added = added + _later_keys(ragged.longest, added.device).to(dtype)
    return added if mask is None else added.masked_fill(~mask, -torch.inf)
