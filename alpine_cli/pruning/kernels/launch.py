"""On which device a kernel is launched: that of its tensors, which need not be the current one.

torch.compile traces the launches themselves without a break. Around them breaks are left: where
lengths are copied to the host, and at a first look whether kernels run on a device.
"""

from __future__ import annotations

from torch import Tensor

__all__ = ["index_of"]


def index_of(x: Tensor) -> int:
    """For `torch.cuda.device`: index of the device that holds `x`; −1, which changes nothing, else.

    In place of `torch.cuda.device_of`, at which torch.compile breaks its graph.
    """
    return x.device.index if x.is_cuda else -1
