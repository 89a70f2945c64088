"""Ways to run the same functions, and what they cost: shared by `engines`, `scaling` and `cuda`.

A `Variant` names a way: transformers as it ships or one of alpine's engines, what it prunes, and
how functions are batched. A `Contestant` is a variant made ready: its own copy of the model (with
the weights of the original where nothing trains), its batches on the device, its engine.
"""

from __future__ import annotations

import copy
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch

from alpine_cli.measure.cost import EncoderShape, attention_macs, feed_forward_macs
from alpine_cli.measure.statistics import ratio_interval
from alpine_cli.measure.workload import synchronise
from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import ENGINES
from alpine_cli.pruning.attention import Attended
from alpine_cli.pruning.packed import Ragged
from benchmarks.published_shares import ScheduledBand, shares_at_depth
from benchmarks.workload import pack_batch, pad_batch, unpadding

__all__ = [
    "Contestant",
    "Mode",
    "Round",
    "Variant",
    "attention_left_out",
    "batches",
    "compare",
    "macs",
    "ratio",
    "shown_ratio",
]

PUBLISHED = "codebert"
Batch = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One way to run the functions: the model, its pruning, and how functions are batched.

    `attends=False` leaves attention out, to see what everything else costs; never with pruning.
    `rule` prunes by that rule as it is, instead of the band at the published shares. Stock models
    only: `attention` names an attention function of transformers other than its own choice, and
    `packs` lays all functions of a batch in one row, for a function that takes `cu_seq_lens_q`;
    `unpads` keeps the padded batch and tells the function where its tokens stand.
    """

    name: str
    engine: str | None
    layers: str = "none"
    bucketed: bool = False
    output: str = "tokens"
    attends: bool = True
    compiled: bool = False
    rule: PruningConfig | None = None
    attention: str | None = None
    packs: bool = False
    unpads: bool = False

    @property
    def scheduled(self) -> bool:
        """Whether α is set to keep the published shares."""
        return self.engine is not None and self.layers != "none" and self.rule is None

    @property
    def pruning(self) -> PruningConfig | None:
        """The settings to prune with; None for a stock model."""
        if self.engine is None:
            return None
        return self.rule or PruningConfig(
            self.layers,
            engine=self.engine,  # type: ignore[arg-type]
            output=self.output,  # type: ignore[arg-type]
        )


@dataclass(frozen=True)
class Mode:
    """What is done with a batch.

    Attributes:
        train: a training step (forward, backward, AdamW, dropout on) instead of inference.
        autocast: dtype that matrix products are cast to; None: the weights' own.
        checkpointing: recompute activations in the backward pass.
        waits: wait for the device after every batch, as one who answers single requests does.
        settles: after the warm-up, lengths never seen take the mean α of their layer instead of
            one sought for them (see `ScheduledBand.settle`).
        compiler: back end of torch.compile, for variants that are compiled.
        dynamic: its handling of shapes: True from the start, None where they turn out to change.
            With True, torch 2.13 leaves pruning out; see `Contestant.warm_up`.
    """

    train: bool = False
    autocast: torch.dtype | None = None
    checkpointing: bool = False
    waits: bool = False
    settles: bool = False
    compiler: str = "inductor"
    dynamic: bool | None = None


@dataclass
class Round:
    """One pass of one variant over all functions.

    Attributes:
        seconds: wall time, from an idle device to an idle device.
        device_seconds: between two events in a CUDA device's queue; None elsewhere.
    """

    seconds: float
    device_seconds: float | None = None


def batches(
    variant: Variant, rows: list[list[int]], size: int, device: torch.device, pad_id: int = 1
) -> list[Batch]:
    """Batches of `size`: in the drawn order, or like lengths together in random batch order."""
    ordered = sorted(rows, key=len, reverse=True) if variant.bucketed else rows
    cut: list[Batch] = []
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        batch = pack_batch(part, pad_id) if variant.packs else pad_batch(part, pad_id)
        cut.append(batch | (unpadding(part) if variant.unpads else {}))
    drawn = random.Random(0).sample(cut, len(cut))
    return [
        {name: x.to(device) if isinstance(x, torch.Tensor) else x for name, x in batch.items()}
        for batch in drawn
    ]


@contextmanager
def attention_left_out(left_out: bool) -> Iterator[None]:
    """Every query "attends" to its own value: what the rest of the packed engine costs."""

    def values(
        q_THd: torch.Tensor, k_THd: torch.Tensor, v_THd: torch.Tensor, ragged: Ragged, **_: Any
    ) -> Attended:
        return Attended(v_THd, None)

    if not left_out:
        yield
        return
    with patch("alpine_cli.pruning.engines.choose_backend", return_value=values):
        yield


def macs(lengths: Sequence[Sequence[int]], config: Any) -> float:
    """Multiply-adds of matrix products over all layers, from the lengths entering each.

    Attention runs at the length entering a layer, feed-forward at the length leaving it; scoring
    adds nothing, the probabilities exist anyway.

    Args:
        lengths: entry l: of every sequence entering layer l; last: leaving the encoder.
        config: the encoder's, of a family that `measure.cost` describes.
    """
    shape, total = EncoderShape.from_config(config), 0.0
    for entering, leaving in itertools.pairwise(lengths):
        total += float(attention_macs(shape, list(entering)).sum())
        total += float(feed_forward_macs(shape, list(leaving)).sum())
    return total


class Contestant:
    """A variant ready to run.

    Rounds go through `row_sets` in turn; with one set every round reads the same functions.

    Args:
        variant: the way.
        model: an encoder; left as it is.
        row_sets: token ids; each set holds the functions of one round.
        size: functions per batch.
        mode: what is done with a batch.
    """

    def __init__(
        self,
        variant: Variant,
        model: Any,
        row_sets: list[list[list[int]]],
        size: int,
        mode: Mode = Mode(),
    ) -> None:
        self.variant, self.mode, self._row_sets = variant, mode, row_sets
        self.model = copy.deepcopy(model, None if mode.train else _weights(model))
        self.device = self.model.device
        if variant.attention is not None:
            self.model.set_attn_implementation(variant.attention)
        pad_id = self.model.config.pad_token_id
        self.prepared = [batches(variant, rows, size, self.device, pad_id) for rows in row_sets]
        self._turn = itertools.cycle(self.prepared)
        self._engines: dict[str, Any] = {}
        self.band: ScheduledBand | None = None
        if (pruning := variant.pruning) is not None:
            prune(self.model, pruning)
            if variant.scheduled:
                depth = self.model.config.num_hidden_layers
                keep = shares_at_depth(PUBLISHED, variant.layers, depth)
                self.band = ScheduledBand(ENGINES[pruning.engine], keep)
                self._engines[pruning.engine] = self.band
        self._called = self.model
        if variant.compiled:
            self._called = torch.compile(self.model, dynamic=mode.dynamic, backend=mode.compiler)
        self._optimiser: torch.optim.Optimizer | None = None
        if mode.train:
            self.model.train()
            # The fused step is what fine-tuning takes on CUDA; elsewhere nothing is gained by it.
            fused = True if self.device.type == "cuda" else None
            self._optimiser = torch.optim.AdamW(self.model.parameters(), lr=1e-6, fused=fused)
            if mode.checkpointing:
                # transformers renamed it on the way to v6
                newer = getattr(self.model, "activation_checkpointing_enable", None)
                (newer or self.model.gradient_checkpointing_enable)({"use_reentrant": False})

    def round(self) -> Round:
        """One pass over the next set of functions, timed from idle device to idle device."""
        batched = next(self._turn)
        with self.running():
            events = _events(self.device)
            synchronise(self.device)
            started = time.perf_counter()
            if events:
                events[0].record()
            for batch in batched:
                self.run(batch)
                if self.mode.waits:
                    synchronise(self.device)
            if events:
                events[1].record()
            synchronise(self.device)
            seconds = time.perf_counter() - started
        return Round(seconds, events[0].elapsed_time(events[1]) / 1000 if events else None)

    def warm_up(self, rounds: int = 1) -> Round:
        """Rounds that count for nothing: allocator, kernel caches, α. The last is returned.

        Raises:
            RuntimeError: the compiled model keeps other tokens than the model itself.
        """
        for _ in range(rounds):
            last = self.round()
        if self.variant.compiled:
            self._require_same_shape()
        if self.band is not None and self.mode.settles:
            self.band.settle()
        return last

    def _require_same_shape(self) -> None:
        """What torch.compile made of the model must prune as the model does."""
        batch = self.prepared[0][0]
        with self.running(), torch.inference_mode(), self._autocast():
            shapes = [
                tuple(called(**batch).last_hidden_state.shape)
                for called in (self.model, self._called)
            ]
        if shapes[0] != shapes[1]:
            raise RuntimeError(
                f"compiled, the output has shape {shapes[1]} instead of {shapes[0]}: torch.compile"
                f" (dynamic={self.mode.dynamic}) changed what is computed"
            )

    @contextmanager
    def running(self) -> Iterator[None]:
        """While this lasts, the engines are this variant's, and attention as it wants it."""
        with patch.dict(ENGINES, self._engines), attention_left_out(not self.variant.attends):
            yield

    def run(self, batch: Batch) -> Any:
        """One batch; to be called within `running`. The model's output, or None in training."""
        if self.mode.train:
            return self._step(batch)
        with torch.inference_mode(), self._autocast():
            return self._called(**batch)

    def _step(self, batch: Batch) -> None:
        """Forward, backward, AdamW; the mean loss over all tokens that are left."""
        with self._autocast():
            hidden = self._called(**batch).last_hidden_state
        hidden.float().square().mean().backward()
        assert self._optimiser is not None
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def _autocast(self) -> torch.autocast:
        dtype = self.mode.autocast
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    @property
    def samples(self) -> int:
        """Functions of one round."""
        return len(self._row_sets[0])

    def tell(self) -> dict[str, Any]:
        """Lengths and cost of the functions of all sets.

        This takes a pass over all of them, so it must be asked after the timing: it would build
        the kernels of shapes that are to be fresh.
        """
        config, depth = self.model.config, self.model.config.num_hidden_layers
        attention: list[str] = []
        rows = [row for rows in self._row_sets for row in rows]
        if self.variant.engine is None:
            lengths = [tuple(len(row) for row in rows)] * (depth + 1)
        else:
            was_training = self.model.training
            self.model.eval()
            # the model itself: a trace reads what a compiled call may leave out
            with trace(self.model) as recorded, self.running(), torch.inference_mode():
                for batch in itertools.chain.from_iterable(self.prepared):
                    with self._autocast():
                        self.model(**batch)
            self.model.train(was_training)
            attention = sorted({name for call in recorded.calls for name in call.backends.values()})
            lengths = [
                tuple(n for call in recorded.calls for n in call.lengths[layer])
                for layer in range(depth + 1)
            ]
        positions = sum(
            batch["input_ids"].numel() for batched in self.prepared for batch in batched
        )
        return {
            "mean_lengths": [round(sum(at) / len(at), 1) for at in lengths],
            "gmacs_per_function": macs(lengths, config) / len(rows) / 1e9,
            "padded_positions_per_token": positions / sum(map(len, rows)),
            "attention": attention,
        }


def _weights(model: torch.nn.Module) -> dict[int, Any]:
    """For `copy.deepcopy`: parameters and buffers are shared, not copied."""
    return {id(x): x for x in itertools.chain(model.parameters(), model.buffers())}


def _events(device: torch.device) -> list[torch.cuda.Event]:
    if device.type != "cuda":
        return []
    return [torch.cuda.Event(enable_timing=True) for _ in range(2)]


def ratio(of: Sequence[float], to: Sequence[float]) -> dict[str, float]:
    """sum(of) / sum(to) of rounds that pair, with the bootstrap interval where there is one."""
    interval = ratio_interval(of, to, "mean")
    value = sum(of) / sum(to)
    return {"value": value} | ({"low": interval.low, "high": interval.high} if interval else {})


def shown_ratio(found: dict[str, float] | None) -> str:
    """A ratio and its interval for a table; empty where there is none."""
    if found is None:
        return ""
    interval = f" ({found['low']:.2f}–{found['high']:.2f})" if "low" in found else ""
    return f"{found['value']:.2f}{interval}"


BASELINES = ("stock bucketed", "stock padded")


def compare(
    samples: dict[str, list[float]],
    told: dict[str, Any],
    name: str,
    baselines: Sequence[str] = BASELINES,
) -> dict[str, Any]:
    """One row of a table: time against the baselines, with intervals.

    `speedup_over_…` is None where the baseline did not run.
    """
    own = f"{name.split(',')[0]}, none"
    row: dict[str, Any] = {"variant": name, "seconds": samples[name]} | told[name]
    for baseline in baselines:
        key = "speedup_over_" + baseline.replace(",", "").replace(" ", "_")
        row[key] = ratio(samples[baseline], samples[name]) if baseline in samples else None
    if own in samples and own != name:
        row["time_ratio_to_own_unpruned"] = ratio(samples[name], samples[own])
        row["macs_ratio_to_own_unpruned"] = (
            told[name]["gmacs_per_function"] / told[own]["gmacs_per_function"]
        )
        # (time unpruned / time pruned) ÷ (MACs unpruned / MACs pruned)
        row["efficiency"] = (
            row["macs_ratio_to_own_unpruned"] / row["time_ratio_to_own_unpruned"]["value"]
        )
    return row
