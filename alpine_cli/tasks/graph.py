"""GraphCodeBERT's input: a function's code, then the variables of its data flow as nodes.

    <s> code tokens </s> node … node        (Guo et al., ICLR 2021, §4.2)

Code tokens are those of the function's terminals joined by blanks, comments left out, as the model
was trained; their positions count from RoBERTa's first on. All nodes have position 0, by which they
are known, and the tokenizer's unknown token for an id: a node's embedding is the mean of those of
the code tokens that it is linked to (`alpine_cli.graph_input`). Who attends to whom (§4.3, eq. 9):

    every code or special token     to all code and special tokens
    the special tokens              to all nodes
    a code token and a node         to each other, where the node was identified from the token
    a node                          to the nodes that its value comes from

So nodes do not attend to special tokens, nor to themselves unless their value does come from
themselves. Code is cut as without data flow; of the nodes, those that lost all their code tokens
go, and then the last ones beyond `max_length + data_flow_length` tokens of code and nodes together.
No torch here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alpine_cli.dataflow import DataFlow, extract_data_flow
from alpine_cli.errors import ModelError

if TYPE_CHECKING:
    from alpine_cli.tasks.encoding import EncodingSpec

__all__ = ["NODE_POSITION", "GraphRow", "RowGraph", "read_graph_rows"]

NODE_POSITION = 0

Span = tuple[int, int]


@dataclass(frozen=True)
class RowGraph:
    """The graph of one row: columns [0, code) hold code and special tokens, nodes follow.

    Attributes:
        prefix, suffix: special tokens before and behind the code.
        code: tokens before the nodes, special ones included.
        links: per node, the columns [start, stop) of the code tokens that it was identified from.
        sources: per node, the nodes that its value comes from.
    """

    prefix: int
    suffix: int
    code: int
    links: tuple[Span, ...]
    sources: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return self.code + len(self.links)

    def positions(self, pad_id: int) -> NDArray[np.int64]:
        """(L,) position ids as RoBERTa counts them: code from `pad_id + 1` on, nodes 0."""
        positions_L = np.full(len(self), NODE_POSITION, dtype=np.int64)
        positions_L[: self.code] = np.arange(pad_id + 1, pad_id + 1 + self.code)
        return positions_L

    def mask(self) -> NDArray[np.bool_]:
        """(L, L), True where the row's token attends to the column's; see the module."""
        code = self.code
        sees_LL = np.zeros((len(self), len(self)), dtype=np.bool_)
        sees_LL[:code, :code] = True
        sees_LL[: self.prefix] = True
        sees_LL[code - self.suffix : code] = True
        for node, ((start, stop), sources) in enumerate(
            zip(self.links, self.sources, strict=True), start=code
        ):
            sees_LL[node, start:stop] = True
            sees_LL[start:stop, node] = True
            sees_LL[node, [code + source for source in sources]] = True
        return sees_LL

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for another process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> RowGraph:
        """Inverse of `to_dict`, from JSON, too."""
        links = tuple((start, stop) for start, stop in values["links"])
        sources = tuple(tuple(found) for found in values["sources"])
        return cls(**{**values, "links": links, "sources": sources})


@dataclass(frozen=True)
class GraphRow:
    """A function as GraphCodeBERT reads it.

    Attributes:
        ids: token ids, nodes included; empty where there is no code.
        graph: which of them are nodes, and what is linked to what.
        spans: per token, its characters in the source; None for special tokens.
        cut_at: first character that was not read; None: all was read.
        tokens_cut: code tokens left out because the function is too long.
        nodes_cut: nodes left out.
    """

    ids: list[int]
    graph: RowGraph
    spans: list[Span | None]
    cut_at: int | None
    tokens_cut: int
    nodes_cut: int


def read_graph_rows(sources: Sequence[str], tokenizer: Any, spec: EncodingSpec) -> list[GraphRow]:
    """Encode functions with their data flow.

    Args:
        sources: texts of functions, in the language `spec.data_flow`.
        tokenizer: a fast tokenizer of transformers.
        spec: how to encode.

    Raises:
        ConfigError: the language is not known, or its parser is not installed.
        ModelError: the tokenizer lacks a special token that is needed.
    """
    from alpine_cli.tasks.encoding import plain_tokens, special_ids

    assert spec.data_flow is not None
    prefix, suffix = special_ids(tokenizer, spec.mode_prefix)
    if tokenizer.unk_token_id is None:
        raise ModelError("data_flow: the tokenizer has no unknown token, which stands for nodes")
    flows = [extract_data_flow(source, spec.data_flow) for source in sources]
    joined = [_join(flow.tokens, spec.collapse_whitespace) for flow in flows]
    encoded = plain_tokens([text for text, _ in joined], tokenizer, offsets=True)
    return [
        _row(flow, starts, ids, offsets, prefix, suffix, tokenizer.unk_token_id, spec)
        for flow, (_, starts), ids, offsets in zip(
            flows, joined, encoded["input_ids"], encoded["offset_mapping"], strict=True
        )
    ]


def _join(tokens: Sequence[str], collapse: bool) -> tuple[str, list[int]]:
    """Terminals with one blank between them, and where each begins."""
    texts = [" ".join(token.split()) for token in tokens] if collapse else list(tokens)
    starts, at = [], 0
    for text in texts:
        starts.append(at)
        at += len(text) + 1
    return " ".join(texts), starts


def _row(
    flow: DataFlow,
    starts: list[int],
    ids: list[int],
    offsets: list[Span],
    prefix: list[int],
    suffix: list[int],
    node_id: int,
    spec: EncodingSpec,
) -> GraphRow:
    room = spec.max_length - len(prefix) - len(suffix)
    kept = ids[:room]
    terminals = [_terminal(offset, starts) for offset in offsets]
    columns: dict[int, Span] = {}  # by terminal, of the code tokens that are read
    for column, terminal in enumerate(terminals[:room], start=len(prefix)):
        first, _ = columns.get(terminal, (column, 0))
        columns[terminal] = (first, column + 1)
    code = len(prefix) + len(kept) + len(suffix)
    budget = spec.max_length + spec.data_flow_length - code
    nodes = [n for n, node in enumerate(flow.nodes) if node.token in columns][:budget]
    place = {node: number for number, node in enumerate(nodes)}
    graph = RowGraph(
        prefix=len(prefix),
        suffix=len(suffix),
        code=code,
        links=tuple(columns[flow.nodes[n].token] for n in nodes),
        sources=tuple(
            tuple(place[source] for source in flow.nodes[n].sources if source in place)
            for n in nodes
        ),
    )
    spans = [
        _in_source(offset, starts[terminal], flow.spans[terminal])
        for offset, terminal in zip(offsets, terminals, strict=True)
    ]
    return GraphRow(
        ids=[*prefix, *kept, *suffix, *[node_id] * len(nodes)] if ids else [],
        graph=graph,
        spans=[
            *[None] * len(prefix),
            *spans[:room],
            *[None] * len(suffix),
            *(flow.spans[flow.nodes[n].token] for n in nodes),
        ],
        cut_at=spans[room][0] if len(spans) > room else None,
        tokens_cut=max(0, len(ids) - room),
        nodes_cut=len(flow.nodes) - len(nodes),
    )


def _terminal(offset: Span, starts: list[int]) -> int:
    """The terminal that a token of the tokenizer belongs to: that of its last character.

    A blank between terminals belongs to the one behind it, as byte-level tokenizers have it.
    """
    return bisect_right(starts, max(offset[0], offset[1] - 1) + 1) - 1


def _in_source(offset: Span, start: int, span: Span) -> Span:
    """A token's characters in the source: those of its terminal that it holds.

    Where white space in a terminal was collapsed, places behind it are too early by as much. A
    token of nothing but the blank before its terminal stands for the terminal's first character.
    """
    first, last = span
    begin = min(first + max(0, offset[0] - start), last - 1)
    return begin, max(begin + 1, min(first + offset[1] - start, last))
