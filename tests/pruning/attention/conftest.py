"""Back ends for GPUs on a CPU: stand-ins for their libraries, and a device that offers them all."""

from __future__ import annotations

import sys

import pytest
import torch
from torch.nn.attention import varlen

from alpine_cli.pruning.attention import choice
from alpine_cli.pruning.attention.availability import Availability
from tests.pruning.attention.libraries import HALF, FlashAttnPackage, FlashKernel, varlen_attn


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FlashKernel:
    """The kernel behind `varlen_attn` and flash-attn; here it takes float32, to be compared by."""
    kernel = FlashKernel(dtypes=(*HALF, torch.float32))
    monkeypatch.setattr(varlen, "varlen_attn", varlen_attn(kernel))
    monkeypatch.setitem(sys.modules, "flash_attn", FlashAttnPackage(kernel))
    return kernel


@pytest.fixture
def all_there(kernel: FlashKernel, monkeypatch: pytest.MonkeyPatch) -> FlashKernel:
    """`attention_backend` lets every back end serve float32 on this CPU, too."""
    monkeypatch.setattr(choice, "availability", lambda device: Availability())
    monkeypatch.setattr(choice, "_HALF", (*HALF, torch.float32))
    return kernel
