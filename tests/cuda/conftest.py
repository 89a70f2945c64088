"""Tests that need a GPU: skipped, with the reason, where there is none."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _cuda() -> None:
    if not torch.cuda.is_available():
        build = torch.version.cuda or "none: a CPU build"
        pytest.skip(f"needs a CUDA device (CUDA of this PyTorch: {build})")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())
