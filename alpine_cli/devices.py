"""Which device work runs on: the one asked for, or an error that says what there is."""

from __future__ import annotations

import torch

from alpine_cli.errors import ModelError

__all__ = ["resolve_device"]


def resolve_device(name: str | None) -> torch.device:
    """The device of that name; None: CUDA where there is one, else the CPU.

    Raises:
        ModelError: not a device alpine runs on, or it is absent.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ModelError(f"--device: {name!r} is unknown; give cpu, cuda or cuda:N")
    if kind == "cpu":
        return torch.device("cpu")
    if not torch.cuda.is_available():
        built = torch.version.cuda or "none, this is a CPU build of PyTorch"
        raise ModelError(
            f"--device {name}: no CUDA device is available here (CUDA of PyTorch: {built})."
            " Use --device cpu"
        )
    if index and int(index) >= torch.cuda.device_count():
        raise ModelError(f"--device {name}: this machine has {torch.cuda.device_count()} GPU(s)")
    return torch.device(name)
