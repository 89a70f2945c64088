"""Costs and accuracy of pruning that acts on learned attention: trained on the spot, then measured.

    python -m benchmarks.cuda.learned                                # within ten minutes on a GPU
    python -m benchmarks.cuda.learned --layers none all --epochs 6
    python -m benchmarks.cuda.learned --device cpu --small --output trial

An encoder of RoBERTa-base's size is trained from scratch, once per setting, on the demo's task: is
there a bug in this function of Python's standard library? (`alpine_cli.demo.corpus`; the split is
by module.) Training is `alpine finetune`'s: bfloat16 autocast, AdamW, best epoch by validation,
test touched once. Then all trained models take turns on the test functions in bfloat16: inference,
training steps (this model has no dropout), memory, energy. So the shares of tokens that stay are
what each setting makes of attention that it was trained with, not published numbers.

Never run at this size. On a CPU twelve layers of d = 128, unpruned, stood at chance for some 400
steps of 8 functions (lr 3e-4, 2,882 functions of at most 360 characters) and reached 77 % of 145
validation functions after 722: the start leaves the plateau there, which is no promise for d = 768.

An accuracy whose interval reaches down to the commoner label's share proves nothing, and the
result says so. Writes OUTPUT.json and OUTPUT.md; what is not reached in the time is named.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from alpine_cli.demo.corpus import Corpus, build_corpus, standard_library
from alpine_cli.errors import AlpineError
from alpine_cli.files import write_atomic
from alpine_cli.measure.environment import describe_environment
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.presets import PRESETS, preset
from benchmarks.cuda.budget import Budget
from benchmarks.cuda.code import LibraryCode
from benchmarks.cuda.costs import (
    RESULTS,
    describe_device,
    find_device,
    output_files,
    watched,
)
from benchmarks.cuda.learned_tables import markdown
from benchmarks.cuda.trained import BASE, SMALL, TrainedModels, majority
from benchmarks.cuda.workbench import Workbench

__all__ = ["main"]

LAYERS = ("none", "even", "all", "alpine-plus")
_WEIGHTS = {
    "training": 70.0,
    "inference": 8.0,
    "training steps": 8.0,
    "memory": 4.0,
    "energy": 10.0,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, measure, write the result files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"],
                        help="CUDA_VISIBLE_DEVICES picks one of several GPUs")  # fmt: skip
    parser.add_argument("--small", action="store_true", help="tiny sizes: does the script run?")
    parser.add_argument("--layers", nargs="+", default=list(LAYERS),
                        help=f"settings: layers, or {', '.join(PRESETS)}")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, help="peak learning rate")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=9.0,
                        help="for all but imports and what the last cell overruns")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS / "cuda-learned",
                        help="of the result files, without suffix")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace earlier result files")
    asked = parser.parse_args(arguments)
    budget = Budget(60 * asked.minutes, _WEIGHTS)
    try:
        _run(asked, budget)
    except AlpineError as error:
        raise SystemExit(f"error: {error}") from error


def pruning_of(setting: str) -> PruningConfig:
    """A preset of that name, or the published rule in these layers.

    Raises:
        PruningError: neither.
    """
    return preset(setting) if setting in PRESETS else PruningConfig(setting)


def _run(asked: argparse.Namespace, budget: Budget) -> None:
    files = output_files(asked.output, asked.force)
    sizes, device = SMALL if asked.small else BASE, find_device(asked.device, asked.small)
    settings = {name: pruning_of(name) for name in asked.layers}
    for pruning in settings.values():
        pruning.resolve(sizes.model.layers)
    library = standard_library() / sizes.library
    corpus = build_corpus(library, max_chars=sizes.max_chars, limit=sizes.functions)
    document: dict[str, Any] = {
        "benchmark": "cuda-learned",
        "small": asked.small,
        "minutes": asked.minutes,
        "epochs": asked.epochs,
        "lr": asked.lr or sizes.lr,
        "device": describe_device(device),
        "environment": describe_environment(
            threads=torch.get_num_threads(), seed=asked.seed
        ).model_dump(mode="json"),
        "data": _described(corpus),
        "majority": majority(corpus),
        "sections": {},
    }

    def keep() -> None:
        write_atomic(files[0], json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        write_atomic(files[1], markdown(document))

    with tempfile.TemporaryDirectory(prefix="alpine-learned-") as folder:
        work = TrainedModels(Path(folder), sizes, settings, corpus, asked)
        empty = LibraryCode([], [], (0, 2), document["data"])
        bench = Workbench(device, asked.small, empty, lambda text: print(text, flush=True))
        sections = {
            "training": work.train,
            "inference": work.inference,
            "training steps": work.training_steps,
            "memory": work.memory,
            "energy": work.energy,
        }
        for name, section in sections.items():
            allowance = budget.section(name)
            bench.say(f"{name}: {allowance.seconds:.0f} s")
            document["sections"][name] = watched(bench, section, allowance)
            keep()
    print(f"{files[0]}\n{files[1]}")


def _described(corpus: Corpus) -> str:
    counts = ", ".join(
        f"{name} {len(getattr(corpus, name))}" for name in ("train", "valid", "test")
    )
    return f"functions of the standard library, half of them with one injected bug: {counts}"


if __name__ == "__main__":
    main()
