"""One sequence after the other, without padding: the back end for CPUs.

There the call overhead is small against the work, and an attention matrix that is consumed while it
is still in cache makes scores cost about a tenth of the attention itself.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor

from alpine_cli.pruning.attention.logits import later_keys, softmax_over_keys
from alpine_cli.pruning.attention.protocol import Attended
from alpine_cli.pruning.bias import LogitBias
from alpine_cli.pruning.config import Score
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.scoring import causal_units, token_scores

__all__ = ["attend_per_sequence"]

_CHUNK_BYTES = 4 << 20
"""Attention probabilities worked on at once on a CPU: small enough to stay in its cache."""


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
            later = later_keys(n, q.device)
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
    probs = softmax_over_keys(logits if added is None else logits + added)
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
        probs = softmax_over_keys(logits if added is None else logits + added[part, queries])
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
