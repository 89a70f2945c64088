"""A showing as one JSON document: `alpine show --json`."""

from __future__ import annotations

from typing import Any

from alpine_cli.show.fates import Answer, Fate, FunctionFate, Shown

__all__ = ["shown_record"]


def shown_record(shown: Shown) -> dict[str, Any]:
    """Plain values. Characters are counted in Unicode code points from 0, ends excluded."""
    return {
        "about": shown.about,
        "task": shown.task,
        "pruning": shown.pruning.to_dict(),
        "pruned_layers": list(shown.pruned_layers),
        "answer": {
            "pruned": _answer(shown.pruned),
            "unpruned": _answer(shown.unpruned),
            "label": shown.truth,
            "absent_because": shown.no_answer,
        },
        "functions": [_function(function) for function in shown.functions],
    }


def _answer(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    return {
        "label": answer.label,
        "probabilities": dict(zip(answer.labels, answer.probabilities, strict=True)),
    }


def _function(function: FunctionFate) -> dict[str, Any]:
    return {
        "name": function.name,
        "source": function.read.source,
        "cut_at": function.read.cut_at,
        "tokens_cut": function.read.tokens_cut,
        "lengths": list(function.lengths),
        "layers": [
            {
                "layer": layer.index,
                "prunes": layer.prunes,
                "tokens_in": layer.length_in,
                "tokens_out": layer.length_out,
                "score_band": None if layer.band is None else list(layer.band),
            }
            for layer in function.layers
        ],
        "tokens": [_fate(token) for token in function.tokens],
        "merged_tokens": [_fate(token) for token in function.merged],
    }


def _fate(fate: Fate) -> dict[str, Any]:
    return {
        "position": fate.position,
        "token": fate.text,
        "start": fate.start,
        "end": fate.end,
        "variable": None if fate.variable is None else list(fate.variable),
        "layer": fate.layer,
        "cause": fate.cause,
        "protected": fate.protected,
        "stands_for": fate.stands_for,
        "scores": {str(layer): score for layer, score in fate.scores.items()},
    }
