"""Try many prunings on one loaded model: predictions, lengths and multiply-adds of each.

One pass over the split gives both what a setting answers and at which lengths it ran; the same
weights, the same tokens and the same batches serve every setting, and pruning is only switched
between passes. Every finished trial is kept on disk at once, so that an interrupted sweep goes on
where it stopped: a trial is the same whenever it runs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alpine_cli.files import write_atomic
from alpine_cli.measure.accuracy import compare_predictions, metric_figures, predict
from alpine_cli.measure.analytic import Layout, analytic_cost, head_macs
from alpine_cli.measure.cost import EncoderShape
from alpine_cli.measure.grid import Setting
from alpine_cli.measure.lengths import LayerLengths, layer_lengths, mean_length_series
from alpine_cli.measure.planned import planned_lengths
from alpine_cli.measure.statistics import compare, mean_interval, spread
from alpine_cli.measure.workload import Batch, LoadedVariant, Workload
from alpine_cli.pruning.apply import prune
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.patch.registry import find_base_model
from alpine_cli.results import Comparison, Figure, Part, Predictions, Series
from alpine_cli.tasks.batching import BatchLimit, grouped_by_length
from alpine_cli.tasks.encoding import EncodedSplit, cut

__all__ = ["BASELINE", "Trial", "TrialRunner", "part_of", "settings_from", "settings_to"]

BASELINE: Final = "unpruned"


@dataclass(frozen=True)
class Trial:
    """One setting on every sample of the split, or on some of them.

    Attributes:
        name: of the setting.
        predicted: one digit per sample.
        macs: multiply-adds of each sample, encoder and head.
        mean_length: a `Series` as plain data, tokens after each layer.
    """

    name: str
    predicted: str
    macs: list[float]
    mean_length: dict[str, Any]

    @property
    def answers(self) -> NDArray[np.int64]:
        """(samples,) predicted labels."""
        return np.array([int(digit) for digit in self.predicted], dtype=np.int64)

    @classmethod
    def joined(cls, parts: Sequence[Trial], samples: Sequence[int]) -> Trial:
        """Trials of one setting on parts of the split as one, in the order of the split.

        Args:
            parts: at least one.
            samples: places in the split of the samples of all parts, one part after the other.
        """
        order = np.argsort(samples)
        predicted = "".join(part.predicted for part in parts)
        macs = [cost for part in parts for cost in part.macs]
        curves = np.array([part.mean_length["y"] for part in parts])
        means = np.average(curves, axis=0, weights=[len(part.macs) for part in parts])
        return cls(
            name=parts[0].name,
            predicted="".join(predicted[i] for i in order),
            macs=[macs[i] for i in order],
            mean_length={**parts[0].mean_length, "y": means.tolist()},
        )


@dataclass
class _Answering(LoadedVariant):
    """Remembers what it answered, so that tracing lengths and predicting are one pass."""

    predicted: dict[int, int] = field(default_factory=dict)

    def forward(self, batch: Batch) -> Tensor:
        logits = super().forward(batch)
        answers = logits.argmax(dim=-1).tolist()
        self.predicted.update(zip(batch.indices, answers, strict=True))
        return logits


class TrialRunner:
    """Runs settings on the model of a workload.

    Args:
        workload: holds the variant `unpruned`; its pruning is changed as settings run.
        flops_limit: of the batches that multiply-adds are computed for; of consequence only for
            engines that pad.
        folder: where finished trials are kept; None keeps none.

    Raises:
        MeasurementError: the formulas of `cost` do not describe this family.
    """

    def __init__(self, workload: Workload, flops_limit: BatchLimit, folder: Path | None) -> None:
        self.variant = workload.variants[BASELINE]
        self.labels = np.array([sample.label for sample in workload.samples], dtype=np.int64)
        base, family = find_base_model(self.variant.model)
        self._layers, self._causal = len(family.layers(base)), family.causal
        self._shape = EncoderShape.from_config(base.config)
        self._head = head_macs(self.variant, family.layers(base), 0)
        self._limit = workload.request.batch_limit
        self.flops_limit = flops_limit
        self._folder = folder
        # The split last asked for, and its batches: a fit asks for the same many times.
        self._grouped: tuple[EncodedSplit, list[list[int]]] | None = None

    def variant_of(self, setting: Setting) -> LoadedVariant:
        """The model as the setting has it, with the input as it cuts it.

        There is one model: this is good until the next call.
        """
        prune(self.variant.model, setting.pruning)
        encoded = self.variant.encoded
        if setting.max_length is not None:
            encoded = cut(encoded, setting.max_length)
        return replace(self.variant, name=setting.name, pruning=setting.pruning, encoded=encoded)

    def planned_macs(self, setting: Setting) -> NDArray[np.float64] | None:
        """(samples,) multiply-adds as `run` would find them; None where they take a run.

        In decoders a token that finds no later one to merge into stays, which no length tells.
        """
        if self._causal and setting.pruning.layers != "none" and setting.pruning.tracks_sizes:
            return None
        variant = self.variant_of(setting)
        lengths = planned_lengths(variant.encoded.rows, setting.pruning, self._layers)
        return None if lengths is None else self._macs(variant, lengths)

    def run(self, setting: Setting, samples: Sequence[int] | None = None) -> Trial:
        """The trial of a setting: the one kept, or else run now and kept.

        Args:
            setting: what to run.
            samples: places in the split; None takes all.
        """
        place = self._place(setting, samples)
        if place is not None and (kept := _read(place)) is not None:
            return kept
        trial = self._try(setting) if samples is None else self._try_some(setting, samples)
        if place is not None:
            write_atomic(place, json.dumps(asdict(trial), allow_nan=False))
        return trial

    def _try_some(self, setting: Setting, samples: Sequence[int]) -> Trial:
        whole = self.variant
        self.variant = replace(whole, encoded=whole.encoded.take(samples))
        try:
            return self._try(setting)
        finally:
            self.variant = whole

    def _try(self, setting: Setting) -> Trial:
        answering = _Answering(**vars(self.variant_of(setting)))
        lengths = layer_lengths(answering, self._limit, self._layers)
        if not answering.predicted:  # nothing is pruned, so lengths took no pass
            predict(answering, self._limit)
        count = len(answering.encoded)
        return Trial(
            name=setting.name,
            predicted="".join(str(answering.predicted[i]) for i in range(count)),
            macs=self._macs(answering, lengths).tolist(),
            mean_length=mean_length_series(setting.name, lengths).model_dump(mode="json"),
        )

    def _macs(self, variant: LoadedVariant, lengths: LayerLengths) -> NDArray[np.float64]:
        if self._grouped is None or self._grouped[0] is not variant.encoded:
            self._grouped = variant.encoded, grouped_by_length(variant.encoded, self.flops_limit)
        return analytic_cost(
            self._shape, lengths, self._grouped[1], Layout.of(variant), head=self._head
        ).total

    def _place(self, setting: Setting, samples: Sequence[int] | None) -> Path | None:
        if self._folder is None:
            return None
        asked = [setting.pruning.to_dict(), setting.max_length, samples and list(samples)]
        text = json.dumps(asked, sort_keys=True)
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
        return self._folder / f"trial-{digest}.part"


def _read(place: Path) -> Trial | None:
    try:
        return Trial(**json.loads(place.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None  # not there, or not ours: run it


def part_of(
    trials: Sequence[Trial], labels: NDArray[np.int64], *, flops_limit: BatchLimit, seed: int
) -> Part:
    """Figures of all trials, and each set against the first of them, the baseline.

    The multiply-adds of single samples are left out: they follow from checkpoint and data, and
    thousands of samples times dozens of settings would bury what the file is about.
    """
    baseline = trials[0]
    figures: list[Figure] = []
    comparisons: list[Comparison] = []
    base_macs = _macs_figure(baseline, flops_limit)
    for trial in trials:
        macs = _macs_figure(trial, flops_limit)
        figures += [*metric_figures(trial.name, labels, trial.answers, seed=seed), _lean(macs)]
        if trial is baseline:
            continue
        agreement, compared = compare_predictions(
            trial.name, baseline.name, labels, trial.answers, baseline.answers, seed=seed
        )
        figures.append(agreement)
        comparisons += [*compared, compare(macs, base_macs, unit="sample", seed=seed)]
    return Part(
        figures=figures,
        comparisons=comparisons,
        series=[Series.model_validate(trial.mean_length) for trial in trials],
        predictions=Predictions(
            labels="".join(map(str, labels.tolist())),
            predicted={trial.name: trial.predicted for trial in trials},
        ),
    )


def _macs_figure(trial: Trial, flops_limit: BatchLimit) -> Figure:
    return Figure(
        name="total_macs",
        variant=trial.name,
        unit="MACs",
        value=float(np.mean(trial.macs)),
        provenance="analytic",
        method="formula at each layer's actual length: weights and attention products of all"
        f" encoder layers and the head; {flops_limit.words}, mean over all samples",
        per="sample",
        better="lower",
        n=len(trial.macs),
        aggregate="mean",
        interval=mean_interval(trial.macs, unit="sample"),
        spread=spread(trial.macs),
        samples=trial.macs,
    )


def _lean(figure: Figure) -> Figure:
    return figure.model_copy(update={"samples": None})


def settings_to(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    """Settings as they travel in a worker's request."""
    return [
        {"name": item.name, "pruning": item.pruning.to_dict(), "max_length": item.max_length}
        for item in settings
    ]


def settings_from(request: Sequence[Mapping[str, Any]]) -> list[Setting]:
    """The way back of `settings_to`."""
    return [
        Setting(item["name"], PruningConfig.from_dict(item["pruning"]), item["max_length"])
        for item in request
    ]
