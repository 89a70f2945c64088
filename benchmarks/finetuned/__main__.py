"""The command line; see the head of the package."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

import torch

import benchmarks.finetuned
from alpine_cli.files import write_atomic
from alpine_cli.measure.environment import describe_environment
from benchmarks.finetuned.rivals import DEFAULT_RIVALS, RIVALS, parse_rival
from benchmarks.finetuned.runs import Bench, Plan
from benchmarks.finetuned.table import document, rows_of

RESULTS = Path(__file__).parents[1] / "results"


def main() -> None:
    """Run, print, write; see the head of the package."""
    head = (benchmarks.finetuned.__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.finetuned", description=head)
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
        "--rival",
        action="append",
        metavar="NAME=WAY,WAY",
        help=f"of {', '.join(RIVALS)}; default: see rivals.DEFAULT_RIVALS",
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    plan = Plan(**{name: getattr(asked, name) for name in Plan.__dataclass_fields__})
    rivals = DEFAULT_RIVALS if asked.rival is None else dict(map(parse_rival, asked.rival))
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


if __name__ == "__main__":
    main()
