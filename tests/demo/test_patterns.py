"""Each bug pattern: finds its places, spoils one, and knows the bug when it is there."""

from __future__ import annotations

import ast

import pytest

from alpine_cli.demo.patterns import PATTERNS, BugPattern, Function, inject

CASES = {
    "none-comparison": (
        "def f(x):\n    return 1 if x is not None else 2",
        "def f(x):\n    return 1 if x != None else 2",
    ),
    "mutable-default": ("def f(a, b=None):\n    pass", "def f(a, b=[]):\n    pass"),
    "broad-except": (
        "def f(d):\n    try:\n        g()\n    except KeyError as e:\n        h(e)",
        "def f(d):\n    try:\n        g()\n    except Exception as e:\n        h(e)",
    ),
    "type-comparison": (
        "def f(x):\n    return not isinstance(x, abc.Sized)",
        "def f(x):\n    return not type(x) == abc.Sized",
    ),
    "broad-raise": (
        "def f(x):\n    raise ValueError(x, y=1) from x",
        "def f(x):\n    raise Exception(x, y=1) from x",
    ),
}
BY_NAME = {pattern.name: pattern for pattern in PATTERNS}


def parse(source: str) -> Function:
    (function,) = ast.parse(source).body
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    return function


def nodes(source: str) -> list[ast.AST]:
    return list(ast.walk(parse(source)))


def test_every_pattern_has_a_case() -> None:
    assert set(CASES) == set(BY_NAME)


@pytest.mark.parametrize("name", CASES)
def test_spoils_the_one_place(name: str) -> None:
    pattern, (sound, spoilt) = BY_NAME[name], CASES[name]
    function = parse(sound)
    (site,) = pattern.sites(list(ast.walk(function)))
    assert inject(function, pattern, site) == spoilt
    assert ast.unparse(function) == sound, "the tree is left as it was"
    ast.parse(spoilt)


@pytest.mark.parametrize("name", CASES)
def test_tells_sound_from_spoilt(name: str) -> None:
    sound, spoilt = CASES[name]
    found_in_sound = [pattern.name for pattern in PATTERNS if pattern.found(nodes(sound))]
    found_in_spoilt = [pattern.name for pattern in PATTERNS if pattern.found(nodes(spoilt))]
    assert found_in_sound == []
    assert found_in_spoilt == [name]
    assert not list(BY_NAME[name].sites(nodes(spoilt)))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("mutable-default", "def f(*, k={}):\n    pass"),
        ("mutable-default", "def f():\n    return lambda a=[]: a"),
        ("broad-except", "def f():\n    try:\n        g()\n    except:\n        pass"),
        (
            "broad-except",
            "def f():\n    try:\n        g()\n    except (A, Exception):\n        pass",
        ),
        ("broad-raise", "def f():\n    raise Exception"),
        ("type-comparison", "def f(a, b):\n    return type(a) != type(b)"),
        ("none-comparison", "def f(a):\n    return None == a"),
    ],
)
def test_natural_forms_of_the_bug_are_known(name: str, source: str) -> None:
    assert BY_NAME[name].found(nodes(source))


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("type-comparison", "def f(x):\n    return isinstance(x, (int, str))"),
        ("broad-raise", "def f(x):\n    raise x"),
        ("broad-raise", "def f(x):\n    raise self.make(x)"),
        ("none-comparison", "def f(x):\n    return x is y is None"),
        ("mutable-default", "def f(x=0):\n    pass"),
    ],
)
def test_leaves_alone_what_the_bug_does_not_fit(name: str, source: str) -> None:
    assert not list(BY_NAME[name].sites(nodes(source)))


def test_only_the_last_handler_is_broadened() -> None:
    """In front of others a broad handler would make them unreachable: another bug."""
    source = (
        "def f():\n    try:\n        g()\n    except KeyError:\n        a()\n"
        "    except ValueError:\n        b()"
    )
    function = parse(source)
    pattern = BY_NAME["broad-except"]
    (site,) = pattern.sites(list(ast.walk(function)))
    assert "except KeyError:\n        a()\n    except Exception:" in inject(function, pattern, site)


def test_a_foreign_site_is_refused() -> None:
    pattern: BugPattern = BY_NAME["mutable-default"]
    (site,) = pattern.sites(nodes("def g(a=None):\n    pass"))
    with pytest.raises(ValueError, match="not part of f"):
        inject(parse("def f(a=None):\n    pass"), pattern, site)
