"""Encoders trained on the spot, one per setting, and what they cost afterwards.

All start from the same untrained model. One method of `TrainedModels` per section of `learned`.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import RunConfig, load_config
from alpine_cli.demo.corpus import Corpus
from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model
from alpine_cli.measure.accuracy import compare_predictions, metric_figures
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Result
from alpine_cli.tasks import load_splits, resolve_task
from alpine_cli.tasks.encoding import EncodingSpec, encode
from alpine_cli.training.finetuning import finetune
from alpine_cli.training.rundir import RunDirectory
from benchmarks.cuda.budget import Allowance, Cell, reason_of, run_cells
from benchmarks.cuda.energy import idle_watts, measure_windows
from benchmarks.cuda.machine import open_energy
from benchmarks.cuda.memory import measure_peaks
from benchmarks.cuda.race import enter, race
from benchmarks.cuda.workbench import Workbench
from benchmarks.variants import Mode, Variant

__all__ = ["BASE", "SMALL", "Sizes", "TrainedModels", "majority"]

_SPARE = 1.15  # a training takes this much of the one before it, at most, or is not begun


@dataclass(frozen=True)
class Sizes:
    """What is trained, on what, how.

    Attributes:
        model: encoder and tokenizer.
        max_chars: longer functions are left out.
        library: folder of the standard library that functions are taken from; "" for all of it.
        functions: use so many at most; None: all.
        batch_size, lr: of training.
        measured: functions per batch when costs are measured.
    """

    model: ModelSize
    max_chars: int
    library: str
    functions: int | None
    batch_size: int
    lr: float
    measured: int


BASE = Sizes(
    model=ModelSize(vocabulary=8000, hidden=768, layers=12, heads=12, max_length=512),
    max_chars=1200,
    library="",
    functions=None,
    batch_size=32,
    lr=1e-4,
    measured=32,
)
SMALL = Sizes(
    model=ModelSize(vocabulary=400, hidden=32, layers=2, heads=2, max_length=96),
    max_chars=600,
    library="asyncio",
    functions=160,
    batch_size=8,
    lr=3e-4,
    measured=4,
)


def majority(corpus: Corpus) -> float:
    """Accuracy on the test split of always guessing its commoner label."""
    positive = sum(sample.target for sample in corpus.test) / len(corpus.test)
    return max(positive, 1 - positive)


class TrainedModels:
    """The trained models and what is done with them; one method per section."""

    def __init__(
        self,
        folder: Path,
        sizes: Sizes,
        settings: Mapping[str, PruningConfig],
        corpus: Corpus,
        asked: argparse.Namespace,
    ) -> None:
        self.folder, self.sizes, self.settings = folder, sizes, settings
        self.corpus, self.asked = corpus, asked
        self.runs: dict[str, RunDirectory] = {}
        self._rows: list[list[int]] = []
        self._encoders: dict[str, Any] = {}

    # -- training --------------------------------------------------------------------------

    def train(self, bench: Workbench, allowance: Allowance) -> dict[str, Any]:
        """Each setting from the same untrained model; {"cells": […]} with accuracy and costs."""
        self.corpus.write(self.folder / "data")
        tokenizer = train_tokenizer((s.func for s in self.corpus.train), self.sizes.model)
        write_model(self.folder / "model", tokenizer, self.sizes.model, self.asked.seed)
        longest = 0.0

        def measure(setting: str, _: Allowance) -> dict[str, Any]:
            nonlocal longest
            if allowance.left() < _SPARE * longest:
                return {
                    "reason": f"not reached: {allowance.left():.0f} s left, a training takes"
                    f" {longest:.0f} s"
                }
            began = time.monotonic()
            found = self._train(bench, setting)
            longest = max(longest, time.monotonic() - began)
            return found

        cells = [Cell(name, name) for name in self.settings]
        return {"cells": run_cells(cells, allowance, measure, say=bench.say)}

    def _train(self, bench: Workbench, setting: str) -> dict[str, Any]:
        outcome = finetune(self._config(setting, bench.device))
        bench.release()
        run = self.runs[setting] = RunDirectory(outcome.run_dir)
        labels, predicted = _predictions(run)
        figures = metric_figures(setting, labels, predicted)
        accuracy = next(figure for figure in figures if figure.name == "accuracy")
        found = {
            "setting": setting,
            "pruning": self.settings[setting].to_dict(),
            "accuracy": accuracy.value,
            "interval": accuracy.interval.model_dump() if accuracy.interval else None,
            "metrics": outcome.metrics,
            "layer_lengths": [e for e in run.entries() if e["event"] == "valid"][-1][
                "layer_lengths"
            ],
            "record": _consumption(run),
            "said": f"accuracy {accuracy.value:.1%}",
        }
        low = accuracy.interval.low if accuracy.interval else None
        found["clearly_above_majority"] = low is not None and low > majority(self.corpus)
        if setting != "none" and "none" in self.runs:
            _, unpruned = _predictions(self.runs["none"])
            agreement, compared = compare_predictions(setting, "none", labels, predicted, unpruned)
            found["agreement_with_none"] = agreement.model_dump(mode="json")
            found["against_none"] = [one.model_dump(mode="json") for one in compared]
        return found

    def _config(self, setting: str, device: torch.device) -> RunConfig:
        train = {
            "epochs": self.asked.epochs,
            "batch_size": self.sizes.batch_size,
            "lr": self.asked.lr or self.sizes.lr,
            "warmup": 0.3,  # as the demo: started faster, some seeds never leave chance
            "max_length": self.sizes.model.max_length,
            "bf16": device.type == "cuda",
            "seed": self.asked.seed,
            "log_steps": 100,
            "save_steps": 1_000_000,
        }
        options: dict[str, Any] = {f"train.{name}": value for name, value in train.items()}
        pruning = self.settings[setting].to_dict()
        options |= {f"prune.{name}": value for name, value in pruning.items()}
        return load_config(
            None,
            (),
            options
            | {
                "model": str(self.folder / "model"),
                "task": "defect-detection",
                "data": str(self.folder / "data"),
                "device": device.type,
                "output": str(self.folder / "runs" / setting),
            },
        )

    # -- costs of the trained models ---------------------------------------------------------

    def inference(self, bench: Workbench, allowance: Allowance) -> dict[str, Any]:
        """All trained models in turns on the test functions: batches, and single requests."""
        dtype = torch.bfloat16 if bench.device.type == "cuda" else torch.float32

        def measure(batch: int, allowance: Allowance) -> dict[str, Any]:
            mode = Mode(waits=batch == 1)
            rows = self._functions(8 * self.sizes.measured if batch > 1 else self.sizes.measured)
            with enter(
                bench, self._variants(), self._encoder_of(bench, dtype), rows, batch, mode
            ) as entrants:
                found = race(bench, entrants, allowance, ("packed, none",), ("stock bucketed",))
            return {"batch": batch, "precision": str(dtype), **found}

        cells = [Cell(f"batch {batch}", batch) for batch in (self.sizes.measured, 1)]
        return {"cells": run_cells(cells, allowance, measure, say=bench.say)}

    def training_steps(self, bench: Workbench, allowance: Allowance) -> dict[str, Any]:
        """Training steps of the trained models under bfloat16 autocast, in turns."""

        def measure(batch: int, allowance: Allowance) -> dict[str, Any]:
            encoder_of = self._encoder_of(bench, torch.float32)
            rows = self._functions(8 * batch)
            with enter(
                bench, self._variants(), encoder_of, rows, batch, self._training
            ) as entrants:
                found = race(bench, entrants, allowance, ("packed, none",), ("stock bucketed",))
            return {"batch": batch, **found}

        cells = [Cell(f"batch {self.sizes.measured}", self.sizes.measured)]
        return {"cells": run_cells(cells, allowance, measure, say=bench.say)}

    def memory(self, bench: Workbench, allowance: Allowance) -> dict[str, Any]:
        """Peaks of inference and of a training step on the longest test functions."""
        if bench.device.type != "cuda":
            return {"reason": "peaks of the CUDA allocator need a CUDA device"}

        def measure(mode: Mode, allowance: Allowance) -> dict[str, Any]:
            dtype = torch.float32 if mode.train else torch.bfloat16
            return measure_peaks(
                bench,
                self._variants(),
                self._encoder_of(bench, dtype),
                self._functions(None),
                self.sizes.measured,
                mode,
                allowance,
            )

        cells = [Cell("inference", Mode()), Cell("training step", self._training)]
        return {"cells": run_cells(cells, allowance, measure, say=bench.say)}

    def energy(self, bench: Workbench, allowance: Allowance) -> dict[str, Any]:
        """Energy of inference per function."""
        with open_energy(bench.uuid) as meter:
            bench.release()
            watts = idle_watts(meter)

            def measure(batch: int, allowance: Allowance) -> dict[str, Any]:
                encoder_of = self._encoder_of(bench, torch.bfloat16)
                rows = self._functions(8 * batch)
                with enter(bench, self._variants(), encoder_of, rows, batch, Mode()) as entrants:
                    return measure_windows(entrants, meter, watts, allowance)

            cells = [Cell("inference", self.sizes.measured)]
            found = run_cells(cells, allowance, measure, say=bench.say)
            return {
                "method": meter.sources["gpu"].method,
                "window_s": meter.window_s,
                "idle_w": watts,
                "cells": found,
            }

    _training = Mode(train=True, autocast=torch.bfloat16)

    def _variants(self) -> list[Variant]:
        """The trained models, each pruned as it was trained; and stock with the unpruned's weights.

        Raises:
            RuntimeError: none was trained.
        """
        if not self.runs:
            raise RuntimeError("no model was trained")
        stock = [Variant("stock bucketed", None, bucketed=True)] if "none" in self.runs else []
        return stock + [
            Variant(f"packed, {name}", "packed", self.settings[name].layers,
                    rule=self.settings[name])
            for name in self.runs
        ]  # fmt: skip

    def _encoder_of(self, bench: Workbench, dtype: torch.dtype) -> Any:
        """variant → its trained encoder on the device, unpruned."""

        def encoder(variant: Variant) -> Any:
            name = "none" if variant.engine is None else variant.name.removeprefix("packed, ")
            if name not in self._encoders:
                model, _ = load_checkpoint(self.runs[name].checkpoint).build()
                self._encoders[name] = model.encoder.eval()
            return copy.deepcopy(self._encoders[name]).to(bench.device, dtype)

        return encoder

    def _functions(self, count: int | None) -> list[list[int]]:
        """Test functions as the models read them, the first `count`."""
        if not self._rows:
            checkpoint = load_checkpoint(next(iter(self.runs.values())).checkpoint)
            _, tokenizer = checkpoint.build()
            task = resolve_task(checkpoint.task)
            samples = load_splits(task, self.folder / "data").require("test").samples
            encoded = encode(samples, tokenizer, EncodingSpec(**checkpoint.encoding))
            self._rows = [list(row) for sample in encoded.rows for row in sample]
        return self._rows[:count]


def _predictions(run: RunDirectory) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Labels and predictions on the test split."""
    lines = run.predictions("test").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return np.array([row["label"] for row in rows]), np.array([row["prediction"] for row in rows])


def _consumption(run: RunDirectory) -> dict[str, Any]:
    """Time and energy of the training by its own record; a reason where there is none."""
    try:
        result = Result.model_validate_json(run.record.read_bytes())
    except (OSError, ValueError) as error:
        return {"reason": reason_of(error)}
    return {
        figure.name: {"value": figure.value, "unit": figure.unit, "reason": figure.reason,
                      "provenance": figure.provenance}
        for figure in result.figures
        if figure.name.startswith("finetuning_")
    }  # fmt: skip
