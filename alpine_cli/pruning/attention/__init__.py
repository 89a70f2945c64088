"""Attention over packed sequences, with the scores of the tokens where they are asked for.

Five back ends behind one signature (`Attend`); `choice` says which serves what. None computes an
attention matrix that nobody reads. Scores are taken before attention dropout and carry no gradient.

Causal attention (`causal`) of what is left of a decoder's tokens is plain causal attention,
because they stay in order (see `plan`): kernels are told so and need no mask, left-aligned padding
included.
"""

from __future__ import annotations

from alpine_cli.pruning.attention.choice import (
    BACKENDS,
    BackendName,
    Request,
    attention_backend,
    backend_name,
    choose_backend,
)
from alpine_cli.pruning.attention.flash_attn import attend_flash_attn
from alpine_cli.pruning.attention.nested import attend_nested
from alpine_cli.pruning.attention.padded import attend_grid, attend_padded, grid_probabilities
from alpine_cli.pruning.attention.per_sequence import attend_per_sequence
from alpine_cli.pruning.attention.protocol import Attend, Attended
from alpine_cli.pruning.attention.varlen import attend_varlen

__all__ = [
    "BACKENDS",
    "Attend",
    "Attended",
    "BackendName",
    "Request",
    "attend_flash_attn",
    "attend_grid",
    "attend_nested",
    "attend_padded",
    "attend_per_sequence",
    "attend_varlen",
    "attention_backend",
    "backend_name",
    "choose_backend",
    "grid_probabilities",
]
