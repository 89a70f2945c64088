"""How rarely rounding decides a plan: the same functions in other batches and other engines.

    python -m benchmarks.plan_flips --checkpoint clone.pt --data DIR --functions 512

Scores are float32 sums whose last bits depend on batch shapes and engines. A token whose score
lies that close to a threshold may stay in one run and go in another; from there on the sample
differs. Counted here, on trained weights: samples whose kept positions differ anywhere.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path
from typing import Any

import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.files import write_atomic
from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.tasks import load_splits, resolve_task
from alpine_cli.tasks.encoding import EncodingSpec, encode
from benchmarks.workload import pad_batch

WAYS = (
    ("packed", 1),
    ("packed", 8),
    ("packed", 32),
    ("padded", 8),
    ("padded", 32),
    ("reference", 8),
)


@torch.inference_mode()
def kept_positions(
    encoder: Any, rows: list[list[int]], engine: str, batch_size: int, pad_id: int, alpha: float
) -> list[list[tuple[int, ...]]]:
    """For every row, the input positions that each layer kept."""
    prune(encoder, PruningConfig("all", alpha=alpha, engine=engine))  # type: ignore[arg-type]
    kept: list[list[tuple[int, ...]]] = []
    for start in range(0, len(rows), batch_size):
        with trace(encoder) as recorded:
            encoder(**pad_batch(rows[start : start + batch_size], pad_id))
        layers = recorded.calls[0].layers
        kept += [[layer.samples[b].kept for layer in layers] for b in range(len(layers[0].samples))]
    return kept


def main() -> None:
    """Count the differing samples for every pair of ways, and write `results/plan-flips.json`."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--functions", type=int, default=512)
    parser.add_argument("--alpha", type=float, default=1.0)
    default = Path(__file__).parent / "results" / "plan-flips.json"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.checkpoint)
    model, tokenizer = checkpoint.build()
    task = resolve_task(checkpoint.task)
    samples = load_splits(task, arguments.data).require("test").samples
    encoded = encode(samples, tokenizer, EncodingSpec(**checkpoint.encoding))
    rows = [list(row) for sample in encoded.rows for row in sample]
    rows = [list(row) for row in dict.fromkeys(map(tuple, rows))][: arguments.functions]

    pad_id = int(tokenizer.pad_token_id)
    plans = {
        way: kept_positions(model.encoder, rows, *way, pad_id, arguments.alpha) for way in WAYS
    }
    pairs = []
    for one, other in itertools.combinations(WAYS, 2):
        differ = sum(a != b for a, b in zip(plans[one], plans[other], strict=True))
        pairs.append({"one": one, "other": other, "functions_that_differ": differ})
        print(f"{one} against {other}: {differ} of {len(rows)} functions differ")
    decisions = sum(len(layer) for kept in plans["packed", 1] for layer in kept)
    document = {
        "benchmark": "plan-flips",
        "alpha": arguments.alpha,
        "functions": len(rows),
        "tokens_kept_over_all_layers": decisions,
        "pairs": pairs,
    }
    write_atomic(arguments.output, json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
