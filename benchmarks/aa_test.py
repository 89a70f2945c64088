"""A/A test on this machine: a checkpoint against itself, and against itself slowed by 5 %.

    python -m benchmarks.aa_test --checkpoint clone.pt --data DIR

A trial is what `alpine throughput` does: a fresh process that loads the same weights twice, calls
them `pruned` and `unpruned` although both prune alike, runs them in turns and compares all figures.
As nothing differs, a verdict is wrong; a 95 % interval allows one in twenty, so that a series of
20 trials shows two or more wrong verdicts on a figure in a quarter of cases by chance alone. In the
slowed trials every forward pass of `pruned` sleeps for 5 % of its time; "worse" is then right.

Meant for a quiet machine; what the trials saw of other work is part of the result file.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

from scipy import stats

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.files import write_atomic
from alpine_cli.measure import cautions
from alpine_cli.measure.environment import describe_environment, usable_cores
from alpine_cli.measure.isolation import run_isolated
from alpine_cli.measure.workload import VariantRequest, WorkloadRequest
from alpine_cli.results import Part

RESULTS = Path(__file__).parent / "results"
PAIR = ("pruned", "unpruned")


def request_of(arguments: argparse.Namespace, trial: int, slowdown: float) -> dict[str, Any]:
    """What the worker of one trial is asked."""
    checkpoint = load_checkpoint(arguments.checkpoint)
    variants = [
        VariantRequest(
            name=name,  # type: ignore[arg-type]
            checkpoint=str(arguments.checkpoint),
            pruning={**checkpoint.pruning, "layers": arguments.layers},
        )
        for name in reversed(PAIR)
    ]
    workload = WorkloadRequest(
        variants=variants,
        data=str(arguments.data),
        limit=arguments.samples,
        batch_size=arguments.batch_size,
        threads=arguments.threads,
        seed=trial,
    )
    return {
        "workload": workload.model_dump(mode="json"),
        "pairs": [PAIR],
        "runs": arguments.runs,
        "min_seconds": arguments.min_seconds,
        "timed_samples": arguments.samples,
        "latency": True,
        "slowdown": {"variant": PAIR[0], "share": slowdown} if slowdown else None,
    }


def run_trial(arguments: argparse.Namespace, trial: int, slowdown: float) -> dict[str, Any]:
    """One process; every comparison that could be judged, with its ratio as time or rate."""
    answer = run_isolated(
        "throughput",
        request_of(arguments, trial, slowdown),
        threads=arguments.threads,
        module="benchmarks.slowed_worker",
    )
    part = Part.model_validate(answer)
    return {
        "seed": trial,
        "comparisons": {
            found.figure: {
                "ratio": found.ratio,
                "low": found.interval.low,
                "high": found.interval.high,
                "verdict": found.verdict,
            }
            for found in part.comparisons
            if found.interval is not None
        },
        "runs": next(figure.n for figure in part.figures if figure.name == "throughput"),
        "cautions": [str(caution) for caution in part.cautions],
    }


def summary(trials: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By figure: verdicts counted, and the share of wrong or right ones with its interval."""
    found: dict[str, dict[str, Any]] = {}
    for figure in trials[0]["comparisons"] if trials else ():
        told = [trial["comparisons"][figure] for trial in trials]
        count = Counter(comparison["verdict"] for comparison in told)
        judged = len(told) - count["no difference shown"]
        exact = stats.binomtest(judged, len(told)).proportion_ci(method="exact")
        found[figure] = {
            "trials": len(told),
            "no difference shown": count["no difference shown"],
            "better": count["better"],
            "worse": count["worse"],
            "share_with_verdict_ci": [float(exact.low), float(exact.high)],
            "median_ratio": sorted(comparison["ratio"] for comparison in told)[len(told) // 2],
            "median_width": sorted(c["high"] - c["low"] for c in told)[len(told) // 2],
        }
    return found


def table(title: str, rows: dict[str, dict[str, Any]]) -> str:
    """One table of verdicts."""
    lines = [
        f"### {title}",
        "",
        "| figure | trials | no difference shown | better | worse |"
        " trials with a verdict, 95 % CI | median ratio | median width of the interval |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for figure, row in rows.items():
        low, high = row["share_with_verdict_ci"]
        lines.append(
            f"| {figure} | {row['trials']} | {row['no difference shown']} | {row['better']} |"
            f" {row['worse']} | {low:.0%}–{high:.0%} | {row['median_ratio']:.4f} |"
            f" {row['median_width']:.4f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both series and write `results/aa-test.{json,md}`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--layers", default="even")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--slowed-trials", type=int, default=5)
    parser.add_argument("--slowdown", type=float, default=0.05)
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--min-seconds", type=float, default=1.0)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--output", type=Path, default=RESULTS / "aa-test")
    arguments = parser.parse_args()
    environment = describe_environment(threads=arguments.threads)
    series: dict[str, list[dict[str, Any]]] = {"same": [], "slowed": []}
    started = time.perf_counter()
    for name, count, share in (
        ("same", arguments.trials, 0.0),
        ("slowed", arguments.slowed_trials, arguments.slowdown),
    ):
        for trial in range(count):
            series[name].append(run_trial(arguments, trial, share))
            told = series[name][-1]["comparisons"]["throughput"]
            print(
                f"{time.perf_counter() - started:4.0f} s  {name} {trial + 1}/{count}: throughput"
                f" {told['ratio']:.4f} [{told['low']:.4f}, {told['high']:.4f}] {told['verdict']}",
                flush=True,
            )
    document = {
        "benchmark": "aa-test",
        "checkpoint": arguments.checkpoint.name,
        "data": arguments.data.name,
        "arguments": {
            name: value
            for name, value in vars(arguments).items()
            if name not in ("checkpoint", "data", "output")
        },
        "environment": environment.model_dump(mode="json"),
        "cautions": [str(caution) for caution in cautions.before(environment, device="cpu")],
        "summary": {name: summary(trials) for name, trials in series.items()},
        "trials": series,
    }
    slowed = f"Slowed by {arguments.slowdown:.0%}: “worse” is right"
    told = (
        f"{table('The same against itself: any verdict is wrong', summary(series['same']))}\n"
        f"{table(slowed, summary(series['slowed']))}"
    )
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(arguments.output.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    write_atomic(arguments.output.with_suffix(".md"), told)
    print(f"\n{told}")


if __name__ == "__main__":
    main()
