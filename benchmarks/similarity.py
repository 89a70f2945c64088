"""How alike the tokens of a function are, layer by layer: what there is to merge without loss.

    python -m benchmarks.similarity --model 'clone, 3 MB=clone.pt=../shared/data/bcb' \
        --model 'defects=runs/1/ckpt.pt=runs/hard/data' --limit 100

Runs unpruned models over functions of the test split and takes the hidden states where pruning
would (behind attention, before the feed-forward part; special tokens aside). Cosine similarity of

    any two       all pairs of tokens of a function
    most similar  each token and the one most like it

averaged within a function, then over functions, with 95 % intervals over functions (BCa bootstrap).
Each function counts once and is cut where its model cuts it. Where any two tokens point the same
way, what one of them says is said by the others, too.

Writes similarity.json, .md, .png and .svg.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.files import write_atomic
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.statistics import mean_interval
from alpine_cli.report.drawing import BLUE, GREEN, GREY, GRID, ORANGE, SKY, YELLOW, drawn, headline
from alpine_cli.results import Interval
from alpine_cli.show.offsets import ReadSource, read_sources
from alpine_cli.tasks.data import load_splits

RESULTS = Path(__file__).parent / "results"
_COLOURS = (ORANGE, BLUE, GREEN, YELLOW, SKY, GREY)
_MARKERS = "osD^vP"


@dataclass(frozen=True)
class Layer:
    """Similarities in one layer, means over functions with their intervals.

    Attributes:
        any_two, most_similar: see the head of this module.
    """

    any_two: float
    any_two_interval: Interval
    most_similar: float
    most_similar_interval: Interval


@dataclass(frozen=True)
class Subject:
    """One model.

    Attributes:
        name: as asked for.
        functions, tokens: how many were read, special tokens aside.
        layers: from the lowest.
    """

    name: str
    functions: int
    tokens: int
    layers: list[Layer]


def similarities(states_ND: Tensor) -> tuple[float, float]:
    """Mean cosine similarity of any two of N ≥ 2 rows, and of each with the most similar one."""
    units_ND = nn.functional.normalize(states_ND.double(), dim=-1)
    product_NN = units_ND @ units_ND.T
    count = len(product_NN)
    any_two = (product_NN.sum() - product_NN.diagonal().sum()) / (count * (count - 1))
    product_NN.fill_diagonal_(-torch.inf)
    return float(any_two), float(product_NN.max(dim=1).values.mean())


@contextmanager
def attention_outputs(encoder: nn.Module) -> Iterator[list[Tensor]]:
    """Collect (B, L, D) behind each attention block of encoders built as BERT is, in order.

    Raises:
        SystemExit: the encoder is built otherwise.
    """
    found: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
        found.append(output[0] if isinstance(output, tuple) else output)

    blocks = [
        module
        for name, module in encoder.named_modules()
        if name.endswith(".attention") and hasattr(module, "output")
    ]
    if not blocks:
        raise SystemExit(f"{type(encoder).__name__}: only encoders built as BERT is can be read")
    handles = [block.register_forward_hook(keep) for block in blocks]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def measure(name: str, checkpoint: Path, data: Path, limit: int) -> Subject:
    """One model over the functions of `limit` test samples."""
    loaded = load_checkpoint(checkpoint)
    model, tokenizer = loaded.build()
    splits = load_splits(loaded.task, data, limit={"test": limit}, splits=("test",))
    samples = splits.require("test").samples
    texts = list(dict.fromkeys(text for sample in samples for text in sample.code))
    read = read_sources(texts, tokenizer, loaded.encoding_spec, [""] * len(texts))
    rows, tokens = [], 0
    for one in read:
        code = _code(one)
        if len(code) < 2:
            continue
        with torch.inference_mode(), attention_outputs(model.encoder) as states:
            ids = torch.tensor([one.ids])
            model.encoder(**model.encoder_inputs(ids, torch.ones_like(ids)))
        rows.append([similarities(state[0, code]) for state in states])
        tokens += len(code)
    found: NDArray[np.float64] = np.array(rows)  # (functions, layers, 2)
    layers = [
        Layer(*_mean(found[:, at, 0]), *_mean(found[:, at, 1])) for at in range(found.shape[1])
    ]
    return Subject(name, len(rows), tokens, layers)


def _code(read: ReadSource) -> list[int]:
    """Places of the tokens that stand for text."""
    return [at for at, token in enumerate(read.tokens) if token.start is not None]


def _mean(values: NDArray[np.float64]) -> tuple[float, Interval]:
    interval = mean_interval(values.tolist(), unit="function")
    if interval is None:
        raise SystemExit("fewer than five functions; raise --limit")
    return float(values.mean()), interval


def document(subjects: Sequence[Subject]) -> str:
    """The table in Markdown: models by layers."""
    deepest = max(len(one.layers) for one in subjects)
    lines = [
        "# How alike tokens are",
        "",
        "Unpruned models; cosine similarity of hidden states behind attention, where pruning"
        " compares them: of any two tokens of a function, and, in brackets, of each token and the"
        " one most like it. Means over functions; their 95 % intervals are in the .json, none is"
        f" wider than ± {_widest(subjects):.2f}.",
        "",
        f"| model | functions | tokens | {' | '.join(f'layer {at}' for at in range(deepest))} |",
        f"|---|---:|---:|{'---:|' * deepest}",
    ]
    for one in subjects:
        cells = [f"{layer.any_two:.2f} ({layer.most_similar:.2f})" for layer in one.layers]
        cells += [""] * (deepest - len(cells))
        lines.append(f"| {one.name} | {one.functions:,} | {one.tokens:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _widest(subjects: Sequence[Subject]) -> float:
    intervals = [
        interval
        for one in subjects
        for layer in one.layers
        for interval in (layer.any_two_interval, layer.most_similar_interval)
    ]
    return max((interval.high - interval.low) / 2 for interval in intervals)


def draw(subjects: Sequence[Subject], path: Path) -> None:
    """Similarity of any two tokens over depth, a line per model, with its interval."""
    with drawn(path, 7.6, 4.4) as figure:
        axes = figure.add_subplot()
        for one, colour, marker in zip(subjects, _COLOURS, _MARKERS, strict=False):
            depth = [(at + 1) / len(one.layers) for at in range(len(one.layers))]
            intervals = [layer.any_two_interval for layer in one.layers]
            low, high = [each.low for each in intervals], [each.high for each in intervals]
            axes.fill_between(depth, low, high, color=colour, alpha=0.2, linewidth=0)
            values = [layer.any_two for layer in one.layers]
            axes.plot(depth, values, color=colour, marker=marker, markersize=5, label=one.name)
        axes.set_ylim(0, 1.02)
        axes.set_xlim(0, 1.02)
        axes.set_xlabel("depth of the layer, share of the model")
        axes.set_ylabel("cosine similarity of any two tokens")
        axes.grid(color=GRID)
        axes.legend(frameon=False, loc="best")
        shown = f"{sum(one.functions for one in subjects):,} functions; bands: 95 % intervals"
        headline(axes, "Tokens of a function grow alike on their way up", shown)


def _model(text: str) -> tuple[str, Path, Path]:
    name, _, rest = text.partition("=")
    checkpoint, _, data = rest.partition("=")
    if not (name and checkpoint and data):
        raise SystemExit(f"--model: give NAME=CHECKPOINT=DATA (got {text!r})")
    return name, Path(checkpoint), Path(data)


def main() -> None:
    """Run, print, write; see the head of this module."""
    head = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.similarity", description=head)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=CHECKPOINT=DATA")
    parser.add_argument("--limit", type=int, default=100, help="test samples per model")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    subjects = []
    for name, checkpoint, data in map(_model, asked.model):
        subjects.append(measure(name, checkpoint, data, asked.limit))
        print(f"{name}: {subjects[-1].functions} functions", file=sys.stderr)
    text = document(subjects)
    kept = {
        "command": command_line(sys.argv),
        "environment": describe_environment().model_dump(mode="json"),
        "models": [asdict(one) for one in subjects],
    }
    stem = asked.output / "similarity"
    plain = json.dumps(kept, ensure_ascii=False, indent=1, default=Interval.model_dump)
    write_atomic(stem.with_suffix(".json"), f"{plain}\n")
    write_atomic(stem.with_suffix(".md"), text)
    draw(subjects, stem)
    print(text)


if __name__ == "__main__":
    main()
