"""What became of every token of a function (or a pair) in a pruned model, layer by layer, and why.

The same weights run twice: pruned as asked, under a trace, and with no layer pruned, so that both
answers can be set side by side. A function's fate depends on nothing but the function, so that a
single function of a pair task can be shown; there is then no answer to show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.errors import BadInput
from alpine_cli.models import TaskModel
from alpine_cli.pruning.apply import prune, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.tracing import TracedForward, TracedLayer
from alpine_cli.show.offsets import ReadSource, read_items, read_source
from alpine_cli.show.sources import Source
from alpine_cli.tasks.loading import Collator, model_inputs

__all__ = [
    "Answer",
    "Fate",
    "FunctionFate",
    "LayerFate",
    "Shown",
    "show_functions",
    "trace_functions",
]

Cause = Literal["too little attention", "too much attention"]


@dataclass(frozen=True)
class Fate:
    """A token of the input, or a merged token.

    Attributes:
        position: place in the model's input; −(l + 1) for the token merged in layer l.
        text: as the vocabulary spells it.
        start, end: its characters in the source; None for special and merged tokens.
        layer: the layer that merged it away; None: it stayed to the end.
        cause: on which side of the band its score lay there.
        scores: by pruning layer that it entered, the mean attention it received there.
        stands_for: of a merged token, how many tokens were merged into it; else 1.
        protected: the pruning never removes it (the input's first and last token; where data flow
            is read, the code's).
        variable: of a node of the data flow, the characters of its variable; else None.
    """

    position: int
    text: str
    start: int | None
    end: int | None
    layer: int | None
    cause: Cause | None
    scores: dict[int, float]
    stands_for: int = 1
    protected: bool = False
    variable: tuple[int, int] | None = None


@dataclass(frozen=True)
class LayerFate:
    """One layer: lengths before attention and in the feed-forward part, and its band of scores."""

    index: int
    prunes: bool
    length_in: int
    length_out: int
    band: tuple[float, float] | None


@dataclass(frozen=True)
class FunctionFate:
    """A function: its text as read, what became of its tokens, and how it shortened.

    Attributes:
        tokens: those of the input, in order.
        merged: merged tokens, by the layer that made them.
    """

    name: str
    read: ReadSource
    tokens: tuple[Fate, ...]
    merged: tuple[Fate, ...]
    layers: tuple[LayerFate, ...]

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens entering each layer, and leaving the last."""
        return (*(layer.length_in for layer in self.layers), self.layers[-1].length_out)

    @property
    def kept(self) -> int:
        """Tokens of the input that stayed to the end, special ones included."""
        return sum(token.layer is None for token in self.tokens)


@dataclass(frozen=True)
class Answer:
    """Probability of each label, in the task's order."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]

    @property
    def label(self) -> str:
        """The label that is predicted."""
        return self.labels[self.probabilities.index(max(self.probabilities))]

    @property
    def probability(self) -> float:
        """Of the predicted label."""
        return max(self.probabilities)


@dataclass(frozen=True)
class Shown:
    """Everything the views draw.

    Attributes:
        functions: one, or the two of a pair.
        pruning: as resolved.
        pruned_layers: indices of the layers that prune.
        pruned, unpruned: the answers; None where `no_answer` says why.
        truth: the sample's own label, if it has one.
        about: what else to cite (checkpoint, model, data …), in the order to print it.
    """

    functions: tuple[FunctionFate, ...]
    task: str
    pruning: PruningConfig
    pruned_layers: tuple[int, ...]
    pruned: Answer | None
    unpruned: Answer | None
    no_answer: str | None
    truth: str | None = None
    about: dict[str, str] = field(default_factory=dict)

    @property
    def verb(self) -> str:
        """What a pruning layer does to a token, as a participle."""
        return "merged away" if self.pruning.merge == "mean" else "removed"


def show_functions(
    checkpoint: Checkpoint,
    sources: Sequence[Source],
    pruning: PruningConfig,
    device: torch.device,
) -> Shown:
    """Run the functions through the checkpoint's model and say what became of their tokens.

    Args:
        checkpoint: the model.
        sources: one function, or as many as a sample of its task has.
        pruning: what to prune; its layers must not be "none".
        device: where to run.

    Raises:
        BadInput: more functions than a sample of the task has.
        DataError: a function without tokens.
        PruningError: the pruning does not fit the model.
    """
    model, tokenizer = checkpoint.build(device)
    expected = model.task.functions_per_sample
    if len(sources) > expected:
        raise BadInput(
            f"{model.task.name} reads {expected} function(s), not {len(sources)}; give"
            f" {'one file' if expected == 1 else 'at most two files'}"
        )
    spec = checkpoint.encoding_spec
    read = [read_source(source.text, tokenizer, spec, source.name) for source in sources]
    batch = Collator(tokenizer.pad_token_id)([read_items(read)])
    inputs = model_inputs(batch, device)
    whole = len(sources) == expected
    pruned = unpruned = None
    prune(model, pruning)
    with torch.inference_mode(), trace(model) as recorded:
        if whole:
            pruned = _answer(model, inputs)
        else:
            model.encoder(**model.encoder_inputs(**inputs))
    if whole:
        prune(model, replace(pruning, layers="none"))
        unpruned = _answer(model, inputs)
    functions = trace_functions(recorded.calls[0], read, [source.name for source in sources])
    return Shown(
        functions=tuple(functions),
        task=model.task.name,
        pruning=pruning,
        pruned_layers=tuple(layer.index for layer in functions[0].layers if layer.prunes),
        pruned=pruned,
        unpruned=unpruned,
        no_answer=None
        if whole
        else f"{model.task.name} compares {expected} functions; give a second file for an answer",
    )


def _answer(model: TaskModel, inputs: dict[str, Any]) -> Answer:
    probabilities = model.predict_proba(**inputs)[0].tolist()
    return Answer(model.task.label_names, tuple(probabilities))


def trace_functions(
    traced: TracedForward, read: Sequence[ReadSource], names: Sequence[str]
) -> list[FunctionFate]:
    """Read a traced forward pass, row by row.

    Args:
        traced: a pass whose row b was `read[b].ids`, padded on the right or not at all.
        read: the rows.
        names: what to call them.
    """
    layers = traced.layers
    return [
        _trace_row(row, one, name, layers, traced.config)
        for row, (one, name) in enumerate(zip(read, names, strict=True))
    ]


def _trace_row(
    row: int, read: ReadSource, name: str, layers: Sequence[TracedLayer], config: PruningConfig
) -> FunctionFate:
    scores: dict[int, dict[int, float]] = {}
    gone: dict[int, int] = {}
    merged: dict[int, int] = {}
    for layer in layers:
        sample = layer.samples[row]
        for position, score in zip(sample.entered, sample.scores or (), strict=False):
            scores.setdefault(position, {})[layer.index] = score
        removed = [*sample.merged, *(-made - 1 for made in sample.merged_tokens_removed)]
        gone |= dict.fromkeys(removed, layer.index)
        if removed and config.merge == "mean":
            merged[-layer.index - 1] = len(removed)
    bands = {layer.index: layer.samples[row].band for layer in layers}
    last = len(read.tokens) - read.nodes - 1

    def fate(
        position: int,
        text: str,
        start: int | None = None,
        end: int | None = None,
        variable: tuple[int, int] | None = None,
    ) -> Fate:
        layer, received = gone.get(position), scores.get(position, {})
        return Fate(
            position=position,
            text=text,
            start=start,
            end=end,
            layer=layer,
            cause=None if layer is None else _cause(received.get(layer), bands[layer]),
            scores=received,
            stands_for=merged.get(position, 1),
            protected=config.protect == "special" and position in (0, last),
            variable=variable,
        )

    return FunctionFate(
        name=name,
        read=read,
        tokens=tuple(
            fate(position, token.text, token.start, token.end, token.variable)
            for position, token in enumerate(read.tokens)
        ),
        merged=tuple(fate(made, f"merged in layer {-made - 1}") for made in merged),
        layers=tuple(
            LayerFate(
                layer.index,
                layer.prunes,
                layer.samples[row].length_in,
                layer.samples[row].length_out,
                bands[layer.index],
            )
            for layer in layers
        ),
    )


def _cause(score: float | None, band: tuple[float, float] | None) -> Cause | None:
    if score is None or band is None:
        return None
    return "too little attention" if score < band[0] else "too much attention"
