"""What a captured graph reads lives as long as whoever replays it; and a CPU captures none."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
import torch

from alpine_cli.pruning import apply
from alpine_cli.pruning.packed import to_device
from benchmarks.cuda.graphs import lengths_known


def test_what_a_graph_reads_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph replays over addresses: freed, they are somebody else's."""

    def pin_memory(x: torch.Tensor) -> torch.Tensor:  # which needs CUDA
        return x.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    batch: dict[str, Any] = {"attention_mask": torch.ones(1, 8, dtype=torch.int64)}
    with lengths_known(batch) as held:
        tokens = apply.initial_tokens(torch.empty(0))  # not asked
        assert tokens.ragged.lengths == (8,)
        read = [tokens.ragged.cu_seqlens, tokens.ragged.offsets_int32, tokens.ragged.position_T]
        pinned = torch.tensor([3]).pin_memory()  # as `to_device` does for CUDA
        addresses = [x.data_ptr() for x in (*read, pinned)]
        alive = [weakref.ref(x) for x in (*read, pinned)]
    del tokens, read, pinned
    gc.collect()
    kept = [found() for found in alive]
    assert [x.data_ptr() for x in kept if x is not None] == addresses
    del kept, held
    gc.collect()
    assert [found() for found in alive] == [None] * 4
    assert torch.Tensor.pin_memory is pin_memory
    assert to_device([3], torch.device("cpu")).tolist() == [3]
