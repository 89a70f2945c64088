"""Tests of data flow need the extra `graph`; without it they are skipped, and say so."""

from __future__ import annotations

import pytest

for _package in ("tree_sitter", "tree_sitter_java", "tree_sitter_python", "tree_sitter_c"):
    pytest.importorskip(_package, reason="needs the extra: pip install 'alpine-cli[graph]'")
