"""Five bugs that linters catch: where each could stand in a function, and how to put it there.

A pattern knows three things: `sites`, the places of a sound function that the bug could spoil;
`spoil`, the faulty node for such a place; `found`, whether a function carries the bug already.
`found` is what keeps the sound half of the demo's data sound. Names and rule numbers are those
of flake8, flake8-bugbear and pylint, so any sample can be checked with the linter itself.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

__all__ = ["PATTERNS", "BugPattern", "Function", "Nodes", "inject"]

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Nodes: TypeAlias = Sequence[ast.AST]
"""All nodes of a function, as `ast.walk` yields them: walked once, read by every pattern."""


@dataclass(frozen=True)
class BugPattern:
    """One kind of bug.

    Attributes:
        name: what the data files and reports call it.
        rule: the linter rule that reports it.
        example: sound code and its spoilt form, for people.
        sites: yields those nodes of a function that `spoil` accepts.
        spoil: makes the faulty node that takes the place of a site; the site is left as it was.
        found: tells whether a function already carries the bug.
    """

    name: str
    rule: str
    example: str
    sites: Callable[[Nodes], Iterator[ast.AST]]
    spoil: Callable[[ast.AST], ast.AST]
    found: Callable[[Nodes], bool]


def inject(function: Function, pattern: BugPattern, site: ast.AST) -> str:
    """Source of `function` with `site` spoilt; the tree that was passed in is left unchanged.

    Raises:
        ValueError: `site` is not a node of `function`.
    """
    swap = _Swap(site, pattern.spoil(site))
    text = ast.unparse(swap.visit(function))
    if not swap.done:
        raise ValueError(f"{pattern.name}: the site is not part of {function.name}")
    _Swap(swap.new, site).visit(function)
    return text


class _Swap(ast.NodeTransformer):
    """Replace one node, known by identity, by another."""

    def __init__(self, old: ast.AST, new: ast.AST):
        self.old, self.new, self.done = old, new, False

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.old:
            self.done = True
            return self.new
        return self.generic_visit(node)


# --- None compared by value -------------------------------------------------------------------


def _comparisons(nodes: Nodes) -> Iterator[tuple[ast.Compare, ast.cmpop, ast.expr]]:
    for node in nodes:
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            yield node, node.ops[0], node.comparators[0]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _identity_with_none(nodes: Nodes) -> Iterator[ast.AST]:
    for node, operator, right in _comparisons(nodes):
        if isinstance(operator, ast.Is | ast.IsNot) and _is_none(right):
            yield node


def _compare_by_value(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Compare)
    operator = ast.Eq() if isinstance(node.ops[0], ast.Is) else ast.NotEq()
    return ast.Compare(node.left, [operator], node.comparators)


def _has_none_comparison(nodes: Nodes) -> bool:
    return any(
        isinstance(operator, ast.Eq | ast.NotEq) and (_is_none(right) or _is_none(node.left))
        for node, operator, right in _comparisons(nodes)
    )


# --- a default value shared by all calls ------------------------------------------------------


def _defaults(nodes: Nodes) -> Iterator[ast.expr]:
    for node in nodes:
        if isinstance(node, ast.arguments):
            yield from node.defaults
            yield from (default for default in node.kw_defaults if default is not None)


def _none_defaults(nodes: Nodes) -> Iterator[ast.AST]:
    yield from (default for default in _defaults(nodes) if _is_none(default))


def _has_mutable_default(nodes: Nodes) -> bool:
    return any(isinstance(d, ast.List | ast.Dict | ast.Set) for d in _defaults(nodes))


# --- an exception handler that catches too much -----------------------------------------------

_BROAD = ("BaseException", "Exception")


def _is_broad(node: ast.expr | None) -> bool:
    if isinstance(node, ast.Tuple):
        return any(map(_is_broad, node.elts))
    return node is None or (isinstance(node, ast.Name) and node.id in _BROAD)


def _narrow_handlers(nodes: Nodes) -> Iterator[ast.AST]:
    # The last handler only: a broad one in front of others would leave them unreachable, which is
    # another bug.
    for node in nodes:
        if isinstance(node, ast.Try) and node.handlers and not _is_broad(node.handlers[-1].type):
            yield node.handlers[-1]


def _catch_everything(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.ExceptHandler)
    return ast.ExceptHandler(ast.Name("Exception"), node.name, node.body)


def _has_broad_except(nodes: Nodes) -> bool:
    return any(isinstance(node, ast.ExceptHandler) and _is_broad(node.type) for node in nodes)


# --- a type compared where subclasses should pass ---------------------------------------------


def _is_call_of(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _isinstance_calls(nodes: Nodes) -> Iterator[ast.AST]:
    for node in nodes:
        if (
            isinstance(node, ast.Call)
            and _is_call_of(node, "isinstance")
            and len(node.args) == 2
            and isinstance(node.args[1], ast.Name | ast.Attribute)  # not a tuple of types
        ):
            yield node


def _compare_types(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Call)
    value, kind = node.args
    return ast.Compare(ast.Call(ast.Name("type"), [value], []), [ast.Eq()], [kind])


def _has_type_comparison(nodes: Nodes) -> bool:
    return any(
        isinstance(operator, ast.Eq | ast.NotEq)
        and (_is_call_of(node.left, "type") or _is_call_of(right, "type"))
        for node, operator, right in _comparisons(nodes)
    )


# --- an exception that no caller can tell from others -----------------------------------------


def _raise_statements(nodes: Nodes) -> Iterator[ast.AST]:
    for node in nodes:
        if (
            isinstance(node, ast.Raise)
            and isinstance(node.exc, ast.Call)
            and isinstance(node.exc.func, ast.Name)
            and node.exc.func.id.endswith("Error")
        ):
            yield node


def _raise_broadly(node: ast.AST) -> ast.AST:
    assert isinstance(node, ast.Raise)
    assert isinstance(node.exc, ast.Call)
    made = ast.Call(ast.Name("Exception"), node.exc.args, node.exc.keywords)
    return ast.Raise(made, node.cause)


def _has_broad_raise(nodes: Nodes) -> bool:
    made = (node.exc for node in nodes if isinstance(node, ast.Raise) and node.exc is not None)
    return any(_is_broad(exc.func if isinstance(exc, ast.Call) else exc) for exc in made)


PATTERNS: tuple[BugPattern, ...] = (
    BugPattern(
        "none-comparison",
        "E711",
        "if x is None  ->  if x == None",
        _identity_with_none,
        _compare_by_value,
        _has_none_comparison,
    ),
    BugPattern(
        "mutable-default",
        "B006",
        "def f(items=None)  ->  def f(items=[])",
        _none_defaults,
        lambda _: ast.List([]),
        _has_mutable_default,
    ),
    BugPattern(
        "broad-except",
        "W0718",
        "except KeyError:  ->  except Exception:",
        _narrow_handlers,
        _catch_everything,
        _has_broad_except,
    ),
    BugPattern(
        "type-comparison",
        "E721",
        "isinstance(x, str)  ->  type(x) == str",
        _isinstance_calls,
        _compare_types,
        _has_type_comparison,
    ),
    BugPattern(
        "broad-raise",
        "W0719",
        "raise ValueError(x)  ->  raise Exception(x)",
        _raise_statements,
        _raise_broadly,
        _has_broad_raise,
    ),
)
