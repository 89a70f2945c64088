"""Code text to token ids, as the task and the model want it.

    plain        <s> code </s>
    mode prefix  <s> <encoder-only> </s> code </s>        (UniXcoder)
    data flow    <s> code </s> node … node                (GraphCodeBERT; see `graph`)

Code is cut, never the special tokens: of a long function the first `max_length - specials` tokens
stay. White space is collapsed beforehand, as CodeXGLUE's scripts do, unless told otherwise. Text
that spells a special token ("</s>" in a string literal) is read as that token, which is what
the tokenizers of transformers do and what published models were trained with. No torch here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from alpine_cli.errors import DataError, ModelError
from alpine_cli.tasks.data import Sample
from alpine_cli.tasks.graph import RowGraph, read_graph_rows
from alpine_cli.tasks.registry import resolve_task

__all__ = [
    "MODE_TOKEN",
    "EncodedSplit",
    "EncodingSpec",
    "cut",
    "encode",
    "plain_tokens",
    "special_ids",
]

MODE_TOKEN = "<encoder-only>"
"""UniXcoder's switch for its encoder; only its vocabulary holds it."""

_TEXTS_AT_ONCE = 512


@dataclass(frozen=True)
class EncodingSpec:
    """How text becomes token ids. Saved with a checkpoint, so that it never has to be guessed.

    Attributes:
        task: name of the task; says how many functions a sample has.
        max_length: tokens of one function at most, special tokens included.
        mode_prefix: put UniXcoder's `<encoder-only> </s>` in front.
        collapse_whitespace: replace every run of white space by one blank before tokenising.
        data_flow: the language whose data flow is read with the code; None: code only.
        data_flow_length: room for nodes of the data flow besides `max_length`.
    """

    task: str
    max_length: int = 512
    mode_prefix: bool = False
    collapse_whitespace: bool = True
    data_flow: str | None = None
    data_flow_length: int = 128

    @property
    def specials(self) -> int:
        """How many tokens of each function are special ones; see `special_ids`."""
        return 4 if self.mode_prefix else 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values only; nothing of data flow where none is read, as in older files."""
        values = asdict(self)
        if self.data_flow is None:
            del values["data_flow"], values["data_flow_length"]
        return values

    @classmethod
    def from_dict(cls, mapping: dict[str, Any]) -> EncodingSpec:
        """Inverse of `to_dict`."""
        return cls(**mapping)


@dataclass(frozen=True)
class EncodedSplit:
    """Token ids of a split; also a map-style dataset whose items a `Collator` puts together.

    Attributes:
        rows: per sample, one list of token ids per function. Lists may be shared between samples;
            do not change them.
        labels: per sample, 0 or 1.
        ids: per sample, what the data calls it.
        truncated: how many functions were cut, of the whole split.
        graphs: per sample, the graph of each row; None for code without data flow. Rows then hold
            nodes behind the code.
    """

    rows: list[tuple[list[int], ...]]
    labels: list[int]
    ids: list[str]
    truncated: int = 0
    graphs: list[tuple[RowGraph, ...]] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        item = {"rows": self.rows[index], "label": self.labels[index], "index": index}
        return item if self.graphs is None else {**item, "graphs": self.graphs[index]}

    def take(self, indices: Sequence[int]) -> EncodedSplit:
        """Some of the samples, in the order given."""
        return EncodedSplit(
            rows=[self.rows[i] for i in indices],
            labels=[self.labels[i] for i in indices],
            ids=[self.ids[i] for i in indices],
            truncated=self.truncated,
            graphs=None if self.graphs is None else [self.graphs[i] for i in indices],
        )

    def content(self) -> list[Any]:
        """All that a model gets to see, as plain values: what a digest rests on."""
        if self.graphs is None:
            return [self.rows, self.labels]
        graphs = [[graph.to_dict() for graph in graphs] for graphs in self.graphs]
        return [self.rows, self.labels, graphs]

    @property
    def functions(self) -> int:
        """Functions (rows) of a sample; all samples of a task have equally many."""
        return len(self.rows[0]) if self.rows else 1

    def length(self, index: int) -> int:
        """Tokens of sample `index`, over all its functions."""
        return sum(len(row) for row in self.rows[index])

    def longest_row(self, index: int) -> int:
        """Tokens of the longest function of sample `index`: what padding is paid for."""
        return max(len(row) for row in self.rows[index])


def special_ids(tokenizer: Any, mode_prefix: bool) -> tuple[list[int], list[int]]:
    """Token ids put before and after the code.

    Raises:
        ModelError: the tokenizer has no first or last special token, or no mode token.
    """
    first = _first_not_none(tokenizer.cls_token_id, tokenizer.bos_token_id)
    last = _first_not_none(tokenizer.sep_token_id, tokenizer.eos_token_id)
    if first is None or last is None:
        raise ModelError(
            f"the tokenizer {type(tokenizer).__name__} has no first or last special token "
            "(cls/bos, sep/eos), which the classification heads need"
        )
    if not mode_prefix:
        return [first], [last]
    if MODE_TOKEN not in tokenizer.get_vocab():
        raise ModelError(
            f"the mode prefix was asked for, but the vocabulary has no {MODE_TOKEN}: this is no "
            "UniXcoder; set mode_prefix to false"
        )
    return [first, tokenizer.convert_tokens_to_ids(MODE_TOKEN), last], [last]


def encode(samples: Sequence[Sample], tokenizer: Any, spec: EncodingSpec) -> EncodedSplit:
    """Tokenise samples. A text that occurs many times (as in pairs) is tokenised once.

    Args:
        samples: what `load_splits` returned.
        tokenizer: a fast tokenizer of transformers.
        spec: how to encode.

    Raises:
        DataError: a function has no token besides the special ones; names file and line.
        ModelError: the tokenizer lacks the special tokens needed.
        ConfigError: data flow is asked for, but its parser is not installed.
        ValueError: `max_length` leaves no room for code, or a sample has the wrong number of
            functions for the task.
    """
    prefix, suffix = special_ids(tokenizer, spec.mode_prefix)
    room = spec.max_length - len(prefix) - len(suffix)
    if room < 1:
        raise ValueError(
            f"max_length ({spec.max_length}) must be greater than the number of special tokens "
            f"({len(prefix) + len(suffix)})"
        )
    expected = resolve_task(spec.task).functions_per_sample
    texts = list(dict.fromkeys(text for sample in samples for text in sample.code))
    # Samples that share a function share its list of ids: BigCloneBench has 1.7 million places
    # for 9,134 functions.
    if spec.data_flow is None:
        ids_of_text = _tokenise(texts, tokenizer, spec.collapse_whitespace)
        row_of_text = {
            text: [*prefix, *ids[:room], *suffix] if ids else []
            for text, ids in ids_of_text.items()
        }
        shortened = {text for text, ids in ids_of_text.items() if len(ids) > room}
        graph_of_text = None
    else:
        row_of_text, graph_of_text, shortened = _with_data_flow(texts, tokenizer, spec)
    rows: list[tuple[list[int], ...]] = []
    truncated = 0
    for sample in samples:
        if len(sample.code) != expected:
            raise ValueError(f"{spec.task} takes {expected} functions, not {len(sample.code)}")
        if not all(row_of_text[text] for text in sample.code):
            raise DataError(
                f"{sample.where or sample.id}: a function has no tokens; remove the sample"
            )
        rows.append(tuple(row_of_text[text] for text in sample.code))
        truncated += sum(text in shortened for text in sample.code)
    graphs = None
    if graph_of_text is not None:
        graphs = [tuple(graph_of_text[text] for text in sample.code) for sample in samples]
    return EncodedSplit(
        rows=rows,
        labels=[sample.label for sample in samples],
        ids=[sample.id for sample in samples],
        truncated=truncated,
        graphs=graphs,
    )


def cut(split: EncodedSplit, max_length: int) -> EncodedSplit:
    """What `encode` gives with a smaller `max_length`, without tokenising again.

    Args:
        split: as `encode` returned it.
        max_length: tokens of one function at most; above the number of special tokens.

    Raises:
        ValueError: the rows hold data flow, which would have to be found anew.
    """
    if split.graphs is not None:
        raise ValueError("rows with data flow cannot be cut; encode them with another max_length")
    # As `encode` does: the code is cut, the last special token stays; shared rows stay shared.
    shorter = {
        id(row): row if len(row) <= max_length else [*row[: max_length - 1], row[-1]]
        for rows in split.rows
        for row in rows
    }
    rows = [tuple(shorter[id(row)] for row in sample) for sample in split.rows]
    truncated = sum(len(row) > max_length for sample in split.rows for row in sample)
    return replace(split, rows=rows, truncated=max(truncated, split.truncated))


def _with_data_flow(
    texts: Sequence[str], tokenizer: Any, spec: EncodingSpec
) -> tuple[dict[str, list[int]], dict[str, RowGraph], set[str]]:
    """By text, its row (empty without code) and graph; and the texts that were cut."""
    rows: dict[str, list[int]] = {}
    graphs: dict[str, RowGraph] = {}
    shortened: set[str] = set()
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        portion = texts[start : start + _TEXTS_AT_ONCE]
        for text, row in zip(portion, read_graph_rows(portion, tokenizer, spec), strict=True):
            rows[text], graphs[text] = row.ids, row.graph
            if row.tokens_cut:
                shortened.add(text)
    return rows, graphs, shortened


def _tokenise(
    texts: Sequence[str], tokenizer: Any, collapse_whitespace: bool
) -> dict[str, list[int]]:
    ids_of_text: dict[str, list[int]] = {}
    # In portions: the Rust encodings of all texts at once would take many times the ids' memory.
    for start in range(0, len(texts), _TEXTS_AT_ONCE):
        portion = texts[start : start + _TEXTS_AT_ONCE]
        encoded = plain_tokens(
            [" ".join(text.split()) for text in portion] if collapse_whitespace else portion,
            tokenizer,
        )
        ids_of_text.update(zip(portion, encoded["input_ids"], strict=True))
    return ids_of_text


def plain_tokens(texts: Sequence[str], tokenizer: Any, *, offsets: bool = False) -> Any:
    """All tokens of each text, without special ones: `input_ids`, and `offset_mapping` if asked."""
    return tokenizer(
        list(texts),
        add_special_tokens=False,
        truncation=False,
        padding=False,
        return_offsets_mapping=offsets,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )


def _first_not_none(*values: int | None) -> int | None:
    return next((value for value in values if value is not None), None)
