"""Source text → tokens without comments, and the data flow between those that are variables.

Code that does not parse gives what tree-sitter makes of it; nested too deeply to be followed, it
gives its tokens and no data flow. Comments and Python's docstrings are left out, as they were when
GraphCodeBERT was trained.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from alpine_cli.dataflow.flow import follow
from alpine_cli.dataflow.grammars import LANGUAGES, Grammar, parser_for

__all__ = ["DataFlow", "FlowNode", "extract_data_flow"]


@dataclass(frozen=True)
class FlowNode:
    """One occurrence of a variable or a constant.

    Attributes:
        token: the token it is.
        sources: the nodes that its value comes from, ascending; may name the node itself (in a
            loop).
    """

    token: int
    sources: tuple[int, ...]


@dataclass(frozen=True)
class DataFlow:
    """A function's tokens and its data flow.

    Attributes:
        tokens: texts of the terminals of its syntax tree, comments left out.
        spans: their characters in the source, [start, end).
        nodes: in the order of the code; only those that a value comes from or goes to.
    """

    tokens: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    nodes: tuple[FlowNode, ...]

    def edges(self) -> list[tuple[str, str]]:
        """(variable, where its value comes from) as "name@token", for people."""
        names = [f"{self.tokens[node.token]}@{node.token}" for node in self.nodes]
        return [
            (names[at], names[source])
            for at, node in enumerate(self.nodes)
            for source in node.sources
        ]


def extract_data_flow(source: str, language: str) -> DataFlow:
    """Tokens and data flow of a function (or any piece of code) in a language of `LANGUAGES`.

    Raises:
        ConfigError: unknown language, or its parser is not installed.
    """
    parser, grammar = parser_for(language), LANGUAGES[language]
    data = source.encode("utf-8", "replace")
    leaves = _leaves(parser.parse(data).root_node, grammar)
    index_of = {leaf.start_byte: at for at, leaf in enumerate(leaves)}
    try:
        sources = follow(leaves, index_of, grammar) if leaves else {}
    except RecursionError:
        sources = {}
    used = sorted({at for at, found in sources.items() for at in (at, *found) if found})
    place = {token: number for number, token in enumerate(used)}
    characters = _characters(source, data)
    return DataFlow(
        tokens=tuple(_text(leaf) for leaf in leaves),
        spans=tuple((characters(leaf.start_byte), characters(leaf.end_byte)) for leaf in leaves),
        nodes=tuple(
            FlowNode(token, tuple(sorted(place[at] for at in sources.get(token, ()))))
            for token in used
        ),
    )


def _text(node: Any) -> str:
    return str(node.text.decode("utf-8", "replace"))


def _leaves(root: Any, grammar: Grammar) -> list[Any]:
    """Terminals in order, without comments, docstrings and what the parser made up."""
    found, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        if node.type in grammar.comments or _is_docstring(node, grammar):
            continue
        if node.child_count and node.type not in grammar.atoms:
            waiting += reversed(node.children)
        elif node.text.strip():  # a token that the parser missed is empty
            found.append(node)
    return found


def _is_docstring(node: Any, grammar: Grammar) -> bool:
    return (
        node.type in grammar.docstrings
        and node.child_count == 1
        and node.children[0].type in ("string", "concatenated_string")
    )


def _characters(source: str, data: bytes) -> Any:
    """Bytes → characters."""
    if len(source) == len(data):
        return lambda at: at
    place = [0] * (len(data) + 1)
    at = 0
    for number, character in enumerate(source):
        width = len(character.encode("utf-8", "replace"))
        place[at : at + width] = [number] * width
        at += width
    place[at] = len(source)
    return place.__getitem__
