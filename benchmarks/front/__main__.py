"""The command line; see the head of the package."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import benchmarks.front
from alpine_cli.files import write_atomic
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.grid import TRUNCATE, Family
from alpine_cli.measure.grid_options import choose_grid
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.sweep import run_sweep
from alpine_cli.report.front_figure import draw_points
from alpine_cli.report.pictures import slug
from alpine_cli.results import Result
from benchmarks.front.judging import judged, read_again, rows_of
from benchmarks.front.telling import document, drawable

RESULTS = Path(__file__).parents[1] / "results"
_SHARES = (0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5, 0.4)
GRID: tuple[Family, ...] = (
    Family("band", (2.0, 1.5, 1.0, 0.75, 0.5, 0.25), ("odd", "even", "all"), ("mean",)),
    Family("floor", (1.0, 0.75, 0.5, 0.25, 0.1, 0.05), merges=("mean", "nearest")),
    Family("top", _SHARES, merges=("mean", "nearest"), scores=("received", "cls")),
    Family("bipartite", _SHARES[:-1], merges=("nearest",)),
    Family("random", _SHARES),
    Family("first", _SHARES, merges=("none",)),
    Family(
        TRUNCATE,
        (16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448),
        optional=True,
    ),
)


def main() -> None:
    """Run, print, write; see the head of the package."""
    head = (benchmarks.front.__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.front", description=head)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--checkpoint", type=Path, action="append")
    what.add_argument("--again", type=Path, metavar="JSON", help="judge and draw what it holds")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int)
    parser.add_argument("--name", help="of the files; default: task and model")
    parser.add_argument("--rules", help="of the grid, joined by commas; default: all")
    parser.add_argument("--alphas")
    parser.add_argument("--keeps")
    parser.add_argument("--lengths")
    parser.add_argument("--layers", action="append")
    parser.add_argument("--merges")
    parser.add_argument("--scores")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--device")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--time", action="store_true", help="measure throughput of the front")
    parser.add_argument("--energy", action="store_true", help="measure, or model, its energy")
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if asked.again is not None:
        rows, results = read_again(asked.again)
        rows = judged(rows, results)
        command = json.loads(asked.again.read_text("utf-8"))["command"]
        name = asked.again.stem.removeprefix("front-")
    else:
        results = _sweeps(asked)
        rows, command = rows_of(results), command_line(sys.argv)
        name = slug(asked.name or f"{results[0].subject.task} {asked.checkpoint[0].stem}")
    text, subject = document(name, rows, results), results[0].subject
    stem = asked.output / f"front-{name}"
    kept: dict[str, Any] = {
        "command": command,
        "rows": [asdict(row) for row in rows],
        # Figures follow from predictions and rows; a hundred settings of them would be megabytes.
        "results": [
            result.model_dump(mode="json", exclude={"figures", "comparisons", "series"})
            for result in results
        ],
    }
    write_atomic(stem.with_suffix(".json"), json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
    write_atomic(stem.with_suffix(".md"), text)
    draw_points(
        drawable(rows, results[0]), stem, f"{name}: {subject.samples:,} samples of {subject.data}"
    )
    print(text)


def _sweeps(asked: argparse.Namespace) -> list[Result]:
    """A sweep per checkpoint."""
    parts = ("rules", "alphas", "keeps", "lengths", "layers", "merges", "scores")
    grid = choose_grid(GRID, **{name: getattr(asked, name) for name in parts})
    results = []
    for place, checkpoint in enumerate(asked.checkpoint):
        options = MeasureOptions(
            checkpoint=checkpoint,
            data=asked.data,
            split=asked.split,
            limit=asked.limit,
            batch_size=asked.batch_size,
            device=asked.device,
            threads=asked.threads,
            runs=asked.runs,
            min_seconds=5.0,
            seed=asked.seed,
        )
        results.append(
            run_sweep(
                options,
                grid,
                asked.output,
                time=asked.time and place == 0,
                energy=asked.energy and place == 0,
                on_progress=_progress,
                on_planned=lambda text: print(text, file=sys.stderr),
            )
        )
    return results


def _progress(done: int, total: int, text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{done}/{total} {text:<60}", end="", file=sys.stderr)


if __name__ == "__main__":
    main()
