"""The names of the library; that type checkers know them, mypy over `benchmarks/` shows."""

from __future__ import annotations

import subprocess
import sys

import pytest

import alpine_cli
from alpine_cli import pruning


@pytest.mark.parametrize("package", [alpine_cli, pruning])
def test_every_name_loads(package):
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in dir(package)
    with pytest.raises(AttributeError, match="has no attribute 'prun'"):
        package.prun  # noqa: B018


def test_the_package_offers_what_its_core_does():
    for name in pruning.__all__:
        assert getattr(alpine_cli, name) is getattr(pruning, name)
    assert set(alpine_cli.__all__) == {*pruning.__all__, "__version__"}


def test_importing_costs_no_torch():
    code = """
import sys, alpine_cli.pruning
alpine_cli.PruningConfig, alpine_cli.PruningError
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
