"""LaTeX that compiles: balanced braces and environments, right columns, nothing unescaped."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.report.latex import escape, latex_document, to_latex
from alpine_cli.report.paper_tables import paper_tables
from alpine_cli.report.tables import Cell, Column, Table
from tests.report.paper_made import bench

HOSTILE = st.text(
    alphabet=st.one_of(
        st.sampled_from("\\{}$&#_%~^<>|[]*\"'`-,!?αµ×≥→éßø²₂ 日😀\n\t\x00"), st.characters()
    ),
    max_size=40,
)
# What an escaped text may consist of: literal signs, escaped signs, commands with their arguments.
# A mathematical sign is a command or one of < > | - ' inside \ensuremath{…}.
TOKEN = re.compile(
    r"[A-Za-z0-9 .:;/()+=@]"
    r"|\\[{}$&#_%]"
    r"|\\(?:textbackslash|textasciitilde|textasciicircum|textasciigrave|textbullet|ldots|S|P"
    r"|textcopyright|dag|ddag|ss|o|O|ae|AE|oe|OE|l|L|i|pounds)\{\}"
    r"|\\ensuremath\{(?:\\[A-Za-z]+|[<>|'-]|\^\{\\circ\}|[\^_]\{[A-Za-z0-9]+\})\}"
    r"|\\symbol\{34\}"
    r"|\{[\[\]*]\}"
    r"|[-,!?']\{\}|--\{\}|---\{\}|``\{\}|''\{\}|`\{\}"
    r"|\\[`'^~=.\"urHvdcb]\{[A-Za-z0-9]\}"
    r"|\\texttt\{U\+[0-9A-F]{4,6}\}"
)


@settings(max_examples=400, deadline=None)
@given(HOSTILE)
def test_escaped_text_is_ascii_and_made_of_harmless_tokens_only(text: str) -> None:
    shown = escape(text)
    assert shown.isascii()
    assert TOKEN.sub("", shown) == ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50 % of a_b & c#1", r"50 \% of a\_b \& c\#1"),
        ("α = 0.5 ± 1 µs", r"\ensuremath{\alpha} = 0.5 \ensuremath{\pm} 1 \ensuremath{\mu}s"),
        ("n ≥ 4", r"n \ensuremath{\geq} 4"),
        ("1.42×", r"1.42\ensuremath{\times}"),
        ("José Hernández", r"Jos\'{e} Hern\'{a}ndez"),
        ("d²", r"d\ensuremath{^{2}}"),
        ("H₂O", r"H\ensuremath{_{2}}O"),
        ("[1] *", "{[}1{]} {*}"),
        ("--alpha", "-{}-{}alpha"),
        ("C:\\x{y}", r"C:\textbackslash{}x\{y\}"),
        ("two\nlines\t here", "two lines here"),
        ("日", r"\texttt{U+65E5}"),
        ("65–128", "65--{}128"),
    ],
)
def test_signs_become_commands(text: str, expected: str) -> None:
    assert escape(text) == expected


def check_structure(latex: str, columns: int) -> None:
    """Environments nest, braces balance, and every row of the outer table has all its cells."""
    stack = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+)\}", latex):
        if kind == "begin":
            stack.append(name)
        else:
            assert stack.pop() == name
    assert stack == []
    bare = re.sub(r"\\[{}]", "", latex)
    depth = 0
    for character in bare:
        depth += {"{": 1, "}": -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    inner = re.sub(
        r"\\begin\{tabular\}\[[bt]\]\{@\{\}[lr]@\{\}\}.*?\\end\{tabular\}", "stacked", latex
    )
    (body,) = re.findall(r"\\toprule\n(.*)\\bottomrule", inner, re.DOTALL)
    rows = [line for line in body.splitlines() if line != r"\midrule"]
    for row in rows:
        assert row.endswith(r" \\")
        assert len(re.findall(r"(?<!\\)&", row)) == columns - 1
    (specification,) = re.findall(r"\\begin\{tabular\}\{@\{\}(.*)@\{\}\}\n", inner)
    kinds = specification.replace(r">{\raggedright\arraybackslash}p{4.5cm}", "l")
    assert len(kinds) == columns
    assert set(kinds) <= {"l", "r"}


cells = st.builds(
    Cell,
    text=HOSTILE,
    note=st.none() | HOSTILE,
    style=st.sampled_from(["", "better", "published", "absent"]),
)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    count = draw(st.integers(1, 9))
    columns = [
        Column(draw(HOSTILE), unit=draw(HOSTILE), numeric=draw(st.booleans())) for _ in range(count)
    ]
    rows = draw(st.lists(st.lists(cells, min_size=count, max_size=count), max_size=4))
    notes = draw(st.lists(HOSTILE, max_size=3))
    return Table(draw(HOSTILE), draw(HOSTILE), columns, rows, notes)


@settings(max_examples=60, deadline=None)
@given(tables())
def test_any_table_has_sound_structure(table: Table) -> None:
    check_structure(to_latex(table), len(table.columns))


def test_published_cells_are_italic_with_a_legend_and_notes_are_lettered() -> None:
    note = "printed as 0.34"
    table = Table(
        key="Table E",
        title="CO2 & more",
        columns=[Column("machine", numeric=False), Column("CO2", "kg")],
        rows=[
            [Cell("A100"), Cell("3.15", 3.15, style="published")],
            [Cell("RTX"), Cell("0.34", 0.34, note=note, style="published")],
            [Cell("RTX again"), Cell("0.34", 0.34, note=note)],
            [Cell("other"), Cell("1", 1.0, note="other note")],
        ],
        notes=["[1] Ours on 5 % of the samples."],
    )
    latex = to_latex(table)
    assert r"A100 & \textit{3.15} \\" in latex
    assert r"\textit{0.34}\textsuperscript{a} \\" in latex
    assert r"RTX again & 0.34\textsuperscript{a} \\" in latex
    assert r"\textsuperscript{b} other note\par" in latex
    assert latex.count(r"printed as 0.34\par") == 1
    assert r"\textit{Italics}: published figures." in latex
    assert r"{[}1{]} Ours on 5 \% of the samples.\par" in latex
    assert r"\footnotesize" in latex
    assert r"\label{tab:table-e}" in latex
    assert "siunitx" not in latex
    assert r"\textit{Italics}" not in to_latex(Table("k", "t", [Column("c")], [[Cell("1")]]))


def test_a_factor_stands_below_its_value_where_the_line_gets_long() -> None:
    table = Table("k", "t", [Column("rate")], [[Cell("478 [469, 486] (1.17× [1.15, 1.19])")]])
    stacked = r"478 {[}469,{} 486{]} \\ (1.17\ensuremath{\times} {[}1.15,{} 1.19{]})"
    assert stacked in to_latex(table)


def test_the_papers_tables_make_one_document() -> None:
    made = paper_tables([bench(values={"pruned": {"accuracy": 0.6, "total_macs": 2e10}})])
    document = latex_document(made)
    assert document.isascii()
    assert document.count(r"\begin{document}") == document.count(r"\end{document}") == 1
    assert document.index(r"\usepackage{booktabs}") < document.index(r"\begin{document}")
    for table in made:
        latex = to_latex(table)
        check_structure(latex, len(table.columns))
        assert latex in document
