"""Data flow by running every path, and the graph's mask and positions by the paper's words.

Nothing here imports alpine. Programs are trees of tuples, written out in each language by `source`:

    ("set", x, (y, z))       x = y + z
    ("add", x, (y,))         x += y
    ("if", c, A, B)          if c then A else B; B None: no else
    ("while", c, A)          while c do A
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

Program = Sequence[tuple[Any, ...]]
Event = tuple[str, ...]

VARIABLES = "abcd"


def paths(program: Program, number: Iterator[int] | None = None) -> list[list[tuple[Any, ...]]]:
    """All runs, as lists of ("use", i), ("def", i, uses, keeps): i numbers occurrences in the text.

    Every branch is taken once, every loop is gone through 0, 1 and 2 times.
    """
    number = itertools.count() if number is None else number
    runs: list[list[tuple[Any, ...]]] = [[]]
    for kind, *parts in program:
        if kind in ("set", "add"):
            target = (next(number), parts[0])
            uses = tuple((next(number), name) for name in parts[1])
            step = [[("use", *use) for use in uses] + [("def", target, uses, kind == "add")]]
        elif kind == "if":
            test = [("use", next(number), parts[0])]
            then = paths(parts[1], number)
            other = [[]] if parts[2] is None else paths(parts[2], number)
            step = [[*test, *run] for run in (*then, *other)]
        else:
            test = [("use", next(number), parts[0])]
            body = paths(parts[1], number)
            step = [
                [*test, *(event for trip in trips for event in (*trip, *test))]
                for times in range(3)
                for trips in itertools.product(body, repeat=times)
            ]
        runs = [[*run, *more] for run in runs for more in step]
    return runs


def edges(program: Program) -> set[tuple[int, int]]:
    """(occurrence, occurrence that its value comes from) over all paths.

    Occurrences −4 … −1 are the parameters a, b, c, d.
    """
    found = set()
    for run in paths(program):
        origin = {name: at - len(VARIABLES) for at, name in enumerate(VARIABLES)}
        for event in run:
            if event[0] == "use":
                found.add((event[1], origin[event[2]]))
                continue
            (target, name), uses, keeps = event[1:]
            found |= {(target, use) for use, _ in uses}
            if keeps:
                found.add((target, origin[name]))
            origin[name] = target
    return found


def source(program: Program, language: str) -> str:
    """The program as a function of a, b, c and d."""
    if language == "python":
        return f"def f({', '.join(VARIABLES)}):\n" + "".join(
            f"    {line}\n" for line in _lines(program, language) or ["pass"]
        )
    parameters = ", ".join(f"int {name}" for name in VARIABLES)
    return f"void f({parameters}) {{\n" + "\n".join(_lines(program, language)) + "\n}"


def _lines(program: Program, language: str) -> list[str]:
    python = language == "python"
    end, opens, closes = ("", ":", []) if python else (";", " {", ["}"])

    def block(inner: Program) -> list[str]:
        return [f"    {line}" for line in _lines(inner, language) or (["pass"] if python else [])]

    lines: list[str] = []
    for kind, *parts in program:
        if kind in ("set", "add"):
            operator = "=" if kind == "set" else "+="
            lines.append(f"{parts[0]} {operator} {' + '.join(parts[1])}{end}")
        elif kind == "if":
            test = parts[0] if python else f"({parts[0]})"
            lines += [f"if {test}{opens}", *block(parts[1]), *closes]
            if parts[2] is not None:
                lines += [f"else{opens}", *block(parts[2]), *closes]
        else:
            test = parts[0] if python else f"({parts[0]})"
            lines += [f"while {test}{opens}", *block(parts[1]), *closes]
    return lines


def sees(
    prefix: int,
    suffix: int,
    code: int,
    links: Sequence[Sequence[int]],
    sources: Sequence[Sequence[int]],
    query: int,
    key: int,
) -> bool:
    """GraphCodeBERT's equation 9 (Guo et al. 2021) for one pair of columns."""
    special = [*range(prefix), *range(code - suffix, code)]
    if query in special:
        return True
    if query < code and key < code:
        return True
    if query < code:
        return query in links[key - code]
    if key < code:
        return key in links[query - code]
    return key - code in sources[query - code]
