"""Real code without a data set: the running Python's own standard library, as token ids.

Functions are cut out with `ast` as they stand in the files, comments and docstrings included, and
whitespace is collapsed, as the tasks encode code. The tokenizer is the demo's, trained on these
very functions. Everything follows from the library's files and a seed.
"""

from __future__ import annotations

import ast
import platform
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

from transformers import PreTrainedTokenizerFast

from alpine_cli.demo.corpus import functions_in, source_files, standard_library
from alpine_cli.demo.model import ModelSize, train_tokenizer
from alpine_cli.errors import DataError

__all__ = ["LibraryCode"]

_MIN_LINES = 3
_SPARE = 3  # so many times more functions are read than needed, and drawn from


@dataclass(frozen=True)
class LibraryCode:
    """Functions of the library, and one long row of their tokens for lengths beyond functions.

    Attributes:
        functions: token ids of each, `<s>` and `</s>` included, uncut.
        tokens: of all functions that were read, one after the other, without `<s>` and `</s>`.
        ends: the ids of `<s>` and `</s>`.
        source: what it is, in words.
    """

    functions: list[list[int]]
    tokens: list[int]
    ends: tuple[int, int]
    source: str

    @classmethod
    def read(cls, count: int, vocabulary: int, seed: int = 0) -> LibraryCode:
        """Cut out `count` functions and train a tokenizer of that size on them.

        Raises:
            DataError: the library holds too few functions.
        """
        texts = _functions(_SPARE * count, seed)
        if len(texts) < count:
            raise DataError(
                f"{standard_library()}: {len(texts)} functions, {count} are needed; the benchmark"
                " reads the source files of the standard library"
            )
        tokenizer = train_tokenizer(texts, ModelSize(vocabulary=vocabulary, max_length=1 << 20))
        encoded: list[list[int]] = tokenizer(texts)["input_ids"]
        drawn = random.Random(seed).sample(encoded, count)
        return cls(
            functions=drawn,
            tokens=[token for row in encoded for token in row[1:-1]],
            ends=_ends(tokenizer),
            source=f"standard library of Python {platform.python_version()}: {count} functions"
            f" drawn with seed {seed}, byte-level BPE of {len(tokenizer)} tokens trained on"
            f" {len(texts)} of them",
        )

    def rows(self, count: int, longest: int) -> list[list[int]]:
        """The first `count` functions, cut at `longest` tokens as the tasks cut them."""
        return [self._cut(row, longest) for row in self.functions[:count]]

    def long_rows(self, count: int, longest: int) -> list[list[int]]:
        """Code of lengths evenly spread between half of `longest` and `longest`; one: `longest`.

        Functions stand one after the other in a row, which begins anew where code runs out.
        """
        low = longest if count == 1 else longest // 2
        lengths = [low + round((longest - low) * i / max(1, count - 1)) for i in range(count)]
        stream, rows = _cycle(self.tokens), []
        for length in lengths:
            inner = [next(stream) for _ in range(length - 2)]
            rows.append([self.ends[0], *inner, self.ends[1]])
        return rows

    def _cut(self, row: list[int], longest: int) -> list[int]:
        return row if len(row) <= longest else [*row[: longest - 1], self.ends[1]]


def _ends(tokenizer: PreTrainedTokenizerFast) -> tuple[int, int]:
    return int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)


def _cycle(tokens: list[int]) -> Iterator[int]:
    while True:
        yield from tokens


def _functions(count: int, seed: int) -> list[str]:
    """At most `count` functions of modules in an order drawn with `seed`, whitespace collapsed."""
    library = standard_library()
    found: dict[str, None] = {}  # by text, which drops copies; in order
    paths = list(source_files(library))
    random.Random(seed).shuffle(paths)
    for path in paths:
        for text in _cut_out(path):
            found.setdefault(" ".join(text.split()))
        if len(found) >= count:
            break
    return list(found)[:count]


def _cut_out(path: Path) -> Iterator[str]:
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # templates, other encodings, deliberately broken files
        return
    lines = source.splitlines()
    for function, _ in functions_in(tree):
        end = function.end_lineno or function.lineno
        if end - function.lineno + 1 >= _MIN_LINES:
            yield dedent("\n".join(lines[function.lineno - 1 : end]))
