"""Classification heads: from the encoder's first token to two logits.

Every head returns logits (B, 2), so that softmax, argmax and cross-entropy mean the same
everywhere. ALPINE's one-logit head z becomes [0, z]: its softmax is [1 - sigmoid(z), sigmoid(z)]
and its cross-entropy is the binary cross-entropy of sigmoid(z), computed without the logarithm of
a rounded zero that the published code guards with 1e-10.

Shape letters: B samples, R = B × functions per sample, L tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from alpine_cli.errors import ConfigError
from alpine_cli.tasks.registry import TaskSpec

__all__ = ["DefectHead", "PairHead", "build_head", "resolve_head"]


class DefectHead(nn.Module):
    """ALPINE's head for one function: dropout, dense D→D, tanh, dropout, one logit.

    Its parameters are named as in the published `pruning/classifier.py`.
    """

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, 1)

    def forward(self, first_RD: Tensor) -> Tensor:
        """First tokens (R, D) to logits (B, 2); R = B."""
        hidden_BD = torch.tanh(self.dense(self.dropout(first_RD)))
        z_B1 = self.out_proj(self.dropout(hidden_BD))
        return pad(z_B1, (1, 0))  # (B, 2): [0, z]


class PairHead(nn.Module):
    """The clone-detection head: both first tokens, dropout, dense 2D→D, tanh, dropout, two logits.

    The same in CodeXGLUE, ALPINE (`pruning/bcb_classifier.py`) and Compressor.
    """

    def __init__(self, hidden_size: int, dropout: float) -> None:
        super().__init__()
        self.dense = nn.Linear(2 * hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)
        self.out_proj = nn.Linear(hidden_size, 2)

    def forward(self, first_RD: Tensor) -> Tensor:
        """First tokens (R, D), the two of a pair adjacent, to logits (B, 2); R = 2 B."""
        pair_B2D = first_RD.reshape(-1, 2 * first_RD.shape[-1])
        hidden_BD = torch.tanh(self.dense(self.dropout(pair_B2D)))
        return self.out_proj(self.dropout(hidden_BD))


_ALPINE_HEADS: dict[int, Callable[[int, float], nn.Module]] = {1: DefectHead, 2: PairHead}


def resolve_head(task: TaskSpec, name: str | None) -> str:
    """The head's name, the task's default for None.

    Raises:
        ConfigError: the task has no such head.
    """
    if name is None:
        return task.default_head
    if name not in task.heads:
        raise ConfigError(
            f"head: {task.name} has no head {name!r}; it has: {', '.join(task.heads)}"
        )
    return name


def build_head(task: TaskSpec, name: str, hidden_size: int, dropout: float) -> nn.Module | None:
    """A freshly initialised head; None for "standard", whose head is inside the encoder's model."""
    if name == "standard":
        return None
    return _ALPINE_HEADS[task.functions_per_sample](hidden_size, dropout)
