"""How time grows with length, batch size and model size: pruned, unpruned and stock, side by side.

    python -m benchmarks.scaling --output benchmarks/results/scaling-cpu

Random token ids (lengths are the subject, not the words), random weights, the published shares of
tokens (CodeBERT, layers all; see `published_shares`), float32 unless told otherwise. Three sweeps:

    length      one sequence of 64 … 8192 tokens, a narrow encoder (d = 384, 12 layers)
    batch       1 … 256 sequences of 128 tokens at most, the same encoder
    model       8 sequences of 256 tokens at most; d = 128 … 1024

Per point: seconds of one forward pass of each variant, variants taking turns, and multiply-adds.
Everything but attention is linear in tokens. To show it, one more variant runs the packed engine
with attention left out: its time per token is flat where the engine wastes nothing, and what the
full engine takes above it is attention.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import RobertaConfig, RobertaModel

from alpine_cli.files import write_atomic
from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.environment import describe_environment
from alpine_cli.report.drawing import BLUE, GREEN, GREY, ORANGE, drawn
from benchmarks.variants import Contestant, Variant, ratio, shown_ratio

_REST = "packed, attention left out"
RESULTS = Path(__file__).parent / "results"
VARIANTS = (
    Variant("stock bucketed", None, bucketed=True),
    Variant("packed, none", "packed"),
    Variant("packed, all", "packed", "all"),
    Variant(_REST, "packed", attends=False),
)


@dataclass(frozen=True)
class Point:
    """One measurement: what was varied, and the whole shape."""

    sweep: str
    batch: int
    longest: int
    hidden: int
    layers: int


def points(longest: int, largest_batch: int) -> list[Point]:
    """All points up to a length and a batch size."""
    lengths = [64 * 2**k for k in range(8) if 64 * 2**k <= longest]
    sizes = [4**k for k in range(5) if 4**k <= largest_batch]
    return [
        *[Point("length", 1, length, 384, 12) for length in lengths],
        *[Point("batch", size, 128, 384, 12) for size in sizes],
        *[Point("model", 8, 256, hidden, 12) for hidden in (128, 256, 512, 768, 1024)],
    ]


def encoder(point: Point) -> RobertaModel:
    """A RoBERTa of the point's size with random weights."""
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=1000,
        hidden_size=point.hidden,
        num_hidden_layers=point.layers,
        num_attention_heads=point.hidden // 64,
        intermediate_size=4 * point.hidden,
        max_position_embeddings=point.longest + 2,
        type_vocab_size=1,
        pad_token_id=1,
    )
    return RobertaModel(config, add_pooling_layer=False).eval()


def sequences(point: Point) -> list[list[int]]:
    """Lengths evenly spread between half the longest and the longest; ids at random."""
    generator = torch.Generator().manual_seed(0)
    low = point.longest if point.batch == 1 else point.longest // 2
    lengths = torch.linspace(low, point.longest, point.batch).long().tolist()
    return [torch.randint(5, 1000, (n,), generator=generator).tolist() for n in lengths]


def measure(point: Point, runs: int, device: str, dtype: str) -> dict[str, Any]:
    """One row: seconds and multiply-adds of every variant, and their ratios."""
    model = encoder(point)
    torch.nn.Module.to(model, device, getattr(torch, dtype))  # transformers' own is typed wrongly
    rows = sequences(point)
    ready = {v.name: Contestant(v, model, [rows], point.batch) for v in VARIANTS}
    for contestant in ready.values():
        contestant.warm_up()
    blocks = run_blocks(
        list(ready), lambda name: ready[name].round(), runs=runs, min_seconds=0.2, seed=0
    )
    seconds = {name: [block.seconds for block in found] for name, found in blocks.items()}
    told = {name: contestant.tell() for name, contestant in ready.items()}
    row: dict[str, Any] = asdict(point) | {"tokens": sum(map(len, rows)), "variants": {}}
    for name in ready:
        row["variants"][name] = {
            "seconds": seconds[name],
            "macs": told[name]["gmacs_per_function"] * 1e9 * len(rows),
        }
    for name, to in (("packed, all", "packed, none"), ("packed, none", "stock bucketed")):
        row[f"{name} / {to}"] = ratio(seconds[name], seconds[to])
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown, a table per sweep."""
    lines = []
    for sweep in ("length", "batch", "model"):
        lines += [
            f"### {sweep}",
            "",
            "| batch | longest | d | tokens | stock ms | packed ms | pruned ms | pruned ÷ packed"
            " (95 % CI) | packed ÷ stock (95 % CI) | packed µs per token |"
            " the same without attention |",
            "|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        ]
        for row in rows:
            if row["sweep"] != sweep:
                continue
            mean = {
                name: sum(found["seconds"]) / len(found["seconds"]) * 1000
                for name, found in row["variants"].items()
            }
            lines.append(
                f"| {row['batch']} | {row['longest']} | {row['hidden']} | {row['tokens']} |"
                f" {mean['stock bucketed']:.1f} | {mean['packed, none']:.1f} |"
                f" {mean['packed, all']:.1f} | {shown_ratio(row['packed, all / packed, none'])} |"
                f" {shown_ratio(row['packed, none / stock bucketed'])} |"
                f" {mean['packed, none'] * 1e3 / row['tokens']:.1f} |"
                f" {mean[_REST] * 1e3 / row['tokens']:.1f} |"
            )
        lines.append("")
    return "\n".join(lines)


_LINES = {
    "stock bucketed": ("transformers, SDPA", GREY, "s"),
    "packed, none": ("packed, unpruned", BLUE, "o"),
    "packed, all": ("packed, pruned (all layers)", ORANGE, "D"),
    _REST: ("packed, attention left out", GREEN, "^"),
}
_AXES = {
    "length": ("tokens of one sequence", "longest", "d = 384, batch 1"),
    "batch": ("sequences of 64 to 128 tokens", "batch", "d = 384"),
    "model": ("hidden size d", "hidden", "8 sequences of 128 to 256 tokens"),
}


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time per input token against length, batch and model size; logarithmic axes."""
    with drawn(path, 13, 4.6) as figure:
        for place, (sweep, (label, field, fixed)) in enumerate(_AXES.items()):
            axes = figure.add_subplot(1, 3, place + 1)
            found = [row for row in rows if row["sweep"] == sweep]
            at = [row[field] for row in found]
            for name, (told, colour, marker) in _LINES.items():
                per_token = [
                    1e6 * statistics.mean(row["variants"][name]["seconds"]) / row["tokens"]
                    for row in found
                ]
                axes.plot(at, per_token, color=colour, marker=marker, markersize=5, label=told)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(at, [f"{value:,}" for value in at])
            axes.minorticks_off()
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_xlabel(label)
            axes.grid(axis="y")
            axes.set_title(f"by {sweep}: {fixed}", loc="left", fontsize=10)
            if place == 0:
                axes.set_ylabel("µs per input token")
                axes.legend(loc="upper left")


def main() -> None:
    """Run all sweeps and write the result files."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--longest", type=int, default=8192)
    parser.add_argument("--largest-batch", type=int, default=256)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--output", type=Path, default=RESULTS / "scaling-cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = []
    for point in points(arguments.longest, arguments.largest_batch):
        rows.append(measure(point, arguments.runs, arguments.device, arguments.dtype))
        print(table(rows[-1:]).strip().splitlines()[-1], flush=True)
    document = {
        "benchmark": "scaling",
        "arguments": {k: v for k, v in vars(arguments).items() if k != "output"},
        "environment": describe_environment(threads=arguments.threads, seed=0).model_dump(
            mode="json"
        ),
        "rows": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(arguments.output.with_suffix(".json"), json.dumps(document, indent=1) + "\n")
    write_atomic(arguments.output.with_suffix(".md"), table(rows))
    draw(rows, arguments.output)


if __name__ == "__main__":
    main()
