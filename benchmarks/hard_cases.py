"""Data on which rules may fail: labels that hang on a few tokens, unseen projects, distractions.

    python -m benchmarks.hard_cases defects runs/hard --seeds 1 2 3
    python -m benchmarks.hard_cases distract ../shared/data/bcb runs/distracted --tokens 64

`defects` writes what `alpine demo` trains on (real functions of Python's standard library, half of
them with one injected bug: the label hangs on one to five tokens), a tokenizer and an untrained
small RoBERTa, and beside them `unseen`: the same bugs injected into functions of other projects,
packages that are installed with alpine, so a test of what was learnt on code of another house.

`distract` copies a clone-detection data set and puts dead code into every function of it: a block
`if (false) { … }` behind the first brace (`--place front`) or before the last (`--place back`),
filled with statements of another function, of about so many words. A reader that trusts the place
of a token (truncation) loses what stands behind the block; one that trusts attention may follow it.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from alpine_cli.demo.corpus import DemoSample, build_corpus
from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model
from alpine_cli.files import write_atomic

_PACKAGES = ("pandas", "sklearn", "matplotlib")
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
    with gzip.open(data / "data.jsonl.gz", "rt", encoding="utf-8") as lines:
        functions = [json.loads(line) for line in lines]
    bodies = [_body(function["func"]) for function in functions]
    draw = random.Random(seed)
    changed = []
    for at, function in enumerate(functions):
        # never its own
        other = bodies[(at + 1 + draw.randrange(len(bodies) - 1)) % len(bodies)]
        changed.append({**function, "func": distracted(function["func"], other, words, place)})
    folder.mkdir(parents=True)
    with gzip.open(folder / "data.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(function) + "\n" for function in changed)
    for split in ("train", "valid", "test"):
        shutil.copyfile(data / f"{split}.txt", folder / f"{split}.txt")
    print(f"{len(changed)} functions, {words} words of dead code each, {place}")


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
    distract.add_argument("--tokens", type=int, default=64)
    distract.add_argument("--place", choices=["front", "back"], default="front")
    distract.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    if asked.output.exists():
        raise SystemExit(f"{asked.output} exists; choose another folder")
    if asked.kind == "defects":
        write_defects(asked.output, asked.seeds)
    else:
        write_distracted(asked.data, asked.output, asked.tokens, asked.place, asked.seed)


if __name__ == "__main__":
    main()
