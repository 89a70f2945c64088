"""Where a variant computes at padded lengths, by device: GPUs are only described here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alpine_cli.measure import analytic
from alpine_cli.measure.analytic import Layout
from alpine_cli.pruning import PruningConfig
from alpine_cli.pruning.attention import choice
from alpine_cli.pruning.attention.availability import Availability
from tests.pruning.families import make_model


def variant(family: str, device: str, engine: Any, dtype: torch.dtype = torch.float32) -> Any:
    pruning = None if engine is None else PruningConfig(engine=engine)
    return SimpleNamespace(
        model=make_model(family).to(dtype),
        device=torch.device(device),
        pruning=pruning,
        pads=engine != "packed",
    )


@pytest.mark.parametrize(
    ("family", "device", "engine", "dtype", "missing", "kernels", "expected"),
    [
        ("roberta", "cpu", None, torch.float32, (), False, Layout(True, True)),
        ("roberta", "cpu", "packed", torch.float32, (), False, Layout()),
        ("roberta", "cpu", "padded", torch.float32, (), False, Layout(True, True, True)),
        ("roberta", "cpu", "reference", torch.float32, (), False, Layout(True, True)),
        ("modernbert", "cpu", "packed", torch.float32, (), False, Layout()),
        # a kernel that returns the log-sum-exp spares one of two passes for scores
        ("roberta", "cuda", "packed", torch.bfloat16, (), True, Layout(score_passes=1)),
        ("roberta", "cuda", "packed", torch.float32, (), True, Layout(score_passes=2)),
        # scores of probabilities: attention that needs none does not pad
        ("roberta", "cuda", "packed", torch.bfloat16, (), False, Layout(weights_queries=True)),
        (
            "roberta",
            "cuda",
            "packed",
            torch.float32,
            ("nested",),
            True,
            Layout(attention_pads=True, score_passes=2),
        ),
        ("t5", "cuda", "packed", torch.bfloat16, (), True, Layout(False, True, True)),
        ("llama", "cuda", "packed", torch.bfloat16, (), True, Layout(score_passes=1)),
        ("roberta", "mps", "packed", torch.float32, (), False, Layout(False, True, True)),
    ],
)
def test_the_layout(
    monkeypatch: pytest.MonkeyPatch,
    family: str,
    device: str,
    engine: Any,
    dtype: torch.dtype,
    missing: tuple[str, ...],
    kernels: bool,
    expected: Layout,
) -> None:
    there = Availability(dict.fromkeys(missing, "it is not there"), kernels)
    for module in (choice, analytic):
        monkeypatch.setattr(module, "availability", lambda device: there)
    assert Layout.of(variant(family, device, engine, dtype)) == expected
