"""What every section works with: the device, real code, encoders, precisions, and the variants."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from alpine_cli.pruning import PruningConfig, preset
from benchmarks.cuda.code import LibraryCode
from benchmarks.cuda.encoders import build_encoder
from benchmarks.cuda.machine import gpu_uuid
from benchmarks.cuda.stock_flash import flash_variants
from benchmarks.variants import Variant

__all__ = [
    "PACKED",
    "PRECISIONS",
    "PUBLISHED_WAY",
    "SHARE_RULE",
    "Precision",
    "Workbench",
    "multiplying",
    "named",
]


@dataclass(frozen=True)
class Precision:
    """How numbers are held and multiplied.

    Attributes:
        dtype: of weights and activations.
        matmul: of `torch.set_float32_matmul_precision`: "high" lets CUDA multiply float32 in TF32.
    """

    dtype: torch.dtype
    matmul: str = "highest"


PRECISIONS = {
    "bfloat16": Precision(torch.bfloat16),
    "float16": Precision(torch.float16),
    "float32": Precision(torch.float32),
    "float32, TF32 on": Precision(torch.float32, "high"),
}

# A rule whose lengths the host knows beforehand, so that no layer has to wait for the device.
SHARE_RULE = PruningConfig("all", rule="top", keep=0.85, merge="mean")

PACKED = (
    Variant("packed, none", "packed"),
    Variant("packed, even", "packed", "even"),
    Variant("packed, all", "packed", "all"),
    Variant("packed, alpine-plus", "packed", "all", rule=preset("alpine-plus")),
    Variant("packed, top 85% mean", "packed", "all", rule=SHARE_RULE),
)
PUBLISHED_WAY = (
    Variant("published way, none", "reference"),
    Variant("published way, all", "reference", "all"),
)
_OTHERS = (
    Variant("stock padded", None),
    Variant("stock bucketed", None, bucketed=True),
    Variant("padded, none", "padded", bucketed=True),
    Variant("padded, all", "padded", "all", bucketed=True),
)


_LONGEST = 8192
"""Inputs beyond functions share one position table, so that one encoder serves all lengths."""


@dataclass
class Workbench:
    """Made once per run.

    Attributes:
        device: where everything runs.
        small: whether sizes are those of a trial on a CPU.
        code: what is read.
        say: told what happens.
    """

    device: torch.device
    small: bool
    code: LibraryCode
    say: Callable[[str], None]
    _built: dict[tuple[str, int], Any] = field(default_factory=dict)

    @property
    def uuid(self) -> str | None:
        """NVML's name of the GPU."""
        return gpu_uuid(self.device)

    @property
    def main_encoder(self) -> str:
        """The size that most cells are about."""
        return "small" if self.small else "roberta-base"

    @property
    def cut_at(self) -> int:
        """Tokens at which functions are cut."""
        return 48 if self.small else 512

    def functions(self, batch_size: int) -> list[list[int]]:
        """The functions of a round in batches of that size: several batches, where there are."""
        if self.small:
            return self.code.rows(min(8, 2 * batch_size), self.cut_at)
        return self.code.rows(min(512, max(32, 4 * batch_size)), self.cut_at)

    def encoder(self, name: str, longest: int, dtype: torch.dtype) -> Any:
        """That encoder on the device; the last one built is kept, for it takes seconds."""
        key = name, longest if longest <= self.cut_at else max(longest, _LONGEST)
        if key not in self._built:
            self._built = {key: build_encoder(*key)}
        return copy.deepcopy(self._built[key]).to(self.device, dtype)

    def variants(self, dtype: torch.dtype) -> tuple[list[Variant], dict[str, str]]:
        """All ways to run inference in `dtype` here, and reasons for those that cannot be."""
        flash, absent = flash_variants(self.device, dtype)
        return [*_OTHERS, *flash, *PUBLISHED_WAY, *PACKED], absent

    def release(self) -> None:
        """Give memory that nothing refers to back to a GPU."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()


@contextmanager
def multiplying(precision: Precision) -> Iterator[None]:
    """float32 products as that precision wants them, and as before afterwards."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision.matmul)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def named(variants: Sequence[Variant], *names: str) -> list[Variant]:
    """Those of these names, in the order of `variants`."""
    return [variant for variant in variants if variant.name in names]
