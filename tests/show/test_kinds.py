"""Characters to kinds: by language, without a shift, and whole tokens by their majority."""

from __future__ import annotations

import pytest

from alpine_cli.errors import ConfigError
from alpine_cli.show.kinds import (
    KINDS,
    guess_language,
    kind_of,
    kinds_of_characters,
    lexer_for,
)


def kind(source: str, text: str, language: str) -> str:
    """The kind of the first place where `text` stands."""
    at = source.index(text)
    return KINDS[kind_of(kinds_of_characters(source, lexer_for(language)), at, at + len(text))]


JAVA = '@Test\npublic int f(String s) { // sum\n  return s.length() + 0x1F * "a b"; }'
C = "#define N 3\nstatic int f(char *p) { /* no */ return p[0] == 'c' && sizeof(p) > 2u; }"
PYTHON = 'def f(a):\n    """Doc."""\n    return a in [1] and not None  # why\n'


@pytest.mark.parametrize(
    ("language", "source", "text", "expected"),
    [
        ("java", JAVA, "public", "keywords"),
        ("java", JAVA, "int", "keywords"),
        ("java", JAVA, "String", "identifiers"),
        ("java", JAVA, "length", "identifiers"),
        ("java", JAVA, "// sum", "comments"),
        ("java", JAVA, "+", "operators"),
        ("java", JAVA, "();"[:2], "punctuation"),
        ("java", JAVA, "0x1F", "number literals"),
        ("java", JAVA, '"a b"', "string literals"),
        ("c", C, "#define N 3", "preprocessor"),
        ("c", C, "/* no */", "comments"),
        ("c", C, "'c'", "string literals"),
        ("c", C, "==", "operators"),
        ("c", C, "return", "keywords"),
        ("c", C, "2u", "number literals"),
        ("python", PYTHON, "in", "keywords"),
        ("python", PYTHON, "and", "keywords"),
        ("python", PYTHON, "# why", "comments"),
        ("python", PYTHON, '"""Doc."""', "string literals"),
    ],
)
def test_kinds(language: str, source: str, text: str, expected: str) -> None:
    assert kind(source, text, language) == expected


@pytest.mark.parametrize("before", ["\n\n", "\r\n", "  \t", "// é😀\n"])
def test_positions_do_not_shift(before: str) -> None:
    plain = kinds_of_characters("int x = 1;", lexer_for("java"))
    assert kinds_of_characters(before + "int x = 1;", lexer_for("java"))[len(before) :] == plain


def test_a_token_is_what_most_of_it_is() -> None:
    source = 'f("ab");'
    kinds = kinds_of_characters(source, lexer_for("java"))
    assert KINDS[kind_of(kinds, 1, 5)] == "string literals"  # ("ab
    assert KINDS[kind_of(kinds, 5, 8)] == "punctuation"  # ");
    assert KINDS[kind_of(kinds, 1, 3)] == "punctuation"  # (" : equal, the first wins
    assert KINDS[kind_of(kinds_of_characters("a \n b", lexer_for("c")), 1, 4)] == "white space"
    assert KINDS[kind_of(kinds_of_characters("a \n b", lexer_for("c")), 0, 4)] == "identifiers"


def test_white_space_inside_a_comment_is_white_space_only_alone() -> None:
    source = "/* a b */"
    kinds = kinds_of_characters(source, lexer_for("c"))
    assert KINDS[kind_of(kinds, 4, 5)] == "white space"
    assert KINDS[kind_of(kinds, 3, 6)] == "comments"


def test_language_is_told_with_its_reason() -> None:
    assert guess_language("clone-detection", ["int f() { return 1; }"])[0] == "java"
    language, reason = guess_language("defect-detection", ["int f() { return 1; }"])
    assert language == "c"
    assert "--language" in reason
    methods = ["    def f(self):\n        return 1\n", "def g(): pass", "def h(x): return x"]
    assert guess_language("defect-detection", methods)[0] == "python"
    assert guess_language("defect-detection", [*methods, "int f() { }"])[0] == "c"


def test_unknown_languages_suggest_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"--language: .*'jva'; did you mean java"):
        lexer_for("jva")
