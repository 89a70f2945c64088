"""Data flow of source code: its tokens, its variables, and where each one's value comes from.

For GraphCodeBERT (Guo et al., "GraphCodeBERT: Pre-training Code Representations with Data Flow",
ICLR 2021, §3), which reads a function's data flow besides its code. Parsing needs tree-sitter and
the grammars, `pip install alpine-cli[graph]`; importing this package does not, nor torch.
"""

from __future__ import annotations

from alpine_cli.dataflow.extraction import DataFlow, FlowNode, extract_data_flow
from alpine_cli.dataflow.grammars import LANGUAGES, require_grammar

__all__ = ["LANGUAGES", "DataFlow", "FlowNode", "extract_data_flow", "require_grammar"]
