"""How large a result's batches were, by samples or by tokens, as reports say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Batches", "batches_of"]


@dataclass(frozen=True, order=True)
class Batches:
    """Reads after "batch" or "batch size": "32", "≤ 4,096 tokens". Sizes in samples sort first.

    Attributes:
        tokens: at most, padding counted; 0 where samples are counted.
        samples: 0 where tokens are counted.
    """

    tokens: int = 0
    samples: int = 0

    def __str__(self) -> str:
        return f"≤ {self.tokens:,} tokens" if self.tokens else str(self.samples)


def batches_of(settings: Mapping[str, Any], prefix: str = "") -> Batches | None:
    """Of a result's settings; None where they do not say.

    Args:
        settings: of a result.
        prefix: "" for inference, "flops_", "training_".
    """
    tokens, samples = (
        value if isinstance(value, int) and not isinstance(value, bool) else 0
        for value in (settings.get(f"{prefix}{n}") for n in ("tokens_per_batch", "batch_size"))
    )
    return Batches(tokens, 0 if tokens else samples) if tokens or samples else None
