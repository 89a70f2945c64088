"""Source text → token ids as the model reads them, each with the characters it stands for.

The ids are those of `tasks.encoding.encode`. White space is the delicate part: a model that reads
collapsed white space sees one blank where the source has a line break and an indentation, and a
byte-level token takes the blank before a word along. Here a token stands for its visible
characters only; a token that is nothing but a collapsed blank stands for the last character of
the run it came from.

Where data flow is read, nodes follow the code: they stand for no text of their own, but know the
variable they were identified from. Comments are then no tokens.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from alpine_cli.errors import DataError
from alpine_cli.tasks.encoding import EncodingSpec, plain_tokens, special_ids
from alpine_cli.tasks.graph import RowGraph, read_graph_rows

__all__ = ["ReadSource", "ReadToken", "read_items", "read_source", "read_sources"]

_WORD = re.compile(r"\S+")


@dataclass(frozen=True)
class ReadToken:
    """A token and where it came from.

    Attributes:
        id: in the model's vocabulary.
        text: as the vocabulary spells it, e.g. "Ġint" in byte-level BPE.
        start, end: its characters in the source, [start, end); None for special tokens that stand
            for no text. Byte-level tokens may share characters: one "é" can be two tokens.
        variable: of a node of the data flow, the characters of its variable; else None.
    """

    id: int
    text: str
    start: int | None
    end: int | None
    variable: tuple[int, int] | None = None


@dataclass(frozen=True)
class ReadSource:
    """A function as a model reads it.

    Attributes:
        source: the text.
        tokens: in order, special tokens at their places; no longer than the model reads.
        cut_at: first character that was not read because the text is too long; None: all was read.
        tokens_cut: tokens that were left out with it.
        graph: of code read with its data flow.
    """

    source: str
    tokens: tuple[ReadToken, ...]
    cut_at: int | None
    tokens_cut: int
    graph: RowGraph | None = None

    @property
    def nodes(self) -> int:
        """How many of the tokens are nodes of the data flow."""
        return sum(token.variable is not None for token in self.tokens)

    @property
    def ids(self) -> list[int]:
        """The row that the model gets."""
        return [token.id for token in self.tokens]


def read_source(source: str, tokenizer: Any, spec: EncodingSpec, where: str = "") -> ReadSource:
    """Encode one function, see `read_sources`."""
    return read_sources([source], tokenizer, spec, [where])[0]


def read_sources(
    sources: list[str], tokenizer: Any, spec: EncodingSpec, where: list[str]
) -> list[ReadSource]:
    """Encode functions as `spec` says and find every token's characters.

    Args:
        sources: texts of functions.
        tokenizer: a fast tokenizer of transformers.
        spec: how to encode.
        where: what to call each of them in messages.

    Raises:
        DataError: a function has no token besides the special ones.
        ModelError: the tokenizer lacks the special tokens needed.
    """
    if spec.data_flow is not None:
        return _read_with_data_flow(sources, tokenizer, spec, where)
    prefix, suffix = special_ids(tokenizer, spec.mode_prefix)
    room = spec.max_length - len(prefix) - len(suffix)
    maps = [_collapsed(text) if spec.collapse_whitespace else _as_it_is(text) for text in sources]
    encoded = plain_tokens([text for text, _ in maps], tokenizer, offsets=True)
    found = []
    for number, source in enumerate(sources):
        ids, spans = encoded["input_ids"][number], encoded["offset_mapping"][number]
        if not ids:
            raise DataError(f"{where[number]}: has no tokens; give the text of a function")
        read, origins = maps[number]
        spans = [_in_source(span, origins) for span in _visible(read, spans)]
        words = tokenizer.convert_ids_to_tokens([*prefix, *ids, *suffix])
        code = [
            ReadToken(id, words[len(prefix) + at], *span)
            for at, (id, span) in enumerate(zip(ids, spans, strict=True))
        ]
        ends = words[len(words) - len(suffix) :]
        before = [ReadToken(id, word, None, None) for id, word in zip(prefix, words, strict=False)]
        after = [ReadToken(id, word, None, None) for id, word in zip(suffix, ends, strict=True)]
        found.append(
            ReadSource(
                source,
                (*before, *code[:room], *after),
                cut_at=_cut_at(code[:room], code[room:]),
                tokens_cut=max(0, len(code) - room),
            )
        )
    return found


def _read_with_data_flow(
    sources: list[str], tokenizer: Any, spec: EncodingSpec, where: list[str]
) -> list[ReadSource]:
    found = []
    rows = read_graph_rows(sources, tokenizer, spec)
    for source, row, name in zip(sources, rows, where, strict=True):
        if not row.ids:
            raise DataError(f"{name}: has no tokens; give the text of a function")
        code = row.graph.code
        words = tokenizer.convert_ids_to_tokens(row.ids[:code])
        tokens = [
            ReadToken(id, word, *(span or (None, None)))
            for id, word, span in zip(row.ids, words, row.spans, strict=False)
        ]
        for id, span in zip(row.ids[code:], row.spans[code:], strict=True):
            assert span is not None
            tokens.append(ReadToken(id, f"node {source[slice(*span)]}", None, None, span))
        found.append(ReadSource(source, tuple(tokens), row.cut_at, row.tokens_cut, row.graph))
    return found


def read_items(read: Sequence[ReadSource], index: int = 0) -> dict[str, Any]:
    """Functions as one item for a `Collator`."""
    item: dict[str, Any] = {"rows": tuple(one.ids for one in read), "label": 0, "index": index}
    graphs = tuple(one.graph for one in read if one.graph is not None)
    return {**item, "graphs": graphs} if graphs else item


def _cut_at(read: list[ReadToken], left_out: list[ReadToken]) -> int | None:
    starts = [token.start for token in left_out if token.start is not None]
    if not starts:
        return None
    # A character of several tokens may have been read in part; it counts as read.
    return max(starts[0], *(token.end for token in read[-1:] if token.end is not None), 0)


def _collapsed(source: str) -> tuple[str, list[tuple[int, int]]]:
    """The text as `encode` collapses it, and per character of it the characters it stands for."""
    words: list[str] = []
    origins: list[tuple[int, int]] = []
    for match in _WORD.finditer(source):
        if words:
            origins.append((match.start() - 1, match.start()))
        origins += [(at, at + 1) for at in range(*match.span())]
        words.append(match.group())
    return " ".join(words), origins


def _as_it_is(source: str) -> tuple[str, list[tuple[int, int]]]:
    return source, [(at, at + 1) for at in range(len(source))]


def _visible(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans without the white space before a word; white space alone keeps its place.

    Some tokenizers trim offsets themselves, which leaves a token of white space with an empty
    span behind its character; the gap to the token before says which character it was.
    """
    found, reached = [], 0
    for start, end in spans:
        if reached < start and text[reached:start].isspace():
            start = reached
        while start < end and text[start].isspace() and not text[start:end].isspace():
            start += 1
        found.append((start, end))
        reached = max(reached, end)
    return found


def _in_source(
    span: tuple[int, int], origins: list[tuple[int, int]]
) -> tuple[int, int] | tuple[None, None]:
    start, end = span
    if start >= end:
        return None, None
    return origins[start][0], origins[end - 1][1]
