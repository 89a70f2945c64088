"""Workload requests over the tiny subject, as a plan would make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alpine_cli.measure.workload import VariantRequest, WorkloadRequest

PRUNING: dict[str, dict[str, Any] | None] = {
    "stock": None,
    "unpruned": {"layers": "none"},
    "pruned": {"layers": "even", "alpha": 1.0},
    "reference": {"layers": "even", "alpha": 1.0, "engine": "reference"},
}


def request_for(subject: tuple[Path, Path], *names: str, **changes: Any) -> WorkloadRequest:
    """The variants of these names, all of the subject's checkpoint, one thread on the CPU."""
    checkpoint, data = subject
    variants = [
        VariantRequest(name=name, checkpoint=str(checkpoint), pruning=PRUNING[name])  # type: ignore[arg-type]
        for name in names
    ]
    fields: dict[str, Any] = {"batch_size": 4, "threads": 1, "data": str(data)}
    return WorkloadRequest(variants=variants, **(fields | changes))
