r"""Tables for a paper: LaTeX with booktabs, plain ASCII, nothing a name in a file could break.

Needs the packages booktabs, array and graphicx, and no others: no siunitx, no input encoding, no
special font encoding (`PREAMBLE`). Every character of a cell is either printable ASCII that LaTeX
takes literally, or a command; accents, Greek letters and mathematical signs become theirs, and what
has no command is named by its code point. Remarks on single cells become lettered footnotes below
the table, its notes lines in footnote size.
"""

from __future__ import annotations

import re
import string
import textwrap
import unicodedata
from collections.abc import Sequence

from alpine_cli.report.tables import Cell, Column, Table

__all__ = ["PREAMBLE", "escape", "latex_document", "to_latex"]

PREAMBLE = r"""\usepackage{booktabs}
\usepackage{array}
\usepackage{graphicx}
"""

# Scales a table down to the line, and never up.
_SHRINK = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
_HEAD_WIDTH = 14  # characters of a line of a column's title
_NUMBER_WIDTH = 24  # characters of a line of a number with its interval
_LONG = 40  # characters of a cell; from here on its column breaks lines
_PARAGRAPH = r">{\raggedright\arraybackslash}p{4.5cm}"

# Brackets and the star are special after \\, where they would be read as its arguments.
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\ensuremath{<}",
    ">": r"\ensuremath{>}",
    "|": r"\ensuremath{|}",
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    '"': r"\symbol{34}",
    "`": r"\textasciigrave{}",
    # single, so that no two of them join to a dash, a quotation mark or another sign
    "-": "-{}",
    "'": "'{}",
    ",": ",{}",
    "!": "!{}",
    "?": "?{}",
}
_MATHS = {
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\varepsilon",
    "ζ": r"\zeta", "η": r"\eta", "θ": r"\theta", "ι": r"\iota", "κ": r"\kappa", "λ": r"\lambda",
    "μ": r"\mu", "µ": r"\mu", "ν": r"\nu", "ξ": r"\xi", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma",
    "ς": r"\varsigma", "τ": r"\tau", "υ": r"\upsilon", "φ": r"\varphi", "χ": r"\chi",
    "ψ": r"\psi", "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta",
    "Λ": r"\Lambda", "Ξ": r"\Xi", "Π": r"\Pi", "Σ": r"\Sigma", "Υ": r"\Upsilon", "Φ": r"\Phi",
    "Ψ": r"\Psi", "Ω": r"\Omega", "×": r"\times", "÷": r"\div", "±": r"\pm", "−": "-",
    "≥": r"\geq", "≤": r"\leq", "≠": r"\neq", "≈": r"\approx", "∞": r"\infty", "√": r"\surd",
    "∑": r"\sum", "·": r"\cdot", "→": r"\rightarrow", "←": r"\leftarrow", "↑": r"\uparrow",
    "↓": r"\downarrow", "⇒": r"\Rightarrow", "¬": r"\neg", "∈": r"\in", "°": r"^{\circ}",
    "′": "'", "▲": r"\triangle", "▼": r"\nabla",
}  # fmt: skip
_TEXT = {
    "–": "--{}", "—": "---{}", "‐": "-{}", "‑": "-{}", "…": r"\ldots{}", "“": "``{}", "”": "''{}",
    "‘": "`{}", "’": "'{}", "«": r"\ensuremath{\ll}", "»": r"\ensuremath{\gg}",
    "•": r"\textbullet{}", "§": r"\S{}", "¶": r"\P{}", "©": r"\textcopyright{}", "†": r"\dag{}",
    "‡": r"\ddag{}",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}",
    "Œ": r"\OE{}", "ł": r"\l{}", "Ł": r"\L{}", "ı": r"\i{}", "£": r"\pounds{}",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u",
    "\u0307": ".", "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0323": "d",
    "\u0327": "c", "\u0331": "b",
}  # fmt: skip
_LETTERS_AND_DIGITS = frozenset(string.ascii_letters + string.digits)
_LITERAL = _LETTERS_AND_DIGITS | frozenset(" .:;/()+=@")


def escape(text: str) -> str:
    """Text as LaTeX that prints it and does nothing else; the result is ASCII on one line."""
    return "".join(map(_escape_one, " ".join(text.split())))


def _escape_one(character: str) -> str:
    if character in _LITERAL:
        return character
    for table in (_SPECIAL, _TEXT):
        if character in table:
            return table[character]
    if character in _MATHS:
        return rf"\ensuremath{{{_MATHS[character]}}}"
    base, marks = character, ""
    if unicodedata.decomposition(character):
        parts = unicodedata.normalize("NFD", character)
        base, marks = parts[0], parts[1:]
    if base in _LETTERS_AND_DIGITS and marks in _ACCENTS:
        return rf"\{_ACCENTS[marks]}{{{base}}}"
    kind = unicodedata.decomposition(character).partition(" ")[0]
    plain = unicodedata.normalize("NFKC", character)
    if kind in ("<super>", "<sub>") and plain.isascii() and plain.isalnum():
        return rf"\ensuremath{{{'^' if kind == '<super>' else '_'}{{{plain}}}}}"
    return rf"\texttt{{U+{ord(character):04X}}}"


def to_latex(table: Table) -> str:
    r"""A `table` float of booktabs rules; \input it into a document that loads `PREAMBLE`.

    Published figures are in italics, and a line below says so. Tables wider than the line are
    scaled down to it; columns of long text break lines.
    """
    footnotes: dict[str, str] = {}

    def cells(row: Sequence[Cell]) -> list[str]:
        pairs = zip(row, table.columns, strict=True)
        return [_cell(cell, column, footnotes) for cell, column in pairs]

    body = [" & ".join(cells(row)) + r" \\" for row in table.rows]
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{escape(table.title)}}}",
        rf"\label{{tab:{re.sub('[^a-z0-9]+', '-', table.key.lower()).strip('-')}}}",
        r"\small\setlength{\tabcolsep}{4pt}",
    ]
    columns = "".join(
        _alignment(column, [row[at] for row in table.rows])
        for at, column in enumerate(table.columns)
    )
    tabular = [
        rf"\begin{{tabular}}{{@{{}}{columns}@{{}}}}",
        r"\toprule",
        " & ".join(map(_head, table.columns)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
    ]
    lines += [_SHRINK, *tabular, "}", *_below(table, footnotes), r"\end{table}"]
    return "\n".join(lines) + "\n"


def _head(column: Column) -> str:
    unit = f" ({column.unit})" if column.unit else ""
    lines = textwrap.wrap(column.title + unit, _HEAD_WIDTH, break_on_hyphens=False)
    return _stacked(lines, "r" if column.numeric else "l", "b")


def _stacked(lines: Sequence[str], side: str, stand: str) -> str:
    """Lines over each other in one cell, `side` (l or r) aligned; one line stays as it is."""
    if len(lines) < 2:
        return escape("".join(lines))
    inner = r" \\ ".join(map(escape, lines))
    return rf"\begin{{tabular}}[{stand}]{{@{{}}{side}@{{}}}}{inner}\end{{tabular}}"


def _alignment(column: Column, cells: Sequence[Cell]) -> str:
    if column.numeric:
        return "r"
    return _PARAGRAPH if max((len(cell.text) for cell in cells), default=0) > _LONG else "l"


def _cell(cell: Cell, column: Column, footnotes: dict[str, str]) -> str:
    lines = _number_lines(cell.text) if column.numeric else [cell.text]
    text = _stacked(lines, "r", "t")
    if cell.style == "published" and text:
        text = rf"\textit{{{text}}}"
    if cell.note is not None:
        mark = footnotes.setdefault(cell.note, _letters(len(footnotes)))
        text += rf"\textsuperscript{{{mark}}}"
    return text


def _number_lines(text: str) -> list[str]:
    """A number with its factor in brackets below it, where the line would get long."""
    if len(text) <= _NUMBER_WIDTH:
        return [text]
    value, bracket, factor = text.partition(" (")
    return [value, f"({factor}"] if bracket else textwrap.wrap(text, _NUMBER_WIDTH)


def _letters(number: int) -> str:
    """a, b, …, z, aa, ab, …."""
    letters = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = string.ascii_lowercase[rest] + letters
    return letters


def _below(table: Table, footnotes: dict[str, str]) -> list[str]:
    notes = [rf"\textsuperscript{{{mark}}} {escape(note)}" for note, mark in footnotes.items()]
    if any(cell.style == "published" for row in table.rows for cell in row):
        notes.append(r"\textit{Italics}: published figures.")
    notes += [escape(note) for note in table.notes]
    if not notes:
        return []
    shown = [rf"{note}\par" for note in notes]
    return [r"\par\medskip", r"\begin{minipage}{\linewidth}\footnotesize\raggedright", *shown,
            r"\end{minipage}"]  # fmt: skip


def latex_document(tables: Sequence[Table]) -> str:
    """A document of its own with all tables, each on pages of its own."""
    parts = [
        r"\documentclass[a4paper]{article}",
        r"\usepackage[margin=2cm]{geometry}",
        PREAMBLE.rstrip(),
        r"\begin{document}",
    ]
    for table in tables:
        parts += [to_latex(table).rstrip(), r"\clearpage"]
    return "\n".join([*parts, r"\end{document}"]) + "\n"
