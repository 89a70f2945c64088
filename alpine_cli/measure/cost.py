"""What an encoder costs at given lengths: exact formulas, no model run, no torch.

Two counts, never mixed: a MAC is one multiply-add; FLOPs count its multiplication and its
addition apart, so FLOPs = 2 x MACs for the matrix products counted here. (Figures that papers
call FLOPs are often MACs: ALPINE's measured ones are.)

Counted: the products with weight matrices, queries by keys, probabilities by values. Left out, as
in every counter this project compares with: biases, LayerNorm, softmax, activations, embedding
look-ups (no multiply-adds). Scoring and merging are additions, hence no MACs; they are given as
`pruning_overhead_flops`.

`paper_*` are the formulas of the ALPINE replication package, which count a product of two
n-vectors as n multiplications and n - 1 additions; they serve the theory curves only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from alpine_cli.errors import MeasurementError

__all__ = [
    "EncoderShape",
    "attention_macs",
    "feed_forward_macs",
    "paper_crossing",
    "paper_feed_forward_flops",
    "paper_mha_flops",
    "pruning_overhead_flops",
]

_KNOWN = ("roberta", "xlm-roberta", "camembert", "bert", "electra", "distilbert")


@dataclass(frozen=True)
class EncoderShape:
    """The sizes that a cost depends on.

    Attributes:
        layers: number of encoder layers.
        hidden: model width D; queries, keys, values and output are D x D.
        heads: attention heads H.
        feed_forward: inner width F of the two feed-forward matrices.
        embedding: width of the embeddings; where it differs from `hidden` (ELECTRA), each token
            passes one E x D projection before the first layer.
    """

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    embedding: int

    @classmethod
    def from_config(cls, config: Any) -> EncoderShape:
        """Read the sizes off a transformers configuration.

        Raises:
            MeasurementError: a family whose layers these formulas do not describe.
        """
        family = getattr(config, "model_type", "unknown")
        if family not in _KNOWN:
            raise MeasurementError(
                f"no cost formula for model type {family!r}; known: {', '.join(_KNOWN)}."
                " The operator counts of measure-flops still hold"
            )
        hidden = config.hidden_size
        feed_forward = config.hidden_dim if family == "distilbert" else config.intermediate_size
        return cls(
            layers=config.num_hidden_layers,
            hidden=hidden,
            heads=config.num_attention_heads,
            feed_forward=feed_forward,
            embedding=getattr(config, "embedding_size", hidden) if family == "electra" else hidden,
        )

    @property
    def projection_macs_per_token(self) -> int:
        """MACs of the projection from embedding to hidden width; 0 where there is none."""
        return 0 if self.embedding == self.hidden else self.embedding * self.hidden


def attention_macs(shape: EncoderShape, lengths: ArrayLike) -> NDArray[np.int64]:
    """MACs of one layer's attention block at each of `lengths` tokens: 4 n D^2 + 2 n^2 D."""
    n = np.asarray(lengths, dtype=np.int64)
    return 4 * n * shape.hidden**2 + 2 * n * n * shape.hidden


def feed_forward_macs(shape: EncoderShape, lengths: ArrayLike) -> NDArray[np.int64]:
    """MACs of one layer's feed-forward block at each of `lengths` tokens: 2 n D F."""
    n = np.asarray(lengths, dtype=np.int64)
    return 2 * n * shape.hidden * shape.feed_forward


def pruning_overhead_flops(
    shape: EncoderShape, before: ArrayLike, after: ArrayLike, *, merge: bool
) -> NDArray[np.int64]:
    """FLOPs that one pruning layer adds, at the given lengths before and after it.

    H n^2 additions for the scores (sums over heads and queries), 6 n for their division, mean,
    deviation and band, and, where tokens were merged, D per removed token for their mean.
    """
    n = np.asarray(before, dtype=np.int64)
    m = np.asarray(after, dtype=np.int64)
    # One merged token stands among the m; a single merged token leaves the length as it was,
    # which lengths alone cannot tell from nothing removed: D additions too few, at the most.
    removed = np.where(m < n, n - m + 1, 0) if merge else np.zeros_like(n)
    return shape.heads * n * n + 6 * n + removed * shape.hidden


def paper_mha_flops(n: float, hidden: int = 768, heads: int = 12) -> float:
    """ALPINE's F_MHA(n) = 8 n d^2 + 4 n^2 d - 4 n d + h n^2, one layer, true FLOPs."""
    return 8 * n * hidden**2 + 4 * n * n * hidden - 4 * n * hidden + heads * n * n


def paper_feed_forward_flops(n: float, hidden: int = 768) -> float:
    """ALPINE's F_FFN(n) = 16 n d^2 - n d, one layer with F = 4 d, true FLOPs."""
    return 16 * n * hidden**2 - n * hidden


def paper_crossing(hidden: int = 768, heads: int = 12) -> int:
    """The longest input for which the feed-forward block costs more than attention.

    floor((8 d^2 + 3 d) / (4 d + h)): 1530 for d=768, h=12. (The replication package's README
    once said 1375, which does not follow from its own formulas.)
    """
    return (8 * hidden**2 + 3 * hidden) // (4 * hidden + heads)
