"""What fine-tuning with pruning keeps at 2, 4 and 8 times fewer multiply-adds, and which way of it.

    python -m benchmarks.finetuned --model DIR --task clone-detection --data ../shared/data/bcb \
        --train 2000 --test 1000 --seeds 1 2 3 --work runs/finetuned

For every seed a model is fine-tuned without pruning. Then, at each share of its multiply-adds,
with every way of saving them (rules and merges, and truncation of the input as rival):

    training-free    the unpruned model, pruned at inference only
    recovered        the same after a short fine-tuning with pruning (a part of one epoch)
    distilled        the same recovery, half of its loss the unpruned model's answers
    from the start   fine-tuned with pruning from the encoder on, as long as the unpruned model

and beside them the unpruned model trained on for as long as a recovery takes, so that more training
is not taken for a gain of pruning. Strengths are fitted to the share on validation data, before
anything is trained with them. Every run picks its weights by validation; test data is read by the
finished runs, once each.

Differences are paired by seed and sample: a sample's outcome is averaged over seeds first, the
interval is about samples, and the range over seeds stands beside it. Finished runs stay in
`--work`: interrupted, the same command goes on, and seeds can be run side by side and told in one
table by a last call with all of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alpine_cli.config import load_config
from alpine_cli.files import write_atomic
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.fit import Fitter
from alpine_cli.measure.grid import Setting
from alpine_cli.measure.trials import BASELINE, TrialRunner
from alpine_cli.measure.workload import VariantRequest, WorkloadRequest, load_workload
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.pictures import slug
from alpine_cli.training.finetuning import finetune
from alpine_cli.training.start import fields_of
from benchmarks.front import Change, accuracy_text, paired

RESULTS = Path(__file__).parent / "results"
_PILOT = 64  # samples on which rules by alpha are fitted

FREE, RECOVERED, DISTILLED, STARTED = "training-free", "recovered", "distilled", "from the start"
WAYS = (FREE, RECOVERED, DISTILLED, STARTED)
RIVALS: dict[str, PruningConfig | None] = {
    "top, nearest": PruningConfig("all", rule="top", merge="nearest"),
    "bipartite": PruningConfig("all", rule="bipartite", merge="nearest"),
    "top, mean": PruningConfig("all", rule="top"),
    "random, mean": PruningConfig("all", rule="random"),
    "band (published)": PruningConfig("all"),
    "truncation": None,
}


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

    def outcomes(self, shares: Sequence[float], rivals: Mapping[str, list[str]]) -> list[Outcome]:
        """Train what is missing, judge everything.

        Args:
            shares: of the multiply-adds of the unpruned model.
            rivals: ways by name of `RIVALS`.
        """
        base, base_seconds = self._trained("unpruned", None, None)
        trained_on, on_seconds = self._trained("unpruned-on", None, base)
        found = [
            self._judged("unpruned", STARTED, 1.0, None, base, base_seconds),
            self._judged("unpruned", RECOVERED, 1.0, None, trained_on, on_seconds),
        ]
        fitter = self._fitter(base)
        for share in shares:
            for rival, ways in rivals.items():
                setting = self._fitted(fitter, rival, share)
                if setting is None:
                    self._say(f"{rival} does not reach {share:g} of the multiply-adds")
                    continue
                for way in ways:
                    name = slug(f"{rival} {share:g} {way}")
                    checkpoint, seconds = base, 0.0
                    if way != FREE:
                        start = None if way == STARTED else base
                        checkpoint, seconds = self._trained(
                            name, setting, start, distil=way == DISTILLED
                        )
                    found.append(self._judged(rival, way, share, setting, checkpoint, seconds))
        return found

    def _trained(
        self, name: str, setting: Setting | None, start: Path | None, distil: bool = False
    ) -> tuple[Path, float]:
        """The checkpoint of a run, made now unless it is there, and how long its training took."""
        plan, output = self._plan, self._work / name
        fields: dict[str, Any] = {
            "data": plan.data,
            "limit.train": plan.train,
            "limit.valid": plan.valid,
            "limit.test": 1,  # the test split is judged below, of all runs alike
            "train.epochs": plan.epochs,
            "train.batch_size": plan.batch_size,
            "train.lr": plan.lr,
            "train.warmup": plan.warmup,
            "train.max_length": plan.max_length,
            "train.seed": self._seed,
            "train.save_steps": 100_000,
            "device": "cpu",
            "output": str(output),
        }
        if setting is not None:
            fields |= {f"prune.{name}": v for name, v in setting.pruning.to_dict().items()}
            fields["train.max_length"] = setting.max_length or plan.max_length
        if start is None:
            model = plan.model.replace("{seed}", str(self._seed))
            config = load_config(None, (), fields | {"model": model, "task": plan.task})
        else:
            # of the same samples: the first so many of the split that the model was trained on
            fields["limit.train"] = round(plan.recovery * (plan.train or self._samples()))
            fields["train.epochs"] = 1
            if distil:
                fields["train.distill.weight"] = 0.5
            fields["model"] = str(start)
            config = load_config(None, (), fields, start=(str(start), fields_of(start)))
        finished = output / "training.json"
        if not finished.exists():
            self._say(f"training {name}")
            shutil.rmtree(output, ignore_errors=True)
            finetune(config)
        entries = [json.loads(line) for line in (output / "metrics.jsonl").open(encoding="utf-8")]
        end = next(entry for entry in entries if entry["event"] == "end")
        return output / "ckpt.pt", float(end["wall_s"])

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

    def _fitted(self, fitter: Fitter, rival: str, share: float) -> Setting | None:
        pruning = RIVALS[rival]
        if pruning is None:
            return fitter.truncation(share)
        return fitter.fit(Setting.of(pruning), share)

    def _judged(
        self,
        rival: str,
        way: str,
        share: float,
        setting: Setting | None,
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
        trial = runner.run(setting or Setting(BASELINE, PruningConfig()))
        right = trial.answers == runner.labels
        outcome = Outcome(
            rival=rival,
            way=way,
            share=share,
            setting=setting.name if setting else BASELINE,
            seed=self._seed,
            correct="".join(str(int(one)) for one in right),
            macs=float(np.sum(trial.macs)),
            train_seconds=seconds,
        )
        write_atomic(kept, json.dumps(asdict(outcome)))
        return outcome

    def _say(self, text: str) -> None:
        print(f"seed {self._seed}: {text}", file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Row:
    """One rival in one way at one share, over all seeds.

    Attributes:
        share: as asked for; `macs` as it came out on the test split, relative to unpruned.
        settings: prunings, one name if all seeds have the same.
        accuracy, accuracies: mean over seeds, and of each.
        unpruned: paired difference to the unpruned model of the same seed.
        truncation: the same to truncation in the same way at the same share; None for itself.
        train_seconds: mean over seeds, relative to the unpruned model's training.
    """

    rival: str
    way: str
    share: float
    macs: float
    settings: str
    accuracy: float
    accuracies: list[float]
    unpruned: Change | None
    truncation: Change | None
    train_seconds: float


def rows_of(outcomes: Sequence[Outcome]) -> list[Row]:
    """Rows in the order of the first seed's runs; only of runs that all seeds have."""
    seeds = sorted({outcome.seed for outcome in outcomes})
    by_run: dict[tuple[str, str, float], dict[int, Outcome]] = {}
    for outcome in outcomes:
        run = (outcome.rival, outcome.way, outcome.share)
        by_run.setdefault(run, {})[outcome.seed] = outcome
    whole = {
        run: [of[seed] for seed in seeds] for run, of in by_run.items() if len(of) == len(seeds)
    }
    base = whole["unpruned", STARTED, 1.0]
    rows = []
    for (rival, way, share), mine in whole.items():
        other = whole.get(("truncation", way, share))
        rows.append(
            Row(
                rival=rival,
                way=way,
                share=share,
                macs=sum(one.macs for one in mine) / sum(one.macs for one in base),
                settings=", ".join(dict.fromkeys(one.setting for one in mine)),
                accuracy=float(_right(mine).mean()),
                accuracies=[float(_right([one]).mean()) for one in mine],
                unpruned=None if mine is base else paired(_right(mine), _right(base)),
                truncation=(
                    None if other is None or other is mine else paired(_right(mine), _right(other))
                ),
                train_seconds=sum(one.train_seconds for one in mine)
                / sum(one.train_seconds for one in base),
            )
        )
    return rows


def _right(outcomes: Sequence[Outcome]) -> NDArray[np.float64]:
    """(samples,) correctness, averaged over seeds."""
    digits = [[float(digit) for digit in outcome.correct] for outcome in outcomes]
    mean: NDArray[np.float64] = np.mean(np.array(digits), axis=0)
    return mean


def document(name: str, plan: Plan, rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """The table in Markdown."""
    base = rows[0]
    samples = plan.test or "all"
    lines = [
        f"# Fine-tuned with pruning: {name}",
        "",
        f"{plan.task}, {Path(plan.data).name}: {plan.train or 'all'} training samples,"
        f" {plan.epochs} epoch{'s' * (plan.epochs > 1)}, recovery over {plan.recovery:g} of one,"
        f" input cut at {plan.max_length} tokens per function; {samples} test samples,"
        f" {len(seeds)} seed{'s' * (len(seeds) > 1)} ({', '.join(map(str, seeds))}). Unpruned:"
        f" {accuracy_text(base)} %. Brackets: 95 % bootstrap intervals of paired differences, over"
        " samples; the range over seeds stands behind accuracies. Training time is that of the run"
        " itself on one core that other runs shared a machine with, so read it as rough.",
        "",
        "| way | rule | setting | MACs, % | accuracy, % | against unpruned, points |"
        " against truncation the same way, points | training time / unpruned |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        change, against = row.unpruned or "", row.truncation or ""
        took = f"{row.train_seconds:.2f}" if row.train_seconds else ""
        lines.append(
            f"| {row.way} | {row.rival} | {row.settings} | {100 * row.macs:.1f} |"
            f" {accuracy_text(row)} | {change} | {against} | {took} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run, print, write; see the head of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--model", required=True, help="encoder that runs start from; {seed} in it is the seed"
    )
    parser.add_argument("--task", default="clone-detection")
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True, help="of the result files")
    parser.add_argument("--train", type=int, help="training samples; default: all")
    parser.add_argument("--valid", type=int)
    parser.add_argument("--test", type=int)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--recovery", type=float, default=0.25, help="share of an epoch")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--warmup", type=float, default=0.1)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.25, 0.125])
    parser.add_argument(
        "--rival", action="append", metavar="NAME=WAY,WAY", help="default: see DEFAULT_RIVALS"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plan = Plan(**{name: getattr(asked, name) for name in Plan.__dataclass_fields__})
    rivals = DEFAULT_RIVALS if asked.rival is None else dict(map(_rival, asked.rival))
    outcomes = [
        outcome
        for seed in asked.seeds
        for outcome in Bench(plan, seed, asked.work).outcomes(asked.shares, rivals)
    ]
    rows = rows_of(outcomes)
    text = document(asked.name, plan, rows, asked.seeds)
    kept = {
        "benchmark": "finetuned",
        "plan": {**asdict(plan), "model": Path(plan.model).name, "data": Path(plan.data).name},
        "seeds": asked.seeds,
        "rows": [asdict(row) for row in rows],
        "outcomes": [asdict(outcome) for outcome in outcomes],
        "environment": describe_environment(threads=asked.threads, seed=asked.seeds[0]).model_dump(
            mode="json"
        ),
    }
    stem = asked.output / f"finetuned-{asked.name}"
    write_atomic(stem.with_suffix(".json"), json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
    write_atomic(stem.with_suffix(".md"), text)
    print(text)


DEFAULT_RIVALS: dict[str, list[str]] = {
    "top, nearest": list(WAYS),
    "bipartite": [FREE, RECOVERED],
    "random, mean": [FREE, RECOVERED],
    "band (published)": [FREE, RECOVERED, STARTED],
    "truncation": [FREE, RECOVERED, STARTED],
}
"""Which ways each rival goes: a whole training only where it is the question."""


def _rival(text: str) -> tuple[str, list[str]]:
    name, _, ways = text.partition("=")
    chosen = ways.split(",") if ways else list(WAYS)
    unknown = [name] if name not in RIVALS else [way for way in chosen if way not in WAYS]
    if unknown:
        raise SystemExit(f"--rival: no {unknown[0]!r}; rivals: {list(RIVALS)}, ways: {list(WAYS)}")
    return name, chosen


if __name__ == "__main__":
    main()
