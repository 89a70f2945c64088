"""Engines against each other, the published way and stock transformers, in one interleaved run.

    ALPINE_SHARED=../shared python -m benchmarks.engines --batch-size 1 8 32

A RoBERTa-base-sized encoder with random weights reads real Java functions of real lengths, in
float32, and prunes the shares of tokens that the published runs pruned (see `published_shares`).
Every variant reads the same functions once per round, in an order drawn anew each round. The
figure is the time of a round; ratios pair the rounds and carry a bootstrap interval.

Variants:
    stock padded     transformers, SDPA, random batches padded to their longest
    stock bucketed   the same with functions of like length batched together: the strong baseline
    published way    `reference` engine: eager attention, one Python iteration per sample
    padded           vectorised gather and scatter, bucketed batches
    packed           no padding anywhere
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import random
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from alpine_cli.files import write_atomic
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.statistics import ratio_interval
from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import ENGINES
from benchmarks.published_shares import ScheduledBand, shares
from benchmarks.workload import load_rows, pad_batch, roberta_base

PUBLISHED = "codebert"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Variant:
    """One way to run the functions: the model, its pruning, and how functions are batched."""

    name: str
    engine: str | None
    layers: str = "none"
    bucketed: bool = False


VARIANTS = (
    Variant("stock padded", None),
    Variant("stock bucketed", None, bucketed=True),
    Variant("published way, none", "reference"),
    Variant("published way, all", "reference", "all"),
    Variant("padded, none", "padded", bucketed=True),
    Variant("padded, all", "padded", "all", bucketed=True),
    Variant("packed, none", "packed"),
    Variant("packed, odd", "packed", "odd"),
    Variant("packed, even", "packed", "even"),
    Variant("packed, all", "packed", "all"),
)


@dataclass
class Round:
    """One pass of one variant over all functions."""

    seconds: float


def batches(rows: list[list[int]], size: int, bucketed: bool) -> list[dict[str, torch.Tensor]]:
    """Batches of `size`: in the drawn order, or like lengths together in random batch order."""
    ordered = sorted(rows, key=len, reverse=True) if bucketed else rows
    cut = [pad_batch(ordered[i : i + size]) for i in range(0, len(ordered), size)]
    return random.Random(0).sample(cut, len(cut))


def macs(lengths: list[tuple[int, ...]], d: int = 768) -> float:
    """Multiply-adds of matrix products over all layers, from the lengths entering each.

    Attention (4nd² + 2n²d) runs at the length entering a layer, feed-forward (8nd²) at the length
    leaving it; scoring adds nothing, the probabilities exist anyway.
    """
    total = 0.0
    for entering, leaving in itertools.pairwise(lengths):
        total += sum(4 * n * d * d + 2 * n * n * d for n in entering)
        total += sum(8 * n * d * d for n in leaving)
    return total


def prepare(
    variant: Variant, model: Any, rows: list[list[int]], size: int
) -> tuple[Callable[[str], Round], dict[str, Any]]:
    """The function that runs one round, and what a traced round says of lengths and cost."""
    model = copy.deepcopy(model)
    prepared = batches(rows, size, variant.bucketed)
    engines: dict[str, Any] = {}
    if variant.engine:
        prune(model, PruningConfig(layers=variant.layers, engine=variant.engine))  # type: ignore[arg-type]
        if variant.layers != "none":
            scheduled = ScheduledBand(ENGINES[variant.engine], shares(PUBLISHED, variant.layers))
            engines[variant.engine] = scheduled

    @torch.inference_mode()
    def run(_: str) -> Round:
        with patch.dict(ENGINES, engines):
            started = time.perf_counter()
            for batch in prepared:
                model(**batch)
            return Round(time.perf_counter() - started)

    if variant.engine is None:
        lengths = [tuple(len(row) for row in rows)] * 13
    else:
        with trace(model) as recorded:
            run("")
        lengths = [
            tuple(n for call in recorded.calls for n in call.lengths[layer]) for layer in range(13)
        ]
    padding = sum(batch["input_ids"].numel() for batch in prepared)
    told = {
        "mean_lengths": [round(sum(at) / len(at), 1) for at in lengths],
        "gmacs_per_function": macs(lengths) / len(rows) / 1e9,
        "padded_positions_per_token": padding / sum(map(len, rows)),
    }
    return run, told


def compare(samples: dict[str, list[float]], told: dict[str, Any], name: str) -> dict[str, Any]:
    """One row of the table: time against the baselines, with intervals."""

    def ratio(of: str, to: str) -> dict[str, float] | None:
        if of not in samples:  # left out by --only
            return None
        interval = ratio_interval(samples[of], samples[to], "mean")
        value = sum(samples[of]) / sum(samples[to])
        return {"value": value} | ({"low": interval.low, "high": interval.high} if interval else {})

    family = name.split(",")[0]
    own = f"{family}, none"
    row: dict[str, Any] = {"variant": name, "seconds": samples[name]} | told[name]
    row["speedup_over_stock_bucketed"] = ratio("stock bucketed", name)
    row["speedup_over_stock_padded"] = ratio("stock padded", name)
    if own in samples and own != name:
        row["time_ratio_to_own_unpruned"] = ratio(name, own)
        row["macs_ratio_to_own_unpruned"] = (
            told[name]["gmacs_per_function"] / told[own]["gmacs_per_function"]
        )
        # (time unpruned / time pruned) ÷ (MACs unpruned / MACs pruned)
        row["efficiency"] = (
            row["macs_ratio_to_own_unpruned"] / row["time_ratio_to_own_unpruned"]["value"]
        )
    return row


def table(rows: list[dict[str, Any]], batch_size: int) -> str:
    """The rows in Markdown."""

    def shown(ratio: dict[str, float] | None) -> str:
        if ratio is None:
            return ""
        interval = f" ({ratio['low']:.2f}–{ratio['high']:.2f})" if "low" in ratio else ""
        return f"{ratio['value']:.2f}{interval}"

    lines = [
        f"### Batch size {batch_size}",
        "",
        "| variant | GMACs per function | time ÷ own unpruned (95 % CI) | MACs ÷ own unpruned |"
        " efficiency | × stock bucketed (95 % CI) | × stock padded (95 % CI) |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        efficiency = f"{row['efficiency']:.2f}" if "efficiency" in row else ""
        saved = f"{row['macs_ratio_to_own_unpruned']:.2f}" if efficiency else ""
        lines.append(
            f"| {row['variant']} | {row['gmacs_per_function']:.1f} |"
            f" {shown(row.get('time_ratio_to_own_unpruned'))} | {saved} | {efficiency} |"
            f" {shown(row['speedup_over_stock_bucketed'])} |"
            f" {shown(row['speedup_over_stock_padded'])} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the comparison and write `results/engines-cpu.{json,md}`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--functions", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--only", nargs="+", help="names of variants; default: all of them")
    parser.add_argument("--output", type=Path, default=RESULTS / "engines-cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    variants = [v for v in VARIANTS if not arguments.only or v.name in arguments.only]

    rows, source = load_rows(arguments.functions, arguments.max_length)
    model = roberta_base()
    tables, results = [], []
    for size in arguments.batch_size:
        runs, told = {}, {}
        for variant in variants:
            runs[variant.name], told[variant.name] = prepare(variant, model, rows, size)
            runs[variant.name]("")  # warm-up: allocator, kernel caches
        blocks = run_blocks(
            list(runs), lambda name, runs=runs: runs[name](name),
            runs=arguments.runs, min_seconds=0, seed=size,
            on_progress=lambda done, total, text: print(f"\r{done / 10:5.1f} % {text:40}", end=""),
        )  # fmt: skip
        print()
        samples = {name: [block.seconds for block in found] for name, found in blocks.items()}
        compared = [compare(samples, told, variant.name) for variant in variants]
        results.append({"batch_size": size, "variants": compared})
        tables.append(table(compared, size))
        print(tables[-1])
    document = {
        "benchmark": "engines",
        "data": source,
        "arguments": {k: str(v) if isinstance(v, Path) else v for k, v in vars(arguments).items()},
        "variants": [asdict(variant) for variant in variants],
        "environment": describe_environment(threads=arguments.threads, seed=0).model_dump(
            mode="json"
        ),
        "results": results,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(arguments.output.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    write_atomic(arguments.output.with_suffix(".md"), "\n".join(tables))


if __name__ == "__main__":
    main()
