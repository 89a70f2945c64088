"""How large a batch may be, and cutting an order of samples into such batches. No torch here.

A batch is limited by samples (the usual way) or by tokens. Tokens are counted *with padding*: the
rows of a batch times its longest row. Why not real tokens, which is all that the packed engine
computes on? Variants that are compared must run the same samples together, and stock transformers
pads: a budget that holds for the padded batch holds for every variant, and memory is bounded for
each of them. Batches are sorted by length wherever it matters, so the two counts lie close.

A sample that exceeds the budget alone is a batch of its own: an error would come from a single
long function, and leaving it out would change what is measured.

Shape letters: N samples, R = B × functions per sample (rows), L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # configs, and with them every --help, import this module
    from alpine_cli.tasks.encoding import EncodedSplit

__all__ = ["BatchLimit", "bucket_length", "cut_into_batches", "grouped_by_length"]

_NAMES = ("batch_size", "tokens_per_batch")


@dataclass(frozen=True)
class BatchLimit:
    """How large a batch may be: so many samples, or so many tokens, padding counted.

    Reads as the end of a sentence: "in batches of 32", "in batches of at most 4,096 tokens, …".

    Raises:
        ValueError: not exactly one of the two, or it is below 1.
    """

    samples: int | None = None
    tokens: int | None = None

    def __post_init__(self) -> None:
        if (self.samples is None) == (self.tokens is None):
            raise ValueError(
                "a batch is limited by samples or by tokens, one of them"
                f" (got batch_size {self.samples}, tokens_per_batch {self.tokens})"
            )
        for name, value in zip(_NAMES, (self.samples, self.tokens), strict=True):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1 (got {value})")

    @classmethod
    def named(cls, settings: Mapping[str, Any], prefix: str = "") -> BatchLimit:
        """Of settings that call it PREFIXbatch_size or PREFIXtokens_per_batch."""
        size, tokens = (settings.get(f"{prefix}{name}") for name in _NAMES)
        return cls(size, tokens)

    def by_name(self, prefix: str = "") -> dict[str, int | None]:
        """The way back of `named`."""
        return {f"{prefix}{_NAMES[0]}": self.samples, f"{prefix}{_NAMES[1]}": self.tokens}

    def __str__(self) -> str:
        if self.tokens is None:
            return str(self.samples)
        return f"at most {self.tokens:,} tokens, padding counted"

    @property
    def words(self) -> str:
        """Where no sentence leads up to it: "batch size 32", "batches of at most …"."""
        return f"batch size {self}" if self.tokens is None else f"batches of {self}"


def cut_into_batches(
    order: Sequence[int], limit: BatchLimit, longest_N: Sequence[int], *, functions: int = 1
) -> list[list[int]]:
    """Cut an order of sample indices into batches, each as large as the limit lets it be.

    Every index stands in exactly one batch, in the order given; what is computed depends on the
    order and the lengths alone.

    Args:
        order: indices into `longest_N`.
        limit: by tokens, a batch of B samples holds at most `limit.tokens` = B × `functions` × its
            longest row; a sample that exceeds that alone is a batch of its own.
        longest_N: tokens of each sample's longest row, by index.
        functions: rows per sample.
    """
    if limit.tokens is None:
        size = limit.samples
        assert size is not None
        return [list(order[at : at + size]) for at in range(0, len(order), size)]
    batches: list[list[int]] = []
    widest = 0
    for index in order:
        wider = max(widest, longest_N[index])
        if batches and (len(batches[-1]) + 1) * functions * wider <= limit.tokens:
            batches[-1].append(index)
            widest = wider
        else:
            batches.append([index])
            widest = longest_N[index]
    return batches


def grouped_by_length(encoded: EncodedSplit, limit: BatchLimit) -> list[list[int]]:
    """All samples in batches of similar length, longest first: the least padding there can be.

    But for ties, which samples stand together does not depend on the order of the split.
    """
    longest = [encoded.longest_row(i) for i in range(len(encoded))]
    order = sorted(
        range(len(encoded)), key=lambda i: (longest[i], encoded.length(i), i), reverse=True
    )
    return cut_into_batches(order, limit, longest, functions=encoded.functions)


def bucket_length(length: int) -> int:
    """The end of a length's bucket: rounded up to three bits after the first (…, 64, 72, 80, …).

    Never more than an eighth above the length, so that is how far a budget reckoned with buckets
    may be from being used up.
    """
    step = 1 << max(0, length.bit_length() - 4)
    return -(-length // step) * step
