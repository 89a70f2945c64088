"""Where values come from: reaching definitions over a syntax tree.

An edge runs from an occurrence of a variable to each occurrence that its value may come from
(Guo et al. 2021, §3). On a run of the code that takes one branch of every `if` and goes through
every loop at most twice,

    x = f(y, 1)     the x comes from f, y and 1: from everything named on the right
    x += y          … and from where x came from before; so does x++
    x               comes from the occurrence that gave x its value last
    a[i] = y        the a comes from y, and from where a came from before; i is only read
    a.b = y         … and so does b, of which a later `a.b` is another occurrence
    f(int x)        the x comes from nowhere; a name met first is the origin of its later ones

and the data flow holds the edges of all such runs. Jumps (break, return, goto) are not followed,
calls are not entered, and a name is one variable in all blocks of a function.

Compared with the code that was published with the model, augmented assignments read their target,
a base is not forgotten when a part of it is assigned, indices are not assigned to, a loop may be
skipped, parts with the same name are not one variable, and functions do not see each other's names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from alpine_cli.dataflow.grammars import Grammar, Loop

__all__ = ["follow"]

Env = dict[str, frozenset[int]]
"""By name, the tokens that gave it the value it may have."""

_TRIPS = 2
_DEEP = 5  # loops in loops double the work each; below so many, one trip
_NAMES = ("identifier", "field_identifier")


def follow(
    leaves: Sequence[Any], index_of: dict[int, int], grammar: Grammar
) -> dict[int, frozenset[int]]:
    """By token, the tokens that its value comes from.

    Args:
        leaves: the tree's terminals; comments are none.
        index_of: a terminal's first byte → its place.
        grammar: of the language.

    Raises:
        RecursionError: nested too deeply.
    """
    root = leaves[0]
    while root.parent is not None:
        root = root.parent
    flow = _Flow(index_of, grammar)
    flow.run(root, {})
    return {token: frozenset(found) for token, found in flow.sources.items()}


def _merge(states: Iterable[Env]) -> Env:
    """What a name may hold where several ways meet."""
    merged: Env = {}
    for state in states:
        for name, tokens in state.items():
            merged[name] = merged.get(name, frozenset()) | tokens
    return merged


class _Flow:
    """A walk over the tree in the order of execution; `run` changes the state it is given.

    Attributes:
        sources: what has been found, by token.
    """

    def __init__(self, index_of: dict[int, int], grammar: Grammar) -> None:
        self.index_of, self.grammar = index_of, grammar
        self.sources: dict[int, set[int]] = {}
        self.depth = 0
        self._variables: dict[int, tuple[int, ...]] = {}

    # -- statements -------------------------------------------------------------------------

    def run(self, node: Any, env: Env) -> None:
        """Execute a node of any kind."""
        grammar, kind = self.grammar, node.type
        if kind in grammar.comments or kind in grammar.skipped:
            return
        if kind in grammar.assigns:
            self._assignment(node, env)
        elif kind in grammar.keywords:
            name, value = (node.child_by_field_name(part) for part in grammar.keywords[kind])
            self.run(value, env)
            for token in self._variables_in(name):
                self._comes_from(token, self._variables_in(value))
        elif kind in grammar.aliases:
            self._alias(node, env)
        elif kind in grammar.updates:
            for operand in node.named_children:
                self._assign(operand, (), env, reads=True)
        elif kind in grammar.bare:
            self._declaration(node, env)
        elif kind in grammar.parameters:
            self._parameters(node, env)
        elif kind in grammar.ifs:
            self._if(node, env)
        elif kind in grammar.loops:
            self._loop(node, grammar.loops[kind], env)
        elif kind in grammar.switches:
            self._switch(node, env)
        elif kind in grammar.tries:
            self._try(node, env)
        elif kind in grammar.scopes:
            self._scope(node, env)
        elif kind in grammar.comprehensions:
            inner = dict(env)
            clauses = node.named_children[1:]
            self._run_all([*clauses, *node.named_children[:1]], inner)
        elif self._is_leaf(node):
            self._read(node, env)
        else:
            self._run_all(node.children, env)

    def _run_all(self, nodes: Iterable[Any], env: Env) -> None:
        for node in nodes:
            self.run(node, env)

    def _run_fields(self, node: Any, fields: Iterable[str], env: Env) -> None:
        for name in fields:
            self._run_all(node.children_by_field_name(name), env)

    def _become(self, env: Env, states: Iterable[Env]) -> None:
        merged = _merge(states)
        env.clear()
        env.update(merged)

    def _assignment(self, node: Any, env: Env) -> None:
        left, right = self.grammar.assigns[node.type]
        target, value = node.child_by_field_name(left), node.child_by_field_name(right)
        if target is None:  # an unnamed parameter
            return
        operator = node.child_by_field_name("operator")
        reads = node.type in self.grammar.augmented or (
            operator is not None and operator.type not in ("=", ":=")
        )
        self._assign_value(target, value, env, reads)

    def _assign_value(self, target: Any, value: Any, env: Env, reads: bool = False) -> None:
        """Value first, then target; lists of the same length pair by pair."""
        if value is None:
            self._assign(target, (), env)
            return
        self.run(value, env)
        targets, values = _parts(target), _parts(value)
        if len(targets) != len(values):
            targets, values = [target], [value]
        for one, its in zip(targets, values, strict=True):
            self._assign(one, self._variables_in(its), env, reads)

    def _alias(self, node: Any, env: Env) -> None:
        alias = node.child_by_field_name(self.grammar.aliases[node.type])
        values = [child for child in node.named_children if child != alias]
        self._run_all(values, env)
        if alias is not None:
            found = tuple(token for value in values for token in self._variables_in(value))
            self._assign(alias, found, env)

    def _declaration(self, node: Any, env: Env) -> None:
        declared = node.children_by_field_name(self.grammar.bare[node.type])
        for child in node.children:
            if child in declared and child.type not in self.grammar.assigns:
                self._assign(child, (), env)
            else:
                self.run(child, env)

    def _parameters(self, node: Any, env: Env) -> None:
        for child in node.named_children:
            if self._is_leaf(child):
                self._assign(child, (), env)
            else:
                self.run(child, env)

    def _if(self, node: Any, env: Env) -> None:
        condition, consequence, alternative = self.grammar.ifs[node.type]
        if node.child_by_field_name(condition) is None:  # Python's x if y else z has no fields
            self._run_all(node.children, env)
            return
        self._run_fields(node, [condition], env)
        then = dict(env)
        self._run_fields(node, [consequence], then)
        states, closed = [then], False
        for other in node.children_by_field_name(alternative):
            if other.type in self.grammar.elifs:
                self._run_fields(other, [condition], env)
                branch = dict(env)
                self._run_fields(other, [consequence], branch)
            else:
                closed, branch = True, dict(env)
                self.run(other, branch)
            states.append(branch)
        self._become(env, states if closed else [*states, env])

    def _loop(self, node: Any, loop: Loop, env: Env) -> None:
        self._run_fields(node, loop.first, env)
        target = value = None
        if loop.assign is not None:
            target, value = (node.child_by_field_name(name) for name in loop.assign)
            if value is not None:
                self.run(value, env)
        left: list[Env] = []
        self.depth += 1
        for _ in range(_TRIPS if self.depth <= _DEEP else 1):
            if not loop.tests_last:
                self._run_fields(node, loop.test, env)
                left.append(dict(env))
            if target is not None and value is not None:
                self._assign(target, self._variables_in(value), env)
            self._run_fields(node, loop.trip, env)
            if loop.tests_last:
                self._run_fields(node, loop.test, env)
                left.append(dict(env))
        self.depth -= 1
        if not loop.tests_last:
            self._run_fields(node, loop.test, env)
            left.append(dict(env))
        self._become(env, left)
        self._run_fields(node, loop.last, env)

    def _switch(self, node: Any, env: Env) -> None:
        before: Env | None = None
        states = []
        for child in _opened(node, self.grammar.cases):
            if child.type not in self.grammar.cases:
                self.run(child, env)
                continue
            state = dict(env)
            if before is not None and self.grammar.fallthrough:
                state = _merge([env, before])
            self._run_all(child.children, state)
            states.append(state)
            before = state
        self._become(env, [env, *states])

    def _try(self, node: Any, env: Env) -> None:
        before = dict(env)
        clauses = self.grammar.handlers | self.grammar.finals
        self._run_all([child for child in node.children if child.type not in clauses], env)
        states = [dict(env)]
        for child in node.children:
            if child.type in self.grammar.handlers:
                state = _merge([before, env])
                self._run_all(child.children, state)
                states.append(state)
        self._become(env, states)
        self._run_all([c for c in node.children if c.type in self.grammar.finals], env)

    def _scope(self, node: Any, env: Env) -> None:
        field = self.grammar.scopes[node.type]
        name = None if field is None else node.child_by_field_name(field)
        if name is not None:
            self._assign(name, (), env)
        inner = dict(env)
        for child in node.children:
            if child == name:
                continue
            if child == node.child_by_field_name("parameters") and self._is_leaf(child):
                self._assign(child, (), inner)  # x -> x + 1
            else:
                self.run(child, inner)

    # -- variables --------------------------------------------------------------------------

    def _assign(self, target: Any, values: Sequence[int], env: Env, reads: bool = False) -> None:
        """Give a target the values; `reads`: it keeps something of what it held."""
        grammar, kind = self.grammar, target.type
        if kind in grammar.members:
            base, name = (target.child_by_field_name(part) for part in grammar.members[kind])
            if base is not None:
                self._assign(base, values, env, reads=True)
            if name is not None:
                self._define(name, values, env, reads)
        elif kind in grammar.subscripts:
            base = target.child_by_field_name(grammar.subscripts[kind])
            self._run_all([child for child in target.named_children if child != base], env)
            self._assign(base, values, env, reads=True)
        elif kind in grammar.declarators:
            declared = target.child_by_field_name(grammar.declarators[kind])
            self._run_all([child for child in target.named_children if child != declared], env)
            self._assign(declared, values, env, reads)
        elif kind in grammar.derefs:
            for child in target.named_children:
                self._assign(child, values, env, reads=True)
        elif self._is_leaf(target):
            self._define(target, values, env, reads)
        elif "call" in kind or "invocation" in kind:
            self.run(target, env)
        elif kind not in grammar.skipped and kind not in grammar.comments:
            for child in target.named_children:
                self._assign(child, values, env, reads)

    def _define(self, leaf: Any, values: Iterable[int], env: Env, reads: bool) -> None:
        if not self._is_variable(leaf):
            return
        token, key = self.index_of[leaf.start_byte], self._key(leaf)
        self._comes_from(token, values)
        if key is None:
            return
        if reads:
            self._comes_from(token, env.get(key, ()))
        env[key] = frozenset({token})

    def _read(self, leaf: Any, env: Env) -> None:
        if not self._is_variable(leaf):
            return
        key = self._key(leaf)
        if key is None:
            return
        token = self.index_of[leaf.start_byte]
        if key in env:
            self._comes_from(token, env[key] - {token})  # a loop's first meeting is no source
        elif leaf.type in _NAMES:
            env[key] = frozenset({token})

    def _comes_from(self, token: int, tokens: Iterable[int]) -> None:
        self.sources.setdefault(token, set()).update(tokens)

    def _variables_in(self, node: Any) -> tuple[int, ...]:
        """Tokens of all variables and constants below a node."""
        if node.id not in self._variables:
            found, waiting = [], [node]
            while waiting:
                one = waiting.pop()
                if one.type in self.grammar.comments or one.type in self.grammar.skipped:
                    continue
                if not self._is_leaf(one):
                    waiting += one.children
                elif self._is_variable(one):
                    found.append(self.index_of[one.start_byte])
            self._variables[node.id] = tuple(sorted(found))
        return self._variables[node.id]

    def _is_leaf(self, node: Any) -> bool:
        return node.child_count == 0 or node.type in self.grammar.atoms

    def _is_variable(self, leaf: Any) -> bool:
        """Names, numbers, strings: leaves that are more than a word of the grammar."""
        return (
            leaf.is_named
            and not leaf.is_error
            and leaf.type not in self.grammar.constants
            and leaf.start_byte in self.index_of
            and leaf.type != leaf.text.decode("utf-8", "replace")
        )

    def _key(self, leaf: Any) -> str | None:
        """What an occurrence is an occurrence of: a name, or a path such as this.x or p->next.

        None where it is a part of something without a name, as in f().x.
        """
        parent = leaf.parent
        if parent is None or parent.type not in self.grammar.members:
            return _spelt(leaf)
        base_field, name_field = self.grammar.members[parent.type]
        if parent.child_by_field_name(name_field) != leaf:
            return _spelt(leaf)
        base = parent.child_by_field_name(base_field)
        path = [_spelt(leaf)]
        while base is not None and base.type in self.grammar.members:
            outer, name_field = self.grammar.members[base.type]
            name = base.child_by_field_name(name_field)
            if name is None or "invocation" in base.type:
                return None
            path.append(_spelt(name))
            base = base.child_by_field_name(outer)
        if base is None:
            return path[0] if len(path) == 1 else None
        if not self._is_leaf(base):
            return None
        return ".".join([_spelt(base), *reversed(path)])


def _spelt(node: Any) -> str:
    return str(node.text.decode("utf-8", "replace"))


def _parts(node: Any) -> list[Any]:
    """The members of a list of targets or values, or the node itself."""
    if node.type in ("pattern_list", "expression_list", "tuple_pattern", "tuple", "list_pattern"):
        return list(node.named_children)
    return [node]


def _opened(node: Any, cases: frozenset[str]) -> list[Any]:
    """Children of a switch, with those of the block that holds its cases in the block's place."""
    found: list[Any] = []
    for child in node.children:
        inner = child.children
        found += inner if any(one.type in cases for one in inner) else [child]
    return found
