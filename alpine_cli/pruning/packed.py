"""Packed sequences: the tokens of a whole batch in one row, and where each sequence stands in it.

Shape suffixes of this room: B batch, L tokens of the longest sequence (padded), T tokens of the
whole batch (packed), H heads, D hidden size, d head size.

A batch of lengths (3, 0, 2) is the row [a0 a1 a2 c0 c1] with `cu_seqlens` [0 3 3 5]. Sequences
may be empty. Only `Ragged.from_lengths` may copy from the device to the host, once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

__all__ = ["Ragged", "pack", "to_device", "unpack", "widest_float"]


@dataclass(frozen=True)
class Ragged:
    """Where the sequences of a packed batch stand.

    Attributes:
        lengths: tokens of each sequence, on the host, so that loops and shapes need no
            synchronisation.
        cu_seqlens: (B + 1,) int64, cumulative lengths; sequence b is rows
            [cu_seqlens[b], cu_seqlens[b + 1]).
        segment_T: (T,) int64, the sequence each token belongs to.
        multiple: the packed row is filled up to a multiple of this; see `rows`.
    """

    lengths: tuple[int, ...]
    cu_seqlens: Tensor
    segment_T: Tensor
    multiple: int = 1

    @classmethod
    def from_lengths(
        cls, lengths_B: Tensor, host_lengths: Sequence[int] | None = None, multiple: int = 1
    ) -> Ragged:
        """Lay out sequences of `lengths_B` (B,) tokens.

        The lengths are copied to the host unless the caller already has them there.
        """
        lengths_B = lengths_B.to(torch.int64)
        host = tuple(lengths_B.tolist() if host_lengths is None else host_lengths)
        cu_seqlens = torch.nn.functional.pad(lengths_B.cumsum(0), (1, 0))
        segment_T = torch.repeat_interleave(
            torch.arange(len(host), device=lengths_B.device), lengths_B, output_size=sum(host)
        )
        return cls(host, cu_seqlens, segment_T, multiple)

    @property
    def batch(self) -> int:
        """B, the number of sequences."""
        return len(self.lengths)

    @cached_property
    def total(self) -> int:
        """T, the number of tokens of the whole batch."""
        return sum(self.lengths)

    @cached_property
    def rows(self) -> int:
        """Rows of the packed layout: T, filled up. At least 1: no module reshapes nothing.

        Rows behind the T-th belong to no sequence. Their values are finite, and nobody reads them.
        """
        return max(1, -(-self.total // self.multiple) * self.multiple)

    @cached_property
    def longest(self) -> int:
        """L, the length of the longest sequence; 1 if all are empty, so that [:, 0] exists."""
        return max((1, *self.lengths))

    @cached_property
    def lengths_B(self) -> Tensor:
        """(B,) int64, the lengths on the device."""
        return self.cu_seqlens.diff()

    @property
    def even(self) -> bool:
        """Whether all sequences are of one length: padding them changes nothing."""
        return self.total == self.batch * self.longest

    @cached_property
    def shortest(self) -> int:
        """Length of the shortest sequence that is not empty; 0 if all are."""
        return min((length for length in self.lengths if length), default=0)

    @cached_property
    def offsets(self) -> Tensor:
        """(B' + 1,) int64: `cu_seqlens` without empty sequences, of which no kernel need know."""
        if all(self.lengths):
            return self.cu_seqlens
        rows = [b + 1 for b, length in enumerate(self.lengths) if length]
        return self.cu_seqlens.index_select(0, to_device([0, *rows], self.cu_seqlens.device))

    @cached_property
    def offsets_int32(self) -> Tensor:
        """`offsets` in the dtype that attention kernels take."""
        return self.offsets.to(torch.int32)

    def spans(self) -> list[tuple[int, int]]:
        """First row and row after the last of each sequence that is not empty, on the host."""
        spans, start = [], 0
        for length in self.lengths:
            if length:
                spans.append((start, start + length))
            start += length
        return spans

    @cached_property
    def position_T(self) -> Tensor:
        """(T,) int64: position of each token within its sequence."""
        rows_T = torch.arange(self.total, device=self.segment_T.device)
        return rows_T - self.cu_seqlens[self.segment_T]

    @cached_property
    def grid_index_T(self) -> Tensor:
        """(T,) int64: where each token stands in a flattened (B, L) grid, left-aligned."""
        return self.segment_T * self.longest + self.position_T

    @cached_property
    def mask_BL(self) -> Tensor:
        """(B, L) bool: True where the left-aligned padded layout holds a token."""
        columns = torch.arange(self.longest, device=self.cu_seqlens.device)
        return columns < self.lengths_B[:, None]

    def sum_by_sequence(self, values_T: Tensor) -> Tensor:
        """(B,) sums of `values_T` over the tokens of each sequence, in `values_T`'s dtype."""
        return values_T.new_zeros(self.batch).index_add_(0, self.segment_T, values_T)


def to_device(numbers: Sequence[int], device: torch.device) -> Tensor:
    """(N,) int64 of numbers that the host knows, without waiting for the device."""
    # named, as everywhere in this room: `torch.set_default_device` may say otherwise
    on_host = torch.tensor(numbers, dtype=torch.int64, device="cpu")
    if device.type != "cuda":
        return on_host.to(device)
    # from pageable memory, the copy would wait for everything that the device has yet to do
    return on_host.pin_memory().to(device, non_blocking=True)


def widest_float(device: torch.device) -> torch.dtype:
    """The dtype for statistics: float64, or float32 on Apple's GPUs (MPS), which know no other.

    Pruning was never run on MPS.
    """
    return torch.float32 if device.type == "mps" else torch.float64


def pack(padded: Tensor, ragged: Ragged) -> Tensor:
    """Gather left-aligned (B, L, ...) into packed (T, ...). Differentiable."""
    flat = padded.reshape(ragged.batch * ragged.longest, *padded.shape[2:])
    return flat.index_select(0, ragged.grid_index_T)


def unpack(packed: Tensor, ragged: Ragged) -> Tensor:
    """Scatter packed (T, ...) into left-aligned (B, L, ...), zeros elsewhere. Differentiable."""
    trailing = packed.shape[1:]
    flat = packed.new_zeros(ragged.batch * ragged.longest, *trailing)
    flat = flat.index_copy(0, ragged.grid_index_T, packed)
    return flat.view(ragged.batch, ragged.longest, *trailing)
