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
    packed first     packed, and the last layer feeds forward only the tokens that heads read

`--rules` adds rules of a fixed share (merging into the most similar token, into one mean, bipartite
matching, random removal), which have costs of their own. `--compile` adds variants that went
through torch.compile (inductor, dynamic shapes). `--train` times training steps instead (forward,
backward, AdamW, dropout on, mean loss over all tokens that are left). `--dtype bfloat16` runs in
half precision, and `--fresh` gives every round functions of its own, so that lengths and token
counts are ones no kernel was built for.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from alpine_cli.files import write_atomic
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.statistics import ratio_interval
from alpine_cli.measure.workload import synchronise
from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import ENGINES
from alpine_cli.pruning.attention import Attended
from alpine_cli.pruning.packed import Ragged
from benchmarks.published_shares import ScheduledBand, shares
from benchmarks.workload import load_rows, pad_batch, roberta_base

PUBLISHED = "codebert"
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Variant:
    """One way to run the functions: the model, its pruning, and how functions are batched.

    `attends=False` leaves attention out, to see what everything else costs; never with pruning.
    `rule` prunes by that rule as it is, instead of the band at the published shares.
    """

    name: str
    engine: str | None
    layers: str = "none"
    bucketed: bool = False
    output: str = "tokens"
    attends: bool = True
    compiled: bool = False
    rule: PruningConfig | None = None


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
    Variant("packed first, none", "packed", output="first"),
    Variant("packed first, all", "packed", "all", output="first"),
)


_QUARTER = 0.75  # per layer, in all of twelve: about a quarter of the multiply-adds
RULES = tuple(
    Variant(f"packed, {name}", "packed", "all", rule=PruningConfig("all", keep=_QUARTER, **how))
    for name, how in {
        "top 75% nearest": {"rule": "top", "merge": "nearest"},
        "top 75% mean": {"rule": "top", "merge": "mean"},
        "bipartite 75%": {"rule": "bipartite", "merge": "nearest"},
        "random 75% mean": {"rule": "random", "merge": "mean"},
    }.items()
)
COMPILED = (
    Variant("stock compiled", None, bucketed=True, compiled=True),
    Variant("packed compiled, none", "packed", compiled=True),
    Variant("packed compiled, all", "packed", "all", compiled=True),
)


@dataclass
class Round:
    """One pass of one variant over all functions."""

    seconds: float


def batches(
    rows: list[list[int]], size: int, bucketed: bool, device: torch.device
) -> list[dict[str, torch.Tensor]]:
    """Batches of `size`: in the drawn order, or like lengths together in random batch order."""
    ordered = sorted(rows, key=len, reverse=True) if bucketed else rows
    cut = [pad_batch(ordered[i : i + size]) for i in range(0, len(ordered), size)]
    drawn = random.Random(0).sample(cut, len(cut))
    return [{name: value.to(device) for name, value in batch.items()} for batch in drawn]


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


def train_step(
    model: Any, optimiser: torch.optim.Optimizer, batch: dict[str, torch.Tensor]
) -> None:
    """Forward, backward, AdamW."""
    hidden = model(**batch).last_hidden_state
    hidden.float().square().mean().backward()
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)


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
    variant: Variant, model: Any, row_sets: list[list[list[int]]], size: int, train: bool
) -> tuple[Callable[[str], Round], Callable[[], dict[str, Any]]]:
    """The function that runs one round, and one that tells lengths and cost of all of them.

    Rounds go through `row_sets` in turn; with one set every round reads the same functions. What
    is told takes a pass over all sets, so it must be asked after the timing: it would build the
    kernels of shapes that are to be fresh.
    """
    model = copy.deepcopy(model)
    device, depth = model.device, model.config.num_hidden_layers
    prepared = [batches(rows, size, variant.bucketed, device) for rows in row_sets]
    turn = itertools.cycle(prepared)
    engines: dict[str, Any] = {}
    if variant.engine:
        config = variant.rule or PruningConfig(
            variant.layers,
            engine=variant.engine,  # type: ignore[arg-type]
            output=variant.output,  # type: ignore[arg-type]
        )
        prune(model, config)
        if variant.layers != "none" and variant.rule is None:
            scheduled = ScheduledBand(ENGINES[variant.engine], shares(PUBLISHED, variant.layers))
            engines[variant.engine] = scheduled

    called = torch.compile(model, dynamic=True) if variant.compiled else model

    def forward(batched: list[dict[str, torch.Tensor]]) -> None:
        with torch.inference_mode():
            for batch in batched:
                called(**batch)

    def step(batched: list[dict[str, torch.Tensor]]) -> None:
        for batch in batched:
            train_step(called, optimiser, batch)

    def run(_: str) -> Round:
        batched = next(turn)
        with patch.dict(ENGINES, engines), attention_left_out(not variant.attends):
            synchronise(device)
            started = time.perf_counter()
            (step if train else forward)(batched)
            synchronise(device)
            return Round(time.perf_counter() - started)

    def tell() -> dict[str, Any]:
        rows = [row for rows in row_sets for row in rows]
        if variant.engine is None:
            lengths = [tuple(len(row) for row in rows)] * (depth + 1)
        else:
            model.eval()
            nonlocal called
            called = model  # a trace reads what a compiled call may leave out
            with trace(model) as recorded, patch.dict(ENGINES, engines):
                for batched in prepared:
                    forward(batched)
            lengths = [
                tuple(n for call in recorded.calls for n in call.lengths[layer])
                for layer in range(depth + 1)
            ]
        positions = sum(batch["input_ids"].numel() for batched in prepared for batch in batched)
        return {
            "mean_lengths": [round(sum(at) / len(at), 1) for at in lengths],
            "gmacs_per_function": macs(lengths, model.config.hidden_size) / len(rows) / 1e9,
            "padded_positions_per_token": positions / sum(map(len, rows)),
        }

    if train:
        model.train()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6)
    return run, tell


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
    """Run the comparison and write its result files (`--output`, without suffix)."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch-size", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--functions", type=int, default=64)
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--train", action="store_true", help="training steps instead")
    parser.add_argument("--fresh", action="store_true", help="other functions in every round")
    parser.add_argument("--compile", action="store_true", help="torch.compile of some, too")
    parser.add_argument("--rules", action="store_true", help="rules beside the band, too")
    parser.add_argument("--only", nargs="+", help="names of variants; default: all of them")
    parser.add_argument("--output", type=Path, default=RESULTS / "engines-cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    known = VARIANTS + (RULES if arguments.rules else ()) + (COMPILED if arguments.compile else ())
    variants = [v for v in known if not arguments.only or v.name in arguments.only]

    sets = arguments.runs + 1 if arguments.fresh else 1  # one more for the warm-up
    rows, source = load_rows(arguments.functions * sets, arguments.max_length)
    row_sets = [rows[at::sets] for at in range(sets)]
    model = roberta_base().to(arguments.device, getattr(torch, arguments.dtype))
    tables, results = [], []
    for size in arguments.batch_size:
        runs, tells = {}, {}
        for variant in variants:
            runs[variant.name], tells[variant.name] = prepare(
                variant, model, row_sets, size, arguments.train
            )
            runs[variant.name]("")  # warm-up: allocator, kernel caches
        blocks = run_blocks(
            list(runs), lambda name, runs=runs: runs[name](name),
            runs=arguments.runs, min_seconds=0, seed=size,
            on_progress=lambda done, total, text: print(f"\r{done / 10:5.1f} % {text:40}", end=""),
        )  # fmt: skip
        print()
        samples = {name: [block.seconds for block in found] for name, found in blocks.items()}
        told = {name: tell() for name, tell in tells.items()}
        compared = [compare(samples, told, variant.name) for variant in variants]
        results.append({"batch_size": size, "variants": compared})
        tables.append(table(compared, size))
        print(tables[-1])
    document = {
        "benchmark": "engines",
        "data": source,
        "arguments": {k: v for k, v in vars(arguments).items() if k != "output"},
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
