"""What the data flow of a language rests on: names of its grammar's nodes and fields, and a parser.

`flow` knows statements (assignment, loop, branch …), a `Grammar` says which node of tree-sitter's
tree is which. A language joins by one `Grammar` here and its package in `pyproject.toml`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import Any

from alpine_cli.errors import ConfigError

__all__ = ["LANGUAGES", "Grammar", "Loop", "parser_for", "require_grammar"]

NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Loop:
    """The parts of a loop, by field.

    Attributes:
        first: run once, before.
        test: run before every trip, and where the loop is left.
        assign: (target, value) of a loop over elements, assigned before every trip.
        trip: run in every trip.
        tests_last: the test follows the trip, so there is one trip at least.
        last: run once, behind (Python's `else`).
    """

    first: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    assign: tuple[str, str] | None = None
    trip: tuple[str, ...] = ("body",)
    tests_last: bool = False
    last: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grammar:
    """Node types of one language, by what they do to variables.

    Attributes:
        package: the Python package of the grammar.
        comments: left out of code and flow.
        docstrings: statements that are left out where they hold nothing but a string.
        atoms: nodes that are one token with all that is in them.
        constants: named leaves that are no variables nor values.
        skipped: nodes whose variables are no values (annotations).
        assigns: (target, value) fields of assignments; a mere definition where the value is absent.
        augmented: assignments that read their target, besides those whose operator says so.
        updates: ++ and --; the operand is the only named child.
        bare: declarations, with the field of what they declare without a value.
        parameters: lists whose bare names are definitions.
        ifs: (condition, consequence, alternative) fields.
        elifs: alternatives that bring their own condition.
        loops: see `Loop`.
        switches: nodes around cases.
        cases: a case of a switch.
        fallthrough: a case may be entered from the one before.
        tries: nodes whose `handlers` may follow their body or interrupt it.
        finals: what runs after either.
        scopes: nodes that keep the definitions in them to themselves, with the field of the name
            that they define outside, if any.
        comprehensions: scopes whose clauses run before their body.
        members: (object, name) fields of a part of something.
        subscripts: the fields of the base of something with an index.
        derefs: nodes whose operand is changed in part when they are assigned to.
        declarators: the field of the declared name, in nodes that hold more than the name.
        keywords: named arguments, (name, value).
        aliases: the field that the rest of the node is assigned to.
    """

    package: str
    comments: frozenset[str]
    atoms: frozenset[str]
    docstrings: frozenset[str] = NONE
    constants: frozenset[str] = NONE
    skipped: frozenset[str] = NONE
    assigns: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    augmented: frozenset[str] = NONE
    updates: frozenset[str] = NONE
    bare: Mapping[str, str] = field(default_factory=dict)
    parameters: frozenset[str] = NONE
    ifs: Mapping[str, tuple[str, str, str]] = field(default_factory=dict)
    elifs: frozenset[str] = NONE
    loops: Mapping[str, Loop] = field(default_factory=dict)
    switches: frozenset[str] = NONE
    cases: frozenset[str] = NONE
    fallthrough: bool = True
    tries: frozenset[str] = NONE
    handlers: frozenset[str] = NONE
    finals: frozenset[str] = NONE
    scopes: Mapping[str, str | None] = field(default_factory=dict)
    comprehensions: frozenset[str] = NONE
    members: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    subscripts: Mapping[str, str] = field(default_factory=dict)
    derefs: frozenset[str] = NONE
    declarators: Mapping[str, str] = field(default_factory=dict)
    keywords: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)


_IF = ("condition", "consequence", "alternative")
_WHILE = Loop(test=("condition",))
_DO = Loop(test=("condition",), tests_last=True)

_JAVA = Grammar(
    package="tree_sitter_java",
    comments=frozenset({"line_comment", "block_comment", "comment"}),
    atoms=frozenset({"string_literal", "character_literal", "template_expression"}),
    constants=frozenset({"void_type", "boolean_type", "integral_type", "floating_point_type"}),
    assigns={
        "assignment_expression": ("left", "right"),
        "variable_declarator": ("name", "value"),
        "formal_parameter": ("name", "value"),
        "catch_formal_parameter": ("name", "value"),
        "resource": ("name", "value"),
    },
    updates=frozenset({"update_expression"}),
    parameters=frozenset({"inferred_parameters"}),
    ifs={"if_statement": _IF, "ternary_expression": _IF},
    loops={
        "while_statement": _WHILE,
        "do_statement": _DO,
        "for_statement": Loop(("init",), ("condition",), trip=("body", "update")),
        "enhanced_for_statement": Loop(assign=("name", "value")),
    },
    switches=frozenset({"switch_block"}),
    cases=frozenset({"switch_block_statement_group", "switch_rule"}),
    tries=frozenset({"try_statement", "try_with_resources_statement"}),
    handlers=frozenset({"catch_clause"}),
    finals=frozenset({"finally_clause"}),
    scopes={
        "method_declaration": "name",
        "constructor_declaration": "name",
        "lambda_expression": None,
        "class_body": None,
    },
    members={"field_access": ("object", "field"), "method_invocation": ("object", "name")},
    subscripts={"array_access": "array"},
)

_PYTHON = Grammar(
    package="tree_sitter_python",
    comments=frozenset({"comment"}),
    docstrings=frozenset({"expression_statement"}),
    atoms=frozenset({"string"}),
    skipped=frozenset({"type"}),
    assigns={
        "assignment": ("left", "right"),
        "augmented_assignment": ("left", "right"),
        "named_expression": ("name", "value"),
        "default_parameter": ("name", "value"),
        "typed_default_parameter": ("name", "value"),
        "for_in_clause": ("left", "right"),
    },
    augmented=frozenset({"augmented_assignment"}),
    parameters=frozenset(
        {
            "parameters",
            "lambda_parameters",
            "typed_parameter",
            "list_splat_pattern",
            "dictionary_splat_pattern",
        }
    ),
    ifs={"if_statement": _IF},
    elifs=frozenset({"elif_clause"}),
    loops={
        "while_statement": Loop(test=("condition",), last=("alternative",)),
        "for_statement": Loop(assign=("left", "right"), last=("alternative",)),
    },
    switches=frozenset({"match_statement"}),
    cases=frozenset({"case_clause"}),
    fallthrough=False,
    tries=frozenset({"try_statement"}),
    handlers=frozenset({"except_clause", "except_group_clause"}),
    finals=frozenset({"finally_clause"}),
    scopes={"function_definition": "name", "class_definition": "name", "lambda": None},
    comprehensions=frozenset(
        {
            "list_comprehension",
            "set_comprehension",
            "dictionary_comprehension",
            "generator_expression",
        }
    ),
    members={"attribute": ("object", "attribute")},
    subscripts={"subscript": "value"},
    keywords={"keyword_argument": ("name", "value")},
    aliases={"as_pattern": "alias"},
)

_C = Grammar(
    package="tree_sitter_c",
    comments=frozenset({"comment"}),
    atoms=frozenset({"string_literal", "char_literal", "system_lib_string"}),
    constants=frozenset({"primitive_type"}),
    assigns={
        "assignment_expression": ("left", "right"),
        "init_declarator": ("declarator", "value"),
        "parameter_declaration": ("declarator", "value"),
    },
    updates=frozenset({"update_expression"}),
    bare={"declaration": "declarator"},
    ifs={"if_statement": _IF, "conditional_expression": _IF},
    loops={
        "while_statement": _WHILE,
        "do_statement": _DO,
        "for_statement": Loop(("initializer",), ("condition",), trip=("body", "update")),
    },
    switches=frozenset({"switch_statement"}),
    cases=frozenset({"case_statement"}),
    scopes={"function_definition": None},
    members={"field_expression": ("argument", "field")},
    subscripts={"subscript_expression": "argument"},
    derefs=frozenset({"pointer_expression"}),
    declarators={"array_declarator": "declarator", "function_declarator": "declarator"},
)

LANGUAGES: dict[str, Grammar] = {"java": _JAVA, "python": _PYTHON, "c": _C}
"""The languages whose data flow is known, by name."""


@cache
def parser_for(language: str) -> Any:
    """A tree-sitter parser of one of `LANGUAGES`.

    Raises:
        ConfigError: no such language, or tree-sitter or the grammar is not installed.
    """
    if language not in LANGUAGES:
        raise ConfigError(
            f"data_flow: the data flow of {language!r} is not known; languages:"
            f" {', '.join(LANGUAGES)}"
        )
    package = LANGUAGES[language].package
    try:
        tree_sitter, grammar = import_module("tree_sitter"), import_module(package)
    except ImportError as error:
        raise ConfigError(
            f"data_flow: reading {language} needs tree-sitter and its grammar, but {error.name} is"
            " not installed; install it with: pip install 'alpine-cli[graph]'"
        ) from error
    return tree_sitter.Parser(tree_sitter.Language(grammar.language()))


def require_grammar(language: str) -> None:
    """Find out now whether `language` can be parsed; see `parser_for` for what it raises."""
    parser_for(language)
