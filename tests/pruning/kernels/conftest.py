"""Where kernels are tested: compiled on a GPU if there is one, else by Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from alpine_cli.pruning import kernels

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The device that kernels run on, skipping the test if there is none."""
    pytest.importorskip("triton")
    if not kernels.available(DEVICE):
        pytest.skip(
            f"kernels do not run on {DEVICE}: on a CPU they need TRITON_INTERPRET=1, on a GPU"
            " compute capability 8.0"
        )
    return DEVICE
