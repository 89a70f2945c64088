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
through torch.compile (inductor; shapes become dynamic where they change). `--train` times training
steps instead (forward, backward, AdamW, dropout on, mean loss over all tokens that are left).
`--dtype bfloat16` runs in half precision, and `--fresh` gives every round functions of its own, so
that lengths and token counts are ones no kernel was built for.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from alpine_cli.files import write_atomic
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.environment import describe_environment
from alpine_cli.pruning import PruningConfig
from benchmarks.variants import Contestant, Mode, Round, Variant, compare, shown_ratio
from benchmarks.workload import load_rows, roberta_base

RESULTS = Path(__file__).parent / "results"


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
    Variant(f"packed, {name}", "packed", "all", rule=rule)
    for name, rule in {
        "top 75% nearest": PruningConfig("all", keep=_QUARTER, rule="top", merge="nearest"),
        "top 75% mean": PruningConfig("all", keep=_QUARTER, rule="top"),
        "bipartite 75%": PruningConfig("all", keep=_QUARTER, rule="bipartite", merge="nearest"),
        "random 75% mean": PruningConfig("all", keep=_QUARTER, rule="random"),
    }.items()
)
COMPILED = (
    Variant("stock compiled", None, bucketed=True, compiled=True),
    Variant("packed compiled, none", "packed", compiled=True),
    Variant("packed compiled, all", "packed", "all", compiled=True),
)


def _round(ready: Mapping[str, Contestant], name: str) -> Round:
    return ready[name].round()


def table(rows: list[dict[str, Any]], batch_size: int) -> str:
    """The rows in Markdown."""

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
            f" {shown_ratio(row.get('time_ratio_to_own_unpruned'))} | {saved} | {efficiency} |"
            f" {shown_ratio(row['speedup_over_stock_bucketed'])} |"
            f" {shown_ratio(row['speedup_over_stock_padded'])} |"
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
    mode = Mode(train=arguments.train)
    tables, results = [], []
    for size in arguments.batch_size:
        ready = {v.name: Contestant(v, model, row_sets, size, mode) for v in variants}
        for contestant in ready.values():
            contestant.warm_up()
        blocks = run_blocks(
            list(ready), partial(_round, ready),
            runs=arguments.runs, min_seconds=0, seed=size,
            on_progress=lambda done, total, text: print(f"\r{done / 10:5.1f} % {text:40}", end=""),
        )  # fmt: skip
        print()
        samples = {name: [block.seconds for block in found] for name, found in blocks.items()}
        told = {name: contestant.tell() for name, contestant in ready.items()}
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
