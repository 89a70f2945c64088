"""What an encoder costs at given lengths: exact formulas, no model run, no torch.

Two counts, never mixed: a MAC is one multiply-add; FLOPs count its multiplication and its
addition apart, so FLOPs = 2 x MACs for the matrix products counted here. (Figures that papers
call FLOPs are often MACs: ALPINE's measured ones are.)

Counted: the products with weight matrices, queries by keys, probabilities by values. Left out, as
in every counter this project compares with: biases, LayerNorm, softmax, activations, position
biases and rotations, embedding look-ups (no multiply-adds). What pruning itself computes stands
apart, in `overhead`.

`paper_*` are the formulas of the ALPINE replication package, which count a product of two
n-vectors as n multiplications and n - 1 additions; they serve the theory curves only.

Attention is counted over all keys, also in ModernBERT's local layers: stock transformers (SDPA)
and alpine's engines compute the whole product and mask it. So it is counted for decoders, too, as
both operator counters do; a fused causal kernel may leave out the half that is masked.
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
    "attention_product_macs",
    "attention_weight_macs",
    "feed_forward_macs",
    "paper_crossing",
    "paper_feed_forward_flops",
    "paper_mha_flops",
]

_KNOWN = (
    "roberta",
    "xlm-roberta",
    "camembert",
    "bert",
    "electra",
    "distilbert",
    "modernbert",
    "t5",
    "gpt2",
    "llama",
    "qwen2",
)


@dataclass(frozen=True)
class EncoderShape:
    """The sizes that a cost depends on.

    Attributes:
        layers: number of encoder layers.
        hidden: model width D.
        heads: attention heads H.
        feed_forward: inner width F of the feed-forward block.
        embedding: width of the embeddings; where it differs from `hidden` (ELECTRA), each token
            passes one E x D projection before the first layer.
        feed_forward_matrices: 2, or 3 where the block is gated (ModernBERT, gated T5, Llama).
        heads_width: width of all heads' queries together where it is not D: T5's heads have a
            size of their own, Llama's may.
        keys_width: width of all heads' keys, and of their values, where queries share them.
    """

    layers: int
    hidden: int
    heads: int
    feed_forward: int
    embedding: int
    feed_forward_matrices: int = 2
    heads_width: int | None = None
    keys_width: int | None = None

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
        hidden, heads = config.hidden_size, config.num_attention_heads
        names = {"distilbert": "hidden_dim", "t5": "d_ff", "gpt2": "n_inner"}
        inner = getattr(config, names.get(family, "intermediate_size"))
        rotary = family in ("llama", "qwen2")
        gated = family == "modernbert" or rotary or (family == "t5" and config.is_gated_act)
        of_head = config.d_kv if family == "t5" else None
        if rotary:
            of_head = getattr(config, "head_dim", None) or hidden // heads
        return cls(
            layers=config.num_hidden_layers,
            hidden=hidden,
            heads=heads,
            feed_forward=4 * hidden if inner is None else inner,  # as GPT-2 reads it
            embedding=getattr(config, "embedding_size", hidden) if family == "electra" else hidden,
            feed_forward_matrices=3 if gated else 2,
            heads_width=None if of_head is None else heads * of_head,
            keys_width=config.num_key_value_heads * of_head if of_head and rotary else None,
        )

    @property
    def attention(self) -> int:
        """Width I of queries."""
        return self.hidden if self.heads_width is None else self.heads_width

    @property
    def keys(self) -> int:
        """Width K of keys and of values, which is I unless heads share them."""
        return self.attention if self.keys_width is None else self.keys_width

    @property
    def projection_macs_per_token(self) -> int:
        """MACs of the projection from embedding to hidden width; 0 where there is none."""
        return 0 if self.embedding == self.hidden else self.embedding * self.hidden


def attention_weight_macs(shape: EncoderShape, lengths: ArrayLike) -> NDArray[np.int64]:
    """MACs of one layer's four attention matrices at each of `lengths` tokens: 2 n D (I + K)."""
    widths = shape.attention + shape.keys
    return 2 * np.asarray(lengths, dtype=np.int64) * shape.hidden * widths


def attention_product_macs(shape: EncoderShape, lengths: ArrayLike) -> NDArray[np.int64]:
    """MACs of queries by keys and probabilities by values, in one layer: 2 n^2 I."""
    n = np.asarray(lengths, dtype=np.int64)
    return 2 * n * n * shape.attention


def attention_macs(shape: EncoderShape, lengths: ArrayLike) -> NDArray[np.int64]:
    """MACs of one layer's attention block at each of `lengths` tokens: 2 n D (I + K) + 2 n^2 I."""
    return attention_weight_macs(shape, lengths) + attention_product_macs(shape, lengths)


def feed_forward_macs(shape: EncoderShape, lengths: ArrayLike) -> NDArray[np.int64]:
    """MACs of one layer's feed-forward block at `lengths` tokens each: 2 n D F, gated 3 n D F."""
    n = np.asarray(lengths, dtype=np.int64)
    return shape.feed_forward_matrices * n * shape.hidden * shape.feed_forward


def paper_mha_flops(n: int, hidden: int = 768, heads: int = 12) -> int:
    """ALPINE's F_MHA(n) = 8 n d^2 + 4 n^2 d - 4 n d + h n^2, one layer, true FLOPs."""
    return 8 * n * hidden**2 + 4 * n * n * hidden - 4 * n * hidden + heads * n * n


def paper_feed_forward_flops(n: int, hidden: int = 768, feed_forward: int | None = None) -> int:
    """ALPINE's F_FFN(n) = 4 n d F - n d, one layer, true FLOPs; F = 4 d unless given.

    The paper writes 16 n d^2 - n d, which is this for F = 4 d.
    """
    inner = 4 * hidden if feed_forward is None else feed_forward
    return 4 * n * hidden * inner - n * hidden


def paper_crossing(hidden: int = 768, heads: int = 12, feed_forward: int | None = None) -> int:
    """The longest input for which the feed-forward block costs at least as much as attention.

    floor((4 d F - 8 d^2 + 3 d) / (4 d + h)), which is floor((8 d^2 + 3 d) / (4 d + h)) for
    F = 4 d: 1530 for d=768, h=12. (The replication package's README once said 1375, which does
    not follow from its own formulas.) 0 where attention costs more at every length.
    """
    inner = 4 * hidden if feed_forward is None else feed_forward
    return max(0, (4 * hidden * inner - 8 * hidden**2 + 3 * hidden) // (4 * hidden + heads))
