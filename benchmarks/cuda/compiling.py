"""torch.compile (inductor): stock and packed, with what dynamo compiled and why.

Every compiled variant has a cell of its own, in turns with its eager twin, from an empty cache:
variants share the code of their layers, and would use up each other's limit of recompilations.
Compiling is not stopped in the middle, so a cell is begun only if there is time left for the
dearest compilation so far once more. Counts are dynamo's own: graphs, breaks between graphs, and
compilations that replaced an earlier one of the same code because a guard failed.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
import torch._dynamo
from torch._dynamo.utils import clear_compilation_metrics, counters, get_compilation_metrics

from benchmarks.cuda.budget import Allowance, Cell, run_cells
from benchmarks.cuda.race import enter, race
from benchmarks.cuda.workbench import PACKED, Workbench, named
from benchmarks.variants import Mode, Variant

__all__ = ["compilations", "measure_compile"]

_TWINS = (
    Variant("stock bucketed", None, bucketed=True),
    *named(PACKED, "packed, none", "packed, top 85% mean", "packed, all"),
)
_BATCH = 32
_TYPICAL_SECONDS = 45.0


def compilations() -> dict[str, Any]:
    """What dynamo did since `clear_compilation_metrics` and `counters.clear`."""
    found = get_compilation_metrics()
    reasons = [one.recompile_reason for one in found if one.recompile_reason]
    return {
        "compilations": len(found),
        "recompilations": len(reasons),
        "recompile_reasons": [reason.splitlines()[0] for reason in reasons[:5]],
        "graphs": counters["stats"]["unique_graphs"],
        "graph_breaks": sum(counters["graph_break"].values()),
        "graph_break_reasons": [str(why).splitlines()[0] for why in counters["graph_break"]][:5],
    }


def measure_compile(bench: Workbench, allowance: Allowance) -> dict[str, Any]:
    """The section's result: {"cells": […]}, one per compiled variant."""
    batch = 2 if bench.small else _BATCH
    dtype = torch.float32 if bench.small else torch.bfloat16
    rows = bench.functions(batch)
    dearest = 0.0 if bench.small else _TYPICAL_SECONDS

    def measure(twin: Variant, cell: Allowance) -> dict[str, Any]:
        nonlocal dearest
        if allowance.left() < dearest:
            return {
                "reason": f"not reached: {allowance.left():.0f} s left, compiling takes about"
                f" {dearest:.0f} s"
            }
        encoder = bench.encoder(bench.main_encoder, bench.cut_at, dtype)
        mode = Mode(
            settles=True,
            # The trial is about dynamo's counts; building kernels for a CPU would take minutes.
            compiler="eager" if bench.small else "inductor",
            # With True a pruned encoder comes out unpruned (torch 2.13): see `Mode.dynamic`.
            dynamic=True if twin.layers == "none" else None,
        )
        compiled = replace(twin, name=f"compiled {twin.name}", compiled=True)
        _forget()
        began = time.monotonic()
        with enter(bench, [twin, compiled], lambda _: encoder, rows, batch, mode) as entrants:
            took = time.monotonic() - began
            if not bench.small:
                dearest = max(dearest, took)
            warming = compilations()
            clear_compilation_metrics()
            counters.clear()
            found = race(bench, entrants, cell, (twin.name, compiled.name), (twin.name,))
        return {
            "batch": batch,
            "compiler": mode.compiler,
            "dynamic": mode.dynamic,
            "warm_up_s": round(took, 2),
            "in_warm_up": warming,
            "while_timed": compilations(),
            **found,
        }

    # The cheapest and surest first; pruning by scores breaks the graph in every layer.
    twins = _TWINS[:1] if bench.small else _TWINS
    cells = [Cell(f"compiled {twin.name}", twin) for twin in twins]
    try:
        return {
            "encoder": bench.main_encoder,
            "cells": run_cells(cells, allowance, measure, say=bench.say),
        }
    finally:
        _forget()


def _forget() -> None:
    torch._dynamo.reset()
    clear_compilation_metrics()
    counters.clear()
