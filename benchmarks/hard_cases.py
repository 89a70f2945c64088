"""Data on which rules may fail: few tokens that matter, unseen projects, distractions, long inputs.

    python -m benchmarks.hard_cases defects runs/hard --seeds 1 2 3
    python -m benchmarks.hard_cases distract ../shared/data/bcb runs/distracted --words 64
    python -m benchmarks.hard_cases long ../shared/data/bcb runs/long --words 200

`defects` writes what `alpine demo` trains on (real functions of Python's standard library, half of
them with one injected bug: the label hangs on one to five tokens), a tokenizer and an untrained
small RoBERTa, and beside them `unseen`: the same bugs injected into functions of other projects,
packages that are installed with alpine, so a test of what was learnt on code of another house.

`distract` copies a clone-detection data set and puts dead code into every function of it: a block
`if (false) { … }` behind the first brace (`--place front`) or before the last (`--place back`),
filled with statements of another function, of about so many words. A reader that trusts the place
of a token (truncation) loses what stands behind the block; one that trusts attention may follow it.

`long` keeps, of each split of such a data set, the pairs of which both functions have at least so
many words.

A word is a name, a number or one other visible character.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import random
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from alpine_cli.demo.corpus import DemoSample, build_corpus
from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model
from alpine_cli.files import write_atomic
from alpine_cli.tasks.reading import read_lines, read_rows

_PACKAGES = ("pandas", "sklearn", "matplotlib")
_STORES, _SPLITS = ("data.jsonl.gz", "data.jsonl"), ("train", "valid", "test")
_WORD = re.compile(r"\w+|[^\w\s]")


def write_defects(folder: Path, seeds: Sequence[int]) -> None:
    """The demo's data and models, `model-seedN` each, and the same task on other projects."""
    corpus, size = build_corpus(), ModelSize()
    corpus.write(folder / "data")
    tokenizer = train_tokenizer((sample.func for sample in corpus.train), size)
    for seed in seeds:
        write_model(folder / f"model-seed{seed}", tokenizer, size, seed)
    known = {sample.func for part in (corpus.train, corpus.valid, corpus.test) for sample in part}
    samples = [sample for sample in unseen(_PACKAGES) if sample.func not in known]
    lines = [json.dumps(asdict(sample)) + "\n" for sample in samples]
    write_atomic(folder / "unseen" / "test.jsonl", "".join(lines))
    counts = {name: len(getattr(corpus, name)) for name in ("train", "valid", "test")}
    print(f"{counts}, unseen: {len(samples)} functions of {', '.join(_PACKAGES)}")


def unseen(packages: Sequence[str]) -> Iterator[DemoSample]:
    """Functions of installed packages, each once, sound and spoilt ones in turns."""
    for package in packages:
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            raise SystemExit(f"{package} is not installed; it comes with alpine's dependencies")
        corpus = build_corpus(Path(spec.origin).parent)
        yield from corpus.valid
        yield from corpus.test
        # the training split holds each function twice, sound and spoilt
        for place in range(0, len(corpus.train), 2):
            yield corpus.train[place + (place // 2) % 2]


def write_distracted(data: Path, folder: Path, words: int, place: str, seed: int) -> None:
    """The data set with a dead block in every function; pairs and labels as they were."""
    functions = _functions(data)
    bodies = [_body(function["func"]) for function in functions]
    draw = random.Random(seed)
    changed = []
    for at, function in enumerate(functions):
        # never its own
        other = bodies[(at + 1 + draw.randrange(len(bodies) - 1)) % len(bodies)]
        changed.append({**function, "func": distracted(function["func"], other, words, place)})
    _write(folder, changed)
    for split in _SPLITS:
        shutil.copyfile(data / f"{split}.txt", folder / f"{split}.txt")
    print(f"{len(changed)} functions, {words} words of dead code each, {place}")


def write_long(data: Path, folder: Path, words: int) -> None:
    """The pairs of two functions of at least `words` words; functions as they were."""
    functions = _functions(data)
    enough = {str(row["idx"]) for row in functions if len(_WORD.findall(row["func"])) >= words}
    _write(folder, [row for row in functions if str(row["idx"]) in enough])
    for split in _SPLITS:
        pairs = [line for _, line in read_lines(data / f"{split}.txt") if line.strip()]
        kept = [line for line in pairs if enough.issuperset(line.split()[:2])]
        write_atomic(folder / f"{split}.txt", "".join(kept))
        print(f"{split}: {len(kept)} of {len(pairs)} pairs")


def _functions(data: Path) -> list[dict[str, Any]]:
    found = [path for name in _STORES if (path := data / name).exists()]
    if not found:
        raise SystemExit(
            f"{data} holds none of {', '.join(_STORES)}; give a clone-detection folder"
        )
    return [dict(row) for _, row in read_rows(found[0])]


def _write(folder: Path, functions: Sequence[Mapping[str, Any]]) -> None:
    folder.mkdir(parents=True)
    with gzip.open(folder / "data.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(function) + "\n" for function in functions)


def distracted(source: str, other: str, words: int, place: str) -> str:
    """`source` with `if (false) { … }` holding the first `words` words of `other`."""
    block = f" if (false) {{ {_first_words(other, words)} }} "
    at = source.find("{") + 1 if place == "front" else source.rfind("}")
    if at <= 0:
        return source
    return source[:at] + block + source[at:]


def _body(source: str) -> str:
    first, last = source.find("{"), source.rfind("}")
    return source[first + 1 : last] if 0 <= first < last else source


def _first_words(text: str, count: int) -> str:
    """The text up to its `count`-th word, with braces closed that are open there."""
    words = list(_WORD.finditer(text))
    cut = text[: words[count - 1].end()] if len(words) > count else text
    return cut + " }" * max(0, cut.count("{") - cut.count("}"))


def main() -> None:
    """See the head of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    kinds = parser.add_subparsers(dest="kind", required=True)
    defects = kinds.add_parser("defects")
    defects.add_argument("output", type=Path)
    defects.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    distract = kinds.add_parser("distract")
    distract.add_argument("data", type=Path)
    distract.add_argument("output", type=Path)
    distract.add_argument("--words", type=int, default=64)
    distract.add_argument("--place", choices=["front", "back"], default="front")
    distract.add_argument("--seed", type=int, default=0)
    long = kinds.add_parser("long")
    long.add_argument("data", type=Path)
    long.add_argument("output", type=Path)
    long.add_argument("--words", type=int, default=200)
    asked = parser.parse_args()
    if asked.output.exists():
        raise SystemExit(f"{asked.output} exists; choose another folder")
    if asked.kind == "defects":
        write_defects(asked.output, asked.seeds)
    elif asked.kind == "long":
        write_long(asked.data, asked.output, asked.words)
    else:
        write_distracted(asked.data, asked.output, asked.words, asked.place, asked.seed)


if __name__ == "__main__":
    main()
