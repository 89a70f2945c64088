"""Data flow of each language against expectations by hand, and against running every path."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.dataflow import LANGUAGES, extract_data_flow, grammars
from alpine_cli.errors import ConfigError
from tests.reference import data_flow as slow

# (language, code, edges); "x2" is the second occurrence of x among the tokens, counted from 1
CASES = {
    # Figure 2 of the GraphCodeBERT paper
    "the paper's example": (
        "python",
        "def max(a, b):\n  x=0\n  if b>a:\n    x=b\n  else:\n    x=a\n  return x",
        "x1<01 b2<b1 a2<a1 x2<b3 b3<b1 x3<a3 a3<a1 x4<x2 x4<x3",
    ),
    "if without else": (
        "c",
        "int f(int a) { int b = 1; if (a) b = 2; return b; }",
        "b1<11 a2<a1 b2<21 b3<b1 b3<b2",
    ),
    "else if": (
        "java",
        "int f(int a) { int b; if (a > 1) { b = 2; } else if (a > 3) { b = 4; } return b; }",
        "a2<a1 b2<21 a3<a1 b3<41 b4<b1 b4<b2 b4<b3",
    ),
    "elif and else": (
        "python",
        "def f(a):\n  if a:\n    b = 1\n  elif a:\n    b = 2\n  else:\n    b = 3\n  return b",
        "a2<a1 a3<a1 b1<11 b2<21 b3<31 b4<b1 b4<b2 b4<b3",
    ),
    "for in Java": (
        "java",
        "void f(int n) { int s = 0; for (int i = 1; i < n; i++) { s += i; } g(s); }",
        "s1<01 i1<11 i2<i1 i2<i3 n2<n1 i3<i1 i3<i3 s2<s1 s2<s2 s2<i4 i4<i1 i4<i3 s3<s1 s3<s2",
    ),
    "for over elements": (
        "java",
        "int f(int[] xs) { int s = 0; for (int x : xs) s = s + x; return s; }",
        "s1<01 x1<xs2 xs2<xs1 s2<s3 s2<x2 s3<s1 s3<s2 x2<x1 s4<s1 s4<s2",
    ),
    "for and else in Python": (
        "python",
        "for i, j in q(t):\n    t = i\nelse:\n    u = t\n",
        "i1<q1 i1<t1 j1<q1 j1<t1 t2<i2 i2<i1 u1<t3 t3<t1 t3<t2",
    ),
    "do runs at least once": (
        "c",
        "int f(int a) { do { a = 1; } while (a < 2); return a; }",
        "a2<11 a3<a2 a4<a2",
    ),
    "for in C": (
        "c",
        "void f(int n) { int i; for (i = 0; i < n; ++i) g(i); }",
        "i2<01 i3<i2 i3<i4 n2<n1 i4<i2 i4<i4 i5<i2 i5<i4",
    ),
    "switch falls through": (
        "c",
        "int f(int a) { int b = 1; switch (a) { case 2: b = 3; case 4: g(b); } return b; }",
        "b1<11 a2<a1 b2<31 b3<b1 b3<b2 b4<b1 b4<b2",
    ),
    "try": (
        "java",
        "void f() { int b = 1; try { b = 2; } catch (E e) { g(b, e); } finally { h(b); } }",
        "b1<11 b2<21 b3<b1 b3<b2 e2<e1 b4<b1 b4<b2",
    ),
    "fields are followed by their path": (
        "java",
        "void set(int x) { this.x = x; a.x = 1; g(this.x, x, a.x, b.x, a); }",
        "x2<x3 x3<x1 a1<11 x4<11 x5<x2 x6<x1 a2<a1 x7<x4 a3<a1",
    ),
    "fields, pointers and elements in C": (
        "c",
        "void f(T *p, int i) { p->n = i; *p = 1; p[i] = 2; g(p->n, i); }",
        "p2<p1 p2<i2 n1<i2 i2<i1 p3<p2 p3<11 p4<p3 p4<21 i3<i1 p5<p4 n2<n1 i4<i1",
    ),
    "nested functions keep their names": (
        "python",
        "def f(x):\n  def g(x):\n    y = x\n    return y\n  y = g(x)\n  return y",
        "y1<x3 x3<x2 y2<y1 y3<g2 y3<x4 g2<g1 x4<x1 y4<y3",
    ),
    "lambda": (
        "java",
        "void f(int a) { F q = a -> a + 1; g(a, q); }",
        "q1<a2 q1<a3 q1<11 a3<a2 a4<a1 q2<q1",
    ),
    "comprehension, with, walrus, keyword": (
        "python",
        "t = [y for y in z]\nwith open(t) as g:\n  h(m=g)\nif (n := t):\n  k(n)",
        "t1<y1 t1<y2 t1<z1 y1<y2 y2<z1 t2<t1 g1<open1 g1<t2 m1<g2 g2<g1 n1<t3 t3<t1 n2<n1",
    ),
    "pairs": ("python", "def f(a, b):\n  a, b = b, a\n  return a", "a2<b3 b3<b1 b2<a3 a3<a1 a4<a2"),
    "declared without a value": (
        "c",
        "void f() { int *p, n, m = n; g(p, m); }",
        "m1<n2 n2<n1 p2<p1 m2<m1",
    ),
    "the value of an assignment": ("java", "void f() { a = b = 1; }", "a1<b1 a1<11 b1<11"),
    "empty function": ("java", "void f() {}", ""),
    "empty function in Python": ("python", 'def f():\n    """text"""\n', ""),
    "nothing": ("c", "", ""),
    "syntax error": ("java", "int f(int a { = ; b = a; return b", "b1<a2 a2<a1 b2<b1"),
    "syntax error in C": ("c", "int f(int a) { b = a + ; g(b) }}} ) {", "b1<a2 a2<a1 b2<b1"),
    "syntax error in Python": ("python", "def f(a):\n  b = a\n  return (b", "b1<a2 a2<a1 b2<b1"),
}


PIECES = re.findall(
    r"\S+|\n",
    "x y é = == += ( ) { } [ ] ; : , . -> if else for while def return 1 'a' * int switch case try"
    " catch lambda => do in with as \n",
)


def named_edges(code: str, language: str) -> set[str]:
    """Edges by name and number of the occurrence among the tokens with that text."""
    flow = extract_data_flow(code, language)
    seen: dict[str, int] = {}
    names = []
    for token in flow.tokens:
        seen[token] = seen.get(token, 0) + 1
        names.append(f"{token}{seen[token]}")
    return {
        f"{names[node.token]}<{names[flow.nodes[source].token]}"
        for node in flow.nodes
        for source in node.sources
    }


@pytest.mark.parametrize("name", CASES)
def test_by_hand(name: str) -> None:
    language, code, expected = CASES[name]
    assert named_edges(code, language) == set(expected.split())


def programs(depth: int = 2) -> st.SearchStrategy[list[tuple]]:
    name = st.sampled_from(slow.VARIABLES)
    uses = st.lists(name, min_size=1, max_size=2).map(tuple)
    statement = st.tuples(st.sampled_from(["set", "add"]), name, uses)
    if depth:
        inner = programs(depth - 1)
        statement = st.one_of(
            statement,
            st.tuples(st.just("if"), name, inner, st.one_of(st.none(), inner)),
            st.tuples(st.just("while"), name, inner),
        )
    return st.lists(statement, max_size=3 if depth == 2 else 2)


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=60, deadline=None)
@given(program=programs())
def test_edges_are_those_of_all_paths(language: str, program: list[tuple]) -> None:
    """A value may reach a place exactly if it does on a path of at most two trips per loop."""
    if len(str(program)) > 220:  # paths multiply; such a program shows nothing new
        program = program[:1]
    flow = extract_data_flow(slow.source(program, language), language)
    occurrences = [at for at, token in enumerate(flow.tokens) if token in slow.VARIABLES]
    number = {token: at - len(slow.VARIABLES) for at, token in enumerate(occurrences)}
    found = {
        (number[node.token], number[flow.nodes[source].token])
        for node in flow.nodes
        for source in node.sources
    }
    assert found == slow.edges(program)


@pytest.mark.parametrize("language", LANGUAGES)
@settings(max_examples=80, deadline=None)
@given(
    text=st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(PIECES),
            max_size=40,
        ).map(" ".join),
    )
)
def test_any_text_gives_what_can_be_had(language: str, text: str) -> None:
    flow = extract_data_flow(text, language)
    assert len(flow.tokens) == len(flow.spans)
    reached = 0
    for token, (start, end) in zip(flow.tokens, flow.spans, strict=True):
        assert reached <= start < end <= len(text)
        assert text[start:end].encode("utf-8", "replace").decode() == token
        reached = end
    places = [node.token for node in flow.nodes]
    assert places == sorted(set(places))
    reading = {source for node in flow.nodes for source in node.sources}
    assert reading <= set(range(len(flow.nodes)))
    for at, node in enumerate(flow.nodes):
        assert node.sources or at in reading  # nothing without an edge
        assert list(node.sources) == sorted(set(node.sources))


@pytest.mark.parametrize(
    ("language", "code"),
    [
        ("java", "/* a */ int f() { // b\n return 1; /** c */ }"),
        ("c", "// a\nint f() { /* b */ return 1; }"),
        ("python", 'def f():\n  """a"""\n  # b\n  return 1'),
    ],
)
def test_comments_and_docstrings_are_left_out(language: str, code: str) -> None:
    tokens = extract_data_flow(code, language).tokens
    assert "return" in tokens
    assert not {"a", "b", "c"} & {word for token in tokens for word in re.findall(r"\w+", token)}


def test_strings_are_one_token_and_a_value() -> None:
    flow = extract_data_flow("void f() { s = \"a b\" + 'c'; g(s); }", "java")
    assert {'"a b"', "'c'"} <= set(flow.tokens)
    assert ("s@5", '"a b"@7') in flow.edges()


def test_nesting_beyond_pythons_stack_still_gives_the_tokens() -> None:
    deep = sys.getrecursionlimit()
    flow = extract_data_flow("x = " + "(" * deep + "y" + ")" * deep + ";", "c")
    assert len(flow.tokens) == 2 * deep + 4
    assert flow.nodes == ()


def test_loops_in_loops_do_not_take_exponential_time() -> None:
    code = "".join(f"while (a{n}) {{ " for n in range(30)) + "a0 = a1;" + "}" * 30
    flow = extract_data_flow(code, "c")
    assert len(flow.nodes) > 2  # it came back at all


def test_unknown_language() -> None:
    with pytest.raises(ConfigError, match=r"data flow of 'perl' is not known; languages: java"):
        extract_data_flow("", "perl")


def test_without_tree_sitter_the_message_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    grammars.parser_for.cache_clear()
    monkeypatch.setitem(sys.modules, "tree_sitter_java", None)
    with pytest.raises(ConfigError, match=r"pip install 'alpine-cli\[graph\]'"):
        extract_data_flow("int a;", "java")
    grammars.parser_for.cache_clear()
