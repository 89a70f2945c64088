"""A showing as one self-contained page: `alpine show --html`.

Without JavaScript the page shows the end: every token in the colour of its layer, the legend in
words, the curve of lengths. With it, a slider shows the sequence after each layer, and pointing
at, tapping or focusing a token (arrow keys move between tokens) tells its score in every layer.
"""

from __future__ import annotations

import json
from typing import Any

from markupsafe import Markup

from alpine_cli.report.page import page
from alpine_cli.show.fates import Fate, FunctionFate, Shown
from alpine_cli.show.layout import harmless, ink_on, layer_colours, piece_layer, pieces
from alpine_cli.show.page_parts import asset, bars, render
from alpine_cli.show.terminal import heading

__all__ = ["fates_page"]

_CHOICES = {
    "band": "A token goes where the attention it receives lies outside a band around the mean of"
    " its function",
    "floor": "A token goes where the attention it receives lies far below the mean of its function",
}
_CHART_HEIGHT, _CHART_STEP = 120.0, 32.0


def fates_page(shown: Shown) -> str:
    """The whole document."""
    names = " and ".join(function.name for function in shown.functions)
    colours = layer_colours(shown.pruned_layers)
    body = render(
        "fates.html",
        choice=_CHOICES.get(shown.pruning.rule, f"The rule is “{shown.pruning.rule}”"),
        shown=shown,
        functions=[_function(function) for function in shown.functions],
        layers=[
            {"index": layer, "count": _removed_in(shown, layer)} for layer in shown.pruned_layers
        ],
        depth=len(shown.functions[0].layers),
        data=_embedded(shown),
    )
    style = asset("fates.css") + "".join(
        f".l{layer}{{--ground:{colour};--on:{ink_on(colour)}}}\n"
        for layer, colour in colours.items()
    )
    return page(
        f"{names}: what is {shown.verb}, layer by layer",
        body,
        script=asset("fates.js"),
        style=style,
    )


def _removed_in(shown: Shown, layer: int) -> int:
    return sum(token.layer == layer for function in shown.functions for token in function.tokens)


def _function(function: FunctionFate) -> dict[str, Any]:
    """What the template needs of one function."""
    lengths = function.lengths
    return {
        "name": function.name,
        "heading": heading(function),
        "pieces": [
            {
                "text": harmless(piece.text),
                "tokens": " ".join(map(str, piece.tokens)),
                "layer": piece_layer(piece, function.tokens)[1],
                "cut": piece.cut,
            }
            for piece in pieces(function.read.source, function.tokens, function.read.cut_at)
        ],
        "special": [token for token in function.tokens if token.start is None],
        "merged": [
            {"made": -token.position - 1, "layer": token.layer, "count": token.stands_for}
            for token in function.merged
        ],
        "lengths": lengths,
        "bars": bars(
            lengths,
            [*(str(layer.index) for layer in function.layers), "left"],
            [*(layer.prunes for layer in function.layers), False],
            _CHART_HEIGHT,
            _CHART_STEP,
        ),
        "chart_height": _CHART_HEIGHT,
        "chart_width": _CHART_STEP * len(lengths),
    }


def _embedded(shown: Shown) -> Markup:
    """The numbers behind the tokens, for the script: JSON that cannot end its element."""
    document = [
        {
            "lengths": list(function.lengths),
            "bands": {
                str(layer.index): [_short(end) for end in layer.band]
                for layer in function.layers
                if layer.band is not None
            },
            "tokens": {str(token.position): _token(token) for token in function.tokens}
            | {str(token.position): _token(token) for token in function.merged},
        }
        for function in shown.functions
    ]
    text = json.dumps(document, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _token(token: Fate) -> dict[str, Any]:
    return {
        "text": token.text,
        "layer": token.layer,
        "cause": token.cause,
        "protected": token.protected,
        "count": token.stands_for,
        "scores": {str(layer): _short(score) for layer, score in token.scores.items()},
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")
