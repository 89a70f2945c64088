"""The smallest kernel there is: whether Triton compiles and runs anything on a device."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["runs"]


@triton.jit
def _write_index(out, BLOCK: tl.constexpr):
    index = tl.arange(0, BLOCK)
    tl.store(out + index, index)


def runs(device: torch.device) -> bool:
    """Compile it, run it, look at the result. Synchronises; call it once.

    Raises:
        Exception: whatever Triton, the compiler or the driver raise where it does not.
    """
    capability = torch.cuda.get_device_capability(device)
    if torch.version.hip is None and capability < (8, 0):
        raise RuntimeError("its compute capability is {}.{}".format(*capability))
    out = torch.zeros(16, dtype=torch.int32, device=device)
    with torch.cuda.device(device):
        _write_index[(1,)](out, BLOCK=16)
    return out.tolist() == list(range(16))
