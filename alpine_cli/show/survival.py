"""Which kinds of token survive: kinds x layers, counted over every function of a split.

A function counts once, however many pairs it is part of: its fate does not depend on the pair.
Shares are pooled over all tokens of a kind; their intervals resample functions, not tokens,
because the tokens of one function live and die together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.measure.statistics import share_interval
from alpine_cli.pruning.apply import prune, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Interval
from alpine_cli.show.kinds import KINDS, NODES, kind_of, kinds_of_characters
from alpine_cli.show.offsets import ReadSource, ReadToken, read_items, read_sources
from alpine_cli.tasks.data import Sample
from alpine_cli.tasks.loading import Collator, model_inputs

__all__ = ["Counts", "KindSurvival", "Survival", "count_survival", "summarise_survival"]

OnProgress = Callable[[int, int], None]
_AT_ONCE = 32
ALL = "all tokens"


@dataclass(frozen=True)
class Counts:
    """Tokens of F functions by kind, and how many of them enter each of L layers.

    Attributes:
        present: (F, K, L + 1) int64; entry l of the last axis: still there when entering layer l,
            the last one: left at the end. Special and merged tokens are not counted.
        pruned_layers: indices of the layers that prune.
        cut: functions that were too long and read in part.
        data_sha256: of the encoded samples, as result files have it.
    """

    present: NDArray[np.int64]
    pruned_layers: tuple[int, ...]
    cut: int
    data_sha256: str


@dataclass(frozen=True)
class KindSurvival:
    """One kind.

    Attributes:
        kind: its name, or "all tokens".
        tokens: how many there are.
        functions: in how many functions.
        share: of all tokens.
        share_interval: None below 5 functions, and for all tokens.
        surviving: share of its tokens that stay to the end.
        surviving_interval: over the functions that hold such a token; None below 5.
        by_layer: share of its tokens that enter each layer, and are left at the end.
    """

    kind: str
    tokens: int
    functions: int
    share: float
    share_interval: Interval | None
    surviving: float
    surviving_interval: Interval | None
    by_layer: tuple[float, ...]


@dataclass(frozen=True)
class Survival:
    """The finding, with what is needed to cite it.

    Attributes:
        all: all kinds together.
        kinds: those that occur, most frequent first.
        functions, cut: how many functions, and how many of them were read in part.
        pruned_layers: indices of the layers that prune.
        language, language_reason: which lexer, and why.
        about: checkpoint, data and the rest, in the order to print.
    """

    all: KindSurvival
    kinds: tuple[KindSurvival, ...]
    functions: int
    cut: int
    pruned_layers: tuple[int, ...]
    language: str
    language_reason: str
    about: dict[str, str]

    @property
    def every(self) -> tuple[KindSurvival, ...]:
        """All tokens first, then every kind."""
        return (self.all, *self.kinds)


def count_survival(
    checkpoint: Checkpoint,
    samples: Sequence[Sample],
    pruning: PruningConfig,
    lexer: Any,
    device: torch.device,
    on_progress: OnProgress = lambda done, total: None,
) -> Counts:
    """Run every function of the samples once and count.

    Args:
        checkpoint: the model.
        samples: their functions are run; each text once.
        pruning: what to prune.
        lexer: see `kinds.lexer_for`.
        device: where to run.
        on_progress: told how many functions of how many are done.
    """
    model, tokenizer = checkpoint.build(device)
    prune(model, pruning)
    texts = list(dict.fromkeys(text for sample in samples for text in sample.code))
    where = {text: sample.where or sample.id for sample in samples for text in sample.code}
    read: list[ReadSource] = []
    for start in range(0, len(texts), 16 * _AT_ONCE):
        some = texts[start : start + 16 * _AT_ONCE]
        named = [where[text] for text in some]
        read += read_sources(some, tokenizer, checkpoint.encoding_spec, named)
    collate = Collator(tokenizer.pad_token_id)
    order = sorted(range(len(read)), key=lambda index: -len(read[index].tokens))
    present: NDArray[np.int64] | None = None
    depth, pruned = 0, tuple[int, ...]()
    for start in range(0, len(order), _AT_ONCE):
        group = order[start : start + _AT_ONCE]
        batch = collate([read_items([read[i]], i) for i in group])
        with torch.inference_mode(), trace(model) as recorded:
            model.encoder(**model.encoder_inputs(**model_inputs(batch, device)))
        traced = recorded.calls[0]
        if present is None:
            depth, pruned = len(traced.tokens) - 1, tuple(sorted(traced.plans))
            present = np.zeros((len(read), len(KINDS), depth + 1), dtype=np.int64)
        removed_in = traced.removed_in().numpy()
        for row, index in enumerate(group):
            kinds = _kinds_of_tokens(read[index], lexer)
            present[index] = _present(kinds, removed_in[row, : len(kinds)], depth)
        on_progress(min(start + _AT_ONCE, len(order)), len(order))
    assert present is not None  # a split holds at least one sample
    of_text = dict(zip(texts, read, strict=True))
    content: list[Any] = [
        [[of_text[t].ids for t in s.code] for s in samples],
        [s.label for s in samples],
    ]
    if checkpoint.encoding_spec.data_flow is not None:
        graphs = [[of_text[t].graph for t in s.code] for s in samples]
        content.append([[graph and graph.to_dict() for graph in some] for some in graphs])
    return Counts(
        present,
        pruned,
        cut=sum(one.tokens_cut > 0 for one in read),
        data_sha256=hashlib.sha256(
            json.dumps(content, separators=(",", ":")).encode("ascii")
        ).hexdigest(),
    )


def _kinds_of_tokens(read: ReadSource, lexer: Any) -> NDArray[np.int64]:
    """(n,) kind of each token; −1 for tokens without text that are no nodes either."""
    kinds = kinds_of_characters(read.source, lexer)

    def kind(token: ReadToken) -> int:
        if token.variable is not None:
            return KINDS.index(NODES)
        if token.start is None or token.end is None:
            return -1
        return kind_of(kinds, token.start, token.end)

    return np.array([kind(token) for token in read.tokens])


def _present(
    kinds: NDArray[np.int64], removed_in: NDArray[np.int64], depth: int
) -> NDArray[np.int64]:
    """(K, depth + 1) tokens of each kind that are still there when entering each layer."""
    counted = kinds >= 0
    gone = np.zeros((len(KINDS), depth + 1), dtype=np.int64)
    np.add.at(gone, (kinds[counted], removed_in[counted]), 1)
    # Removed in layer l: present when entering layers 0 to l. Never removed is depth.
    return gone[:, ::-1].cumsum(axis=1)[:, ::-1]


def summarise_survival(
    counts: Counts, language: str, language_reason: str, about: dict[str, str]
) -> Survival:
    """Shares with their intervals."""
    per_function = counts.present[:, :, 0].sum(axis=1)
    every = _summarise(ALL, counts.present.sum(axis=1), per_function)
    kinds = [
        _summarise(kind, counts.present[:, index], per_function)
        for index, kind in enumerate(KINDS)
        if counts.present[:, index, 0].any()
    ]
    return Survival(
        all=every,
        kinds=tuple(sorted(kinds, key=lambda found: -found.tokens)),
        functions=len(counts.present),
        cut=counts.cut,
        pruned_layers=counts.pruned_layers,
        language=language,
        language_reason=language_reason,
        about=about | {"data SHA-256": counts.data_sha256},
    )


def _summarise(
    kind: str, present: NDArray[np.int64], per_function: NDArray[np.int64]
) -> KindSurvival:
    """One kind, from its (F, L + 1) counts and the (F,) tokens of all kinds."""
    totals = present.sum(axis=0)
    holds, has_tokens = present[:, 0] > 0, per_function > 0
    share = None
    if kind != ALL:
        share = share_interval(
            present[has_tokens, 0].tolist(), per_function[has_tokens].tolist(), unit="function"
        )
    return KindSurvival(
        kind=kind,
        tokens=int(totals[0]),
        functions=int(holds.sum()),
        share=float(totals[0] / per_function.sum()),
        share_interval=share,
        surviving=float(totals[-1] / totals[0]),
        surviving_interval=share_interval(
            present[holds, -1].tolist(), present[holds, 0].tolist(), unit="function"
        ),
        by_layer=tuple(float(value) for value in totals / totals[0]),
    )
