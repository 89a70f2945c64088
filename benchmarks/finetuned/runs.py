"""The runs of a seed: trained unless they are there, judged on the test split once."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alpine_cli.config import load_config
from alpine_cli.files import write_atomic
from alpine_cli.measure.fit import Fitter
from alpine_cli.measure.trials import BASELINE, TrialRunner
from alpine_cli.measure.workload import VariantRequest, WorkloadRequest, load_workload
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.pictures import slug
from alpine_cli.training.finetuning import finetune
from alpine_cli.training.start import fields_of
from benchmarks.finetuned.rivals import (
    DISTILLED,
    FREE,
    LONGER,
    RECOVERED,
    STARTED,
    UNPRUNED,
    Candidate,
    fitted,
    layers_of,
    shallow_checkpoint,
    shallow_encoder,
)

_PILOT = 64  # samples on which rules by alpha are fitted


@dataclass(frozen=True)
class Plan:
    """How models are trained and judged: the arguments that runs depend on."""

    model: str
    task: str
    data: str
    train: int | None
    valid: int | None
    test: int | None
    epochs: int
    recovery: float
    batch_size: int
    max_length: int
    lr: float
    warmup: float


@dataclass(frozen=True)
class Outcome:
    """One run, judged on the test split.

    Attributes:
        rival, way, share: what it is; share as asked for, 1 for runs without pruning.
        setting: its pruning by name.
        seed: of the run.
        correct: one digit per test sample.
        macs: multiply-adds of those samples together.
        train_seconds: of this run's own training; 0 where there was none.
    """

    rival: str
    way: str
    share: float
    setting: str
    seed: int
    correct: str
    macs: float
    train_seconds: float


class Bench:
    """All runs of one seed."""

    def __init__(self, plan: Plan, seed: int, work: Path) -> None:
        self._plan, self._seed, self._work = plan, seed, work / f"seed{seed}"
        self._model = plan.model.replace("{seed}", str(seed))

    def outcomes(self, shares: Sequence[float], rivals: Mapping[str, list[str]]) -> list[Outcome]:
        """Train what is missing, judge everything.

        Args:
            shares: of the multiply-adds of the unpruned model.
            rivals: ways by name.
        """
        base, base_seconds = self._trained("unpruned", UNPRUNED, STARTED, None)
        trained_on, on_seconds = self._trained("unpruned-on", UNPRUNED, RECOVERED, base)
        found = [
            self._judged("unpruned", STARTED, 1.0, UNPRUNED, base, base_seconds),
            self._judged("unpruned", RECOVERED, 1.0, UNPRUNED, trained_on, on_seconds),
        ]
        fitter, layers = self._fitter(base), layers_of(self._model)
        for share in shares:
            for rival, ways in rivals.items():
                candidate = fitted(rival, share, fitter, layers)
                if candidate is None:
                    self._say(f"{rival} does not reach {share:g} of the multiply-adds")
                    continue
                for way in ways:
                    name = slug(f"{rival} {share:g} {way}")
                    checkpoint, seconds = self._trained(name, candidate, way, base)
                    found.append(self._judged(rival, way, share, candidate, checkpoint, seconds))
        return found

    def _trained(
        self, name: str, candidate: Candidate, way: str, base: Path | None
    ) -> tuple[Path, float]:
        """The checkpoint of a run, made now unless it is there, and how long its training took."""
        plan, output = self._plan, self._work / name
        start = None if way == STARTED or base is None else self._cut(base, candidate)
        if way == FREE:
            assert start is not None
            return start, 0.0
        fields: dict[str, Any] = {
            "data": plan.data,
            "limit.train": plan.train,
            "limit.valid": plan.valid,
            "limit.test": 1,  # the test split is judged below, of all runs alike
            "train.epochs": plan.epochs,
            "train.batch_size": plan.batch_size,
            "train.lr": plan.lr,
            "train.warmup": plan.warmup,
            "train.max_length": candidate.max_length or plan.max_length,
            "train.seed": self._seed,
            "train.save_steps": 100_000,
            "device": "cpu",
            "output": str(output),
        }
        if candidate is not UNPRUNED:
            fields |= {f"prune.{name}": v for name, v in candidate.pruning.to_dict().items()}
        if start is None:
            fields |= {"model": self._encoder(candidate.depth), "task": plan.task}
            config = load_config(None, (), fields)
        else:
            fields["model"] = str(start)
            if way != LONGER:
                # of the same samples: the first so many of the split that the model was trained on
                fields["limit.train"] = round(plan.recovery * (plan.train or self._samples()))
                fields["train.epochs"] = 1
            if way in (DISTILLED, LONGER):
                fields["train.distill.weight"] = 0.5
                fields["train.distill.teacher"] = str(base)
            config = load_config(None, (), fields, start=(str(start), fields_of(start)))
        if not (output / "training.json").exists():
            self._say(f"training {name}")
            shutil.rmtree(output, ignore_errors=True)
            finetune(config)
        entries = [json.loads(line) for line in (output / "metrics.jsonl").open(encoding="utf-8")]
        end = next(entry for entry in entries if entry["event"] == "end")
        return output / "ckpt.pt", float(end["wall_s"])

    def _encoder(self, depth: int | None) -> str:
        """What runs from the start begin with."""
        if depth is None:
            return self._model
        return str(shallow_encoder(self._model, depth, self._work / "layers" / f"encoder-{depth}"))

    def _cut(self, base: Path, candidate: Candidate) -> Path:
        """The unpruned model, of as many layers as the candidate has."""
        if candidate.depth is None:
            return base
        place = self._work / "layers" / f"{base.parent.name}-{candidate.depth}" / "ckpt.pt"
        return shallow_checkpoint(base, candidate.depth, place)

    def _samples(self) -> int:
        request = self._request(self._work / "unpruned" / "ckpt.pt", "train", None)
        return len(load_workload(request).samples)

    def _request(self, checkpoint: Path, split: str, limit: int | None) -> WorkloadRequest:
        bare = VariantRequest(
            name=BASELINE, checkpoint=str(checkpoint), pruning=PruningConfig().to_dict()
        )
        return WorkloadRequest(
            variants=[bare],
            data=self._plan.data,
            split=split,
            limit=limit,
            threads=torch.get_num_threads(),
        )

    def _runner(self, checkpoint: Path, split: str, limit: int | None) -> TrialRunner:
        request = self._request(checkpoint, split, limit)
        workload = load_workload(request)
        folder = self._work / "trials" / f"{checkpoint.parent.name}-{split}"
        return TrialRunner(workload, request.batch_limit, folder)

    def _fitter(self, base: Path) -> Fitter:
        runner = self._runner(base, "valid", self._plan.valid)
        count = len(runner.labels)
        return Fitter(runner, range(0, count, max(1, count // _PILOT)))

    def _judged(
        self,
        rival: str,
        way: str,
        share: float,
        candidate: Candidate,
        checkpoint: Path,
        seconds: float,
    ) -> Outcome:
        """A run on the test split, or what was found when it was judged before."""
        name = slug(f"{rival} {share:g} {way}")
        kept = self._work / "outcomes" / f"{name}.json"
        if kept.exists():
            return Outcome(**json.loads(kept.read_text("utf-8")))
        self._say(f"judging {name}")
        runner = self._runner(checkpoint, "test", self._plan.test)
        trial = runner.run(candidate.setting)
        right = trial.answers == runner.labels
        outcome = Outcome(
            rival=rival,
            way=way,
            share=share,
            setting=candidate.name,
            seed=self._seed,
            correct="".join(str(int(one)) for one in right),
            macs=float(np.sum(trial.macs)),
            train_seconds=seconds,
        )
        write_atomic(kept, json.dumps(asdict(outcome)))
        return outcome

    def _say(self, text: str) -> None:
        print(f"seed {self._seed}: {text}", file=sys.stderr, flush=True)
