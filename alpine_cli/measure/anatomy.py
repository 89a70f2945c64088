"""Anatomy of the speed-up: what becomes of the saved multiply-adds on their way to saved time.

    unpruned time
    − what the saved multiply-adds took, at the unpruned run's own rate   attention, feed-forward
    + scoring + selection + repacking                                     what pruning itself costs
    + padding + calls and reading weights                                 what does not shrink
    + rest                                                                what is left
    = pruned time

`anatomy_steps` says how each part follows from these passes over the same batches, which take
turns in random order (`blocks`):

    unpruned    a pass of the engine with no layer pruned
    pruned      a pass as a user runs it
    replayed    the same, with the plans of an earlier pass given: no scores, no decisions
    selection   only the decisions of such a pass, on its recorded scores
    repacking   only the shortening of such a pass, on hidden states of its shapes
    shortest    an unpruned pass with one token per sequence
    … unpadded  unpruned and replayed once more on the packed engine (engines that pad only)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alpine_cli.measure.analytic import analytic_cost, head_macs
from alpine_cli.measure.anatomy_steps import Costs, anatomy_part
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.cost import EncoderShape
from alpine_cli.measure.lengths import LayerLengths, pruning_layers
from alpine_cli.measure.throughput import TimedPass, timed_pass
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import (
    Batch,
    LoadedVariant,
    Workload,
    WorkloadRequest,
    load_workload,
    synchronise,
)
from alpine_cli.pruning.apply import ENGINES, prune, replay, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.evidence import Evidence
from alpine_cli.pruning.packed import Ragged
from alpine_cli.pruning.patch.registry import find_base_model
from alpine_cli.pruning.plan import tokens_after
from alpine_cli.pruning.tracing import TracedForward
from alpine_cli.results import Part

__all__ = ["measure_anatomy"]

_VARIANTS = ("unpruned", "pruned")


def measure_anatomy(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Reads `workload`, `runs` and `timed_samples`.

    Returns:
        A `Part` as plain data; empty where nothing is pruned: there is nothing to take apart.

    Raises:
        MeasurementError: a model whose multiply-adds no formula describes.
    """
    wanted = WorkloadRequest.model_validate(request["workload"]).only(*_VARIANTS)
    if len(wanted.variants) < len(_VARIANTS):
        return Part().model_dump(mode="json")
    workload = load_workload(wanted)
    passes = _Passes.record(workload, request["timed_samples"])
    costs = passes.costs()
    clocks = passes.clocks()
    for done, (name, clock) in enumerate(clocks.items()):
        report_progress(done, 20 * len(clocks), f"warm-up of {name}")
        clock()
    blocks = run_blocks(
        list(clocks),
        lambda name: clocks[name](),
        runs=request["runs"],
        min_seconds=0,
        seed=wanted.seed,
        on_progress=report_progress,
    )
    seconds = {name: np.array([block.seconds for block in blocks[name]]) for name in clocks}
    samples = sum(len(batch.indices) for batch in passes.batches["pruned"])
    engine = passes.config.engine
    where = f"{samples} samples in length-bucketed batches of {wanted.batch_limit}, {engine} engine"
    return anatomy_part(seconds, costs, samples, where, wanted.seed).model_dump(mode="json")


@dataclass(frozen=True)
class _Passes:
    """The passes that are timed, over one set of batches.

    Attributes:
        unpruned, pruned: the variants.
        batches: of each, the same samples together.
        forwards: what a pruned pass did, batch by batch.
    """

    unpruned: LoadedVariant
    pruned: LoadedVariant
    batches: Mapping[str, list[Batch]]
    forwards: list[TracedForward]

    @classmethod
    def record(cls, workload: Workload, timed_samples: int | None) -> _Passes:
        """Form the batches and record one pruned pass over them."""
        unpruned, pruned = (workload.variants[name] for name in _VARIANTS)
        batches = workload.timed_batches(timed_samples)
        with torch.inference_mode(), trace(pruned.model) as recorded:
            for batch in batches["pruned"]:
                pruned.forward(batch)
        return cls(unpruned, pruned, batches, recorded.calls)

    @property
    def config(self) -> PruningConfig:
        """How the pruned variant prunes."""
        assert self.pruned.pruning is not None  # by its name
        return self.pruned.pruning

    def costs(self) -> Costs:
        """Multiply-adds of the timed samples, at each layer's true lengths."""
        base, family = find_base_model(self.pruned.model)
        layers = family.layers(base)
        shape = EncoderShape.from_config(base.config)
        head = head_macs(self.pruned, layers, self.batches["pruned"][0].indices[0])
        functions = len(self.pruned.encoded.rows[0])
        taken = [i for batch in self.batches["unpruned"] for i in batch.indices]
        rows = [self.unpruned.encoded.rows[i] for i in taken]
        full = LayerLengths.unpruned(rows, len(layers), self.unpruned.pruning)
        shortest = LayerLengths.unpruned([[(0,)] * functions for _ in taken], len(layers))
        shortened = LayerLengths.joined(
            [LayerLengths.traced(forward, functions) for forward in self.forwards]
        )
        unpruned, pruned, least = (
            analytic_cost(shape, lengths, head=head) for lengths in (full, shortened, shortest)
        )
        return Costs(
            attention_unpruned=float(unpruned.attention.sum()),
            attention_pruned=float(pruned.attention.sum()),
            feed_forward_unpruned=float(unpruned.feed_forward.sum()),
            feed_forward_pruned=float(pruned.feed_forward.sum()),
            total_unpruned=float(unpruned.total.sum()),
            total_pruned=float(pruned.total.sum()),
            total_shortest=float(least.total.sum()),
        )

    def clocks(self) -> dict[str, Callable[[], TimedPass]]:
        """By name, what runs one pass and says how long it took."""
        full, pruned = self.batches["unpruned"], self.batches["pruned"]
        shortest = [batch.first_tokens() for batch in full]
        clocks = {
            "unpruned": lambda: timed_pass(self.unpruned, full),
            "pruned": lambda: timed_pass(self.pruned, pruned),
            "replayed": self._replayed,
            "selection": self._selection(),
            "repacking": self._repacking(),
            "shortest": lambda: timed_pass(self.unpruned, shortest),
        }
        if self.config.engine != "packed":
            clocks["unpruned unpadded"] = lambda: self._on_packed(
                self.unpruned, lambda: timed_pass(self.unpruned, full)
            )
            clocks["replayed unpadded"] = lambda: self._on_packed(self.pruned, self._replayed)
        return clocks

    def _replayed(self) -> TimedPass:
        forwards = self._fresh()

        def work() -> None:
            for batch, forward in zip(self.batches["pruned"], forwards, strict=True):
                with replay(self.pruned.model, forward):
                    self.pruned.forward(batch)

        return _clocked(self.pruned.device, work)

    def _selection(self) -> Callable[[], TimedPass]:
        engine, config = ENGINES[self.config.engine], self.config
        hidden_SND, reads_hidden = self._hidden_states(), config.merge == "nearest"

        def clock() -> TimedPass:
            forwards = self._fresh()

            def work() -> None:
                for at, forward in enumerate(forwards):
                    for step, layer in enumerate(self._layers()):
                        tokens, hidden_TD = forward.tokens[layer], None
                        if reads_hidden:
                            hidden_TD = engine.tokens_of(hidden_SND[at, layer], tokens.ragged)
                        scores_T = forward.scores.get(layer)
                        engine.plan(Evidence(tokens, hidden_TD, scores_T, layer, step), config)

            return _clocked(self.pruned.device, work)

        return clock

    def _repacking(self) -> Callable[[], TimedPass]:
        engine, hidden_SND = ENGINES[self.config.engine], self._hidden_states()

        def clock() -> TimedPass:
            forwards = self._fresh()

            def work() -> None:
                for at, forward in enumerate(forwards):
                    for layer in self._layers():
                        plan = forward.plans[layer]
                        engine.shorten(hidden_SND[at, layer], plan)
                        tokens_after(forward.tokens[layer], plan, layer)

            return _clocked(self.pruned.device, work)

        return clock

    def _layers(self) -> tuple[int, ...]:
        """The layers that prune."""
        return pruning_layers(self.config, len(self.forwards[0].tokens) - 1)

    def _hidden_states(self) -> dict[tuple[int, int], Tensor]:
        """By batch and layer, hidden states of the shape that the layer's plan shortens.

        All are views of one block: the values do not matter, and memory is spared.
        """
        base, _ = find_base_model(self.pruned.model)
        engine, width = ENGINES[self.config.engine], base.config.hidden_size
        device = self.pruned.device
        shapes = {}
        for at, forward in enumerate(self.forwards):
            for layer in self._layers():
                before = forward.tokens[layer].ragged
                column_T1 = torch.empty(before.total, 1, device=device)
                shapes[at, layer] = engine.enter(column_T1, before).shape[:2]
        rows = max((s * n for s, n in shapes.values()), default=0)
        block_RD = torch.randn(rows, width, device=device, dtype=base.dtype)
        return {at: block_RD[: s * n].view(s, n, width) for at, (s, n) in shapes.items()}

    def _on_packed(self, variant: LoadedVariant, clock: Callable[[], TimedPass]) -> TimedPass:
        """One pass of `variant` on the packed engine."""
        assert variant.pruning is not None
        prune(variant.model, replace(variant.pruning, engine="packed"))
        try:
            return clock()
        finally:
            prune(variant.model, variant.pruning)

    def _fresh(self) -> list[TracedForward]:
        """The recorded passes with layouts as new: a `Ragged` keeps what was once derived of it."""
        return [_fresh(forward) for forward in self.forwards]


def _fresh(forward: TracedForward) -> TracedForward:
    copies: dict[int, Ragged] = {}

    def copy(ragged: Ragged) -> Ragged:
        return copies.setdefault(id(ragged), replace(ragged))

    tokens = tuple(replace(tokens, ragged=copy(tokens.ragged)) for tokens in forward.tokens)
    plans = {
        layer: replace(plan, before=copy(plan.before), after=copy(plan.after))
        for layer, plan in forward.plans.items()
    }
    return replace(forward, tokens=tokens, plans=plans)


def _clocked(device: torch.device, work: Callable[[], None]) -> TimedPass:
    with torch.inference_mode():
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        return TimedPass(time.perf_counter() - start)
