"""CUDA graphs at batch 1: a rule whose lengths the host knows beforehand, captured and replayed.

One graph serves one tuple of lengths. The lengths of the input are handed in, which `prune` would
otherwise ask of the device (one copy); everything behind is a function of them. What cannot be
captured says why, in the words of CUDA.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.workload import synchronise
from alpine_cli.pruning.plan import initial_tokens
from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.workbench import SHARE_RULE, Workbench
from benchmarks.variants import Contestant, Mode, Round, Variant, ratio

__all__ = ["lengths_known", "measure_graphs"]

_WARM_UPS = 3  # on a side stream, as torch.cuda.graph asks for
_ROUNDS = 50
_VARIANTS = (
    Variant("packed, none", "packed"),
    Variant("packed, top 85% mean", "packed", "all", rule=SHARE_RULE),
)


@dataclass(frozen=True)
class _Point:
    variant: Variant
    length: int


@dataclass(frozen=True)
class _Replay:
    """A captured graph, and what it reads; see `lengths_known`."""

    graph: torch.cuda.CUDAGraph
    reads: tuple[Any, ...]
    device: torch.device

    def __call__(self) -> Round:
        synchronise(self.device)
        began = time.perf_counter()
        self.graph.replay()
        synchronise(self.device)
        return Round(time.perf_counter() - began)


@contextmanager
def lengths_known(batch: dict[str, Any]) -> Iterator[list[Any]]:
    """Within, the tokens of a forward pass on this batch are not asked of the device.

    Gives what a graph that is captured within reads but does not own: the tokens, with everything
    that they remember (offsets, positions, tables), and host memory that copies start from. Hold
    it until the last replay, which else reads memory that others have taken.
    """
    tokens = initial_tokens(batch["attention_mask"] != 0)
    held: list[Any] = [tokens]
    pin_memory = torch.Tensor.pin_memory

    def pinned(on_host: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        held.append(pin_memory(on_host, *args, **kwargs))
        return held[-1]

    with (
        patch("alpine_cli.pruning.apply.initial_tokens", return_value=tokens),
        patch.object(torch.Tensor, "pin_memory", pinned),
    ):
        yield held


def measure_graphs(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}, or a reason."""
    if bench.device.type != "cuda":
        return {"reason": "CUDA graphs need a CUDA device"}
    cells = [
        Cell(f"{variant.name}, {length} tokens", _Point(variant, length))
        for length in (128, 512)
        for variant in _VARIANTS
    ]
    measured = run_cells(cells, allowance, lambda *at: _measure(bench, *at), say=bench.say)
    return {"encoder": bench.main_encoder, "precision": "bfloat16", "cells": measured}


def _measure(bench: Workbench, point: _Point, allowance: Allowance) -> dict[str, Any]:
    encoder = bench.encoder(bench.main_encoder, bench.cut_at, torch.bfloat16)
    rows = bench.code.long_rows(1, point.length)
    contestant = Contestant(point.variant, encoder, [rows], 1, Mode(waits=True))
    (batch,) = contestant.prepared[0]
    contestant.warm_up(2)
    with torch.inference_mode(), lengths_known(batch) as held, contestant.running():
        side = torch.cuda.Stream(bench.device)
        side.wait_stream(torch.cuda.current_stream(bench.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UPS):
                contestant.run(batch)
        torch.cuda.current_stream(bench.device).wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = contestant.run(batch).last_hidden_state
        eager = contestant.run(batch).last_hidden_state

    replayed = _Replay(graph, tuple(held), bench.device)
    replayed()
    same_shape = captured.shape == eager.shape
    ways: dict[str, Callable[[], Any]] = {"eager": contestant.round, "graph": replayed}
    blocks = run_blocks(list(ways), lambda name: ways[name](), runs=_ROUNDS, min_seconds=0, seed=0)
    seconds = {name: [block.seconds for block in found] for name, found in blocks.items()}
    return {
        "length": point.length,
        "seconds": seconds,
        "speedup_of_graph": ratio(seconds["eager"], seconds["graph"]),
        "largest_difference": (
            float((captured - eager).abs().max()) if same_shape else "shapes differ"
        ),
        "said": f"graph × eager {sum(seconds['eager']) / sum(seconds['graph']):.2f}",
    }
