"""Which physical GPU a CUDA device is: its UUID, the one name that driver and CUDA agree on.

CUDA counts the devices that CUDA_VISIBLE_DEVICES leaves, by default the fastest first; NVML counts
all boards of the machine in the order of the bus. A meter opened by index would read a
neighbour's board. So the UUID is asked of torch, and where it has none, worked out of
CUDA_VISIBLE_DEVICES as the CUDA programming guide defines it; what stays ambiguous is not guessed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from alpine_cli.measure.environment import nvml

__all__ = ["gpu_uuid_of", "visible_uuids"]


def gpu_uuid_of(index: int) -> str | None:
    """NVML's UUID ("GPU-…") of CUDA device `index` of this process; None where it is unknown."""
    import torch

    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    if uuid is not None:
        return f"GPU-{uuid}"
    with nvml() as library:
        uuids = None if library is None else visible_uuids(library, os.environ)
    return uuids[index] if uuids and index < len(uuids) else None


def visible_uuids(library: Any, environment: Mapping[str, str]) -> list[str] | None:
    """UUIDs of the GPUs that CUDA sees, in CUDA's order.

    Args:
        library: the `pynvml` module, initialised.
        environment: holds CUDA_VISIBLE_DEVICES (indices, or UUIDs that may be cut short; what
            follows the first invalid entry is invisible) and CUDA_DEVICE_ORDER.

    Returns:
        None where indices are used on a machine of several kinds of GPU whose CUDA order is not
        that of the bus: which board is the fastest, NVML does not tell.
    """
    boards = []
    for index in range(library.nvmlDeviceGetCount()):
        handle = library.nvmlDeviceGetHandleByIndex(index)
        boards.append(tuple(_text(ask(handle)) for ask in _questions(library)))
    uuids = [uuid for uuid, _ in boards]
    ordered = (
        environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        or len({name for _, name in boards}) <= 1
    )
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is None:
        return uuids if ordered else None
    visible: list[str] = []
    for entry in (part.strip() for part in named.split(",")):
        if entry.isdigit():
            if not ordered:
                return None
            found = uuids[int(entry) : int(entry) + 1]
        else:
            found = [uuid for uuid in uuids if entry and uuid.startswith(entry)]
        if len(found) != 1 or found[0] in visible:
            break
        visible += found
    return visible


def _questions(library: Any) -> tuple[Any, Any]:
    return library.nvmlDeviceGetUUID, library.nvmlDeviceGetName


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
