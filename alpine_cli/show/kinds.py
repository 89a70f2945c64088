"""Characters of a source → syntactic kinds, as Pygments' lexers classify them.

A kind is a top class of Pygments' token types (Name, Keyword, Operator …), so that anyone can say
what belongs to it; nodes of the data flow, which are no characters, are a kind of their own. Lexers
read the source itself, not what a model reads: once line breaks are collapsed, nobody could say
where a line comment ends.
"""

from __future__ import annotations

import ast
import difflib
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from alpine_cli.errors import ConfigError
from alpine_cli.tasks.registry import resolve_task

if TYPE_CHECKING:
    from pygments.lexer import Lexer

__all__ = [
    "KINDS",
    "NODES",
    "SPECIAL",
    "guess_language",
    "kind_of",
    "kinds_of_characters",
    "lexer_for",
]

NODES = "data-flow nodes"
KINDS = (
    "identifiers",
    "keywords",
    "operators",
    "punctuation",
    "string literals",
    "number literals",
    "comments",
    "preprocessor",
    "white space",
    "other",
    NODES,
)
SPECIAL = "special tokens"
_WHITE, _OTHER = KINDS.index("white space"), KINDS.index("other")

# The first type that contains a Pygments type decides.
_TYPES = (
    ("Comment.Preproc", "preprocessor"),
    ("Comment.PreprocFile", "preprocessor"),
    ("Comment", "comments"),
    ("Operator.Word", "keywords"),  # Python's `and`, `in`
    ("Operator", "operators"),
    ("Punctuation", "punctuation"),
    ("Keyword", "keywords"),
    ("Name", "identifiers"),
    ("Literal.Number", "number literals"),
    ("Literal", "string literals"),
    ("Text", "white space"),
)
_LOOKED_AT = 50
_MOST = 0.9


def lexer_for(language: str) -> Lexer:
    """Pygments' lexer of that name ("java", "c", "python" …).

    Raises:
        ConfigError: Pygments knows no such language; the message offers the nearest.
    """
    from pygments.lexers import get_all_lexers, get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        return get_lexer_by_name(language)
    except ClassNotFound as error:
        names = [alias for _, aliases, _, _ in get_all_lexers() for alias in aliases]
        near = difflib.get_close_matches(language.lower(), names, n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(
            f"--language: Pygments knows no {language!r}{hint} (`pygmentize -L lexers` lists all)"
        ) from error


def guess_language(task: str, sources: Sequence[str]) -> tuple[str, str]:
    """The language of a data set, and why it is taken to be that.

    Python is recognised by parsing; the benchmarks of the tasks are Java and C.
    """
    looked = sources[:_LOOKED_AT]
    if looked and sum(map(_is_python, looked)) >= _MOST * len(looked):
        return "python", f"{_MOST:.0%} or more of {len(looked)} functions parse as Python"
    language = resolve_task(task).language
    return language, f"the language of the {task} benchmark; --language names another"


def _is_python(source: str) -> bool:
    try:
        ast.parse(textwrap.dedent(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def kinds_of_characters(source: str, lexer: Lexer) -> bytes:
    """Per character of `source`, the index of its kind in `KINDS`."""
    from pygments.token import string_to_tokentype

    types = [(string_to_tokentype(name), KINDS.index(kind)) for name, kind in _TYPES]
    known: dict[object, int] = {}
    kinds = bytearray([_OTHER]) * len(source)
    # Not get_tokens: it strips and normalises the text, and positions would shift.
    for start, kind, value in lexer.get_tokens_unprocessed(source):
        if kind not in known:
            known[kind] = next((index for type_, index in types if kind in type_), _OTHER)
        kinds[start : start + len(value)] = bytes([known[kind]]) * len(value)
    for at, character in enumerate(source):
        if character.isspace():
            kinds[at] = _WHITE
    return bytes(kinds)


def kind_of(kinds: bytes, start: int, end: int) -> int:
    """The kind of a token that stands for characters [start, end): that of most of them.

    White space counts only if there is nothing else; of equals the first wins.
    """
    inside = [kind for kind in kinds[start:end] if kind != _WHITE]
    return max(inside, key=inside.count) if inside else _WHITE
