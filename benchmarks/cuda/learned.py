"""Costs and accuracy of pruning that acts on learned attention: trained on the spot, then measured.

    python -m benchmarks.cuda.learned                                # within ten minutes on a GPU
    python -m benchmarks.cuda.learned --layers none all --epochs 6
    python -m benchmarks.cuda.learned --device cpu --small --output trial

An encoder of RoBERTa-base's size is trained from scratch, once per setting, on the demo's task: is
there a bug in this function of Python's standard library? (`alpine_cli.demo.corpus`; the split is
by module.) Training is `alpine finetune`'s: bfloat16 autocast, AdamW, best epoch by validation,
test touched once. Then all trained models take turns on the test functions in bfloat16: inference,
training steps (this model has no dropout), memory, energy. So the shares of tokens that stay are
what each setting makes of attention that it was trained with, not published numbers.

Never run at this size. On a CPU twelve layers of d = 128, unpruned, stood at chance for some 400
steps of 8 functions (lr 3e-4, 2,882 functions of at most 360 characters) and reached 77 % of 145
validation functions after 722: the start leaves the plateau there, which is no promise for d = 768.

An accuracy whose interval reaches down to the commoner label's share proves nothing, and the
result says so. Writes OUTPUT.json and OUTPUT.md; what is not reached in the time is named.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import RunConfig, load_config
from alpine_cli.demo.corpus import Corpus, build_corpus, standard_library
from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model
from alpine_cli.errors import AlpineError
from alpine_cli.files import write_atomic
from alpine_cli.measure.accuracy import compare_predictions, metric_figures
from alpine_cli.measure.environment import describe_environment
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.presets import PRESETS, preset
from alpine_cli.results import Result
from alpine_cli.tasks import load_splits, resolve_task
from alpine_cli.tasks.encoding import EncodingSpec, encode
from alpine_cli.training.finetuning import finetune
from alpine_cli.training.rundir import RunDirectory
from benchmarks.cuda.budget import Allowance, Budget, Cell, reason_of, run_cells
from benchmarks.cuda.code import LibraryCode
from benchmarks.cuda.costs import (
    RESULTS,
    describe_device,
    find_device,
    output_files,
    watched,
)
from benchmarks.cuda.energy import idle_watts, measure_windows
from benchmarks.cuda.learned_tables import markdown
from benchmarks.cuda.machine import open_energy
from benchmarks.cuda.memory import measure_peaks
from benchmarks.cuda.race import enter, race
from benchmarks.cuda.workbench import Workbench
from benchmarks.variants import Mode, Variant

__all__ = ["Sizes", "main"]

LAYERS = ("none", "even", "all", "alpine-plus")
_WEIGHTS = {
    "training": 70.0,
    "inference": 8.0,
    "training steps": 8.0,
    "memory": 4.0,
    "energy": 10.0,
}
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write the result files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"],
                        help="CUDA_VISIBLE_DEVICES picks one of several GPUs")  # fmt: skip
    parser.add_argument("--small", action="store_true", help="tiny sizes: does the script run?")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS),
                        help=f"settings: layers, or {', '.join(PRESETS)}")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=9.0,
                        help="for everything but imports and what the last cell overruns")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS / "cuda-learned",
                        help="of the result files, without suffix")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace earlier result files")
    asked = parser.parse_args(arguments)
    budget = Budget(60 * asked.minutes, _WEIGHTS)
    try:
        _run(asked, budget)
    except AlpineError as error:
        raise SystemExit(f"error: {error}") from error


def pruning_of(setting: str) -> PruningConfig:
    """A preset of that name, or the published rule in these layers.

    Raises:
        PruningError: neither.
    """
    return preset(setting) if setting in PRESETS else PruningConfig(setting)


def _run(asked: argparse.Namespace, budget: Budget) -> None:
    files = output_files(asked.output, asked.force)
    sizes, device = SMALL if asked.small else BASE, find_device(asked.device, asked.small)
    settings = {name: pruning_of(name) for name in asked.layers}
    for pruning in settings.values():
        pruning.resolve(sizes.model.layers)
    library = standard_library() / sizes.library
    corpus = build_corpus(library, max_chars=sizes.max_chars, limit=sizes.functions)
    document: dict[str, Any] = {
        "benchmark": "cuda-learned",
        "small": asked.small,
        "minutes": asked.minutes,
        "epochs": asked.epochs,
        "lr": asked.lr or sizes.lr,
        "device": describe_device(device),
        "environment": describe_environment(
            threads=torch.get_num_threads(), seed=asked.seed
        ).model_dump(mode="json"),
        "data": _described(corpus),
        "majority": _majority(corpus),
        "sections": {},
    }

    def keep() -> None:
        write_atomic(files[0], json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        write_atomic(files[1], markdown(document))

    with tempfile.TemporaryDirectory(prefix="alpine-learned-") as folder:
        work = _Work(Path(folder), sizes, settings, corpus, asked)
        empty = LibraryCode([], [], (0, 2), document["data"])
        bench = Workbench(device, asked.small, empty, lambda text: print(text, flush=True))
        sections = {
            "training": work.train,
            "inference": work.inference,
            "training steps": work.training_steps,
            "memory": work.memory,
            "energy": work.energy,
        }
        for name, section in sections.items():
            allowance = budget.section(name)
            bench.say(f"{name}: {allowance.seconds:.0f} s")
            document["sections"][name] = watched(bench, section, allowance)
            keep()
    print(f"{files[0]}\n{files[1]}")


def _described(corpus: Corpus) -> str:
    counts = ", ".join(
        f"{name} {len(getattr(corpus, name))}" for name in ("train", "valid", "test")
    )
    return f"functions of the standard library, half of them with one injected bug: {counts}"


def _majority(corpus: Corpus) -> float:
    positive = sum(sample.target for sample in corpus.test) / len(corpus.test)
    return max(positive, 1 - positive)


class _Work:
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
        low, majority = accuracy.interval.low if accuracy.interval else None, _majority(self.corpus)
        found["clearly_above_majority"] = low is not None and low > majority
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


if __name__ == "__main__":
    main()
