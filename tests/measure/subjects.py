"""A checkpoint and a data set to measure: tiny, made on the spot, of real shape."""

from __future__ import annotations

import json
import random
from pathlib import Path

from alpine_cli.checkpoint import Checkpoint, save_checkpoint
from alpine_cli.models import build_model
from alpine_cli.tasks.registry import resolve_task

WORDS = ("int", "return", "if", "size", "buffer", "(", ")", "{", "}", ";", "=", "+", "i", "0")


def write_data(folder: Path, samples: int = 24, seed: int = 0) -> Path:
    """A defect-detection test split of functions of very different lengths."""
    draw = random.Random(seed)
    rows = []
    for index in range(samples):
        words = [draw.choice(WORDS) for _ in range(draw.randrange(4, 60))]
        rows.append({"func": " ".join(words), "target": index % 2, "idx": index})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "test.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return folder


def write_checkpoint(
    path: Path,
    model_dir: Path,
    data: Path | None = None,
    *,
    layers: str = "even",
    seed: int = 1,
    max_length: int = 64,
) -> Path:
    """An untrained defect detector with the pruning named."""
    model, tokenizer, encoding = build_model(
        str(model_dir),
        resolve_task("defect-detection"),
        seed=seed,
        max_length=max_length,
        offline=True,
    )
    checkpoint = Checkpoint.from_model(
        model.eval(),
        tokenizer,
        encoding,
        pruning={"layers": layers, "alpha": 1.0},
        run_config={"data": str(data)} if data else {},
        model_name="tiny-roberta",
    )
    save_checkpoint(checkpoint, path)
    return path
