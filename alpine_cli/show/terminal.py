"""A function's tokens in the terminal: coloured by layer, or, where there is no colour, marked.

With colours a removed token stands on the colour of its layer and what stayed is bold. Without
(NO_COLOR, a pipe, a dumb terminal) runs of removed tokens stand in marks, ‹2:like this›, the
number being the layer; everything else stayed. Text that the model did not read is dimmed, or in
⟪…⟫. Control characters of the source are shown as pictures (␛): a source must not move the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from alpine_cli.show.fates import Answer, FunctionFate, Shown
from alpine_cli.show.layout import (
    Piece,
    harmless,
    ink_on,
    layer_codes,
    layer_colours,
    piece_layer,
    pieces,
)

__all__ = [
    "answer_lines",
    "coloured",
    "heading",
    "layer_styles",
    "legend",
    "length_lines",
    "marked",
]

_BAR = 40
_CUT_LINES = 12


def heading(function: FunctionFate) -> str:
    """The function in one clause: how many tokens it has, and how many are left."""
    read, lengths = function.read, function.lengths
    text = f"{lengths[0]:,} tokens, {function.kept:,} stayed to the end"
    if read.nodes:
        kept = sum(t.variable is not None and t.layer is None for t in function.tokens)
        text = f"{lengths[0]:,} tokens, {read.nodes:,} of them nodes of the data flow;"
        text += f" {function.kept:,} stayed to the end, {kept:,} of them nodes"
    merged = lengths[-1] - function.kept
    if merged:
        text += f", and {merged} merged token{'s' if merged > 1 else ''}"
    if read.tokens_cut:
        text += f"; {read.tokens_cut:,} more were cut off, the model reads {lengths[0]:,}"
    return text


def layer_styles(pruned: tuple[int, ...], colour_system: str | None) -> dict[int, str] | None:
    """rich's style of each layer; None where the terminal has too few colours to tell them apart.

    Args:
        pruned: indices of the layers that prune.
        colour_system: of rich's console; None: no colours.
    """
    grounds = layer_colours(pruned)
    inks = {layer: ink_on(ground) for layer, ground in grounds.items()}
    if colour_system == "truecolor":
        return {layer: f"{inks[layer]} on {ground}" for layer, ground in grounds.items()}
    codes = layer_codes(pruned) if colour_system == "256" else None
    if codes is None:
        return None
    return {
        layer: f"{'black' if inks[layer] == '#000000' else 'bright_white'} on color({code})"
        for layer, code in codes.items()
    }


def coloured(function: FunctionFate, styles: dict[int, str]) -> Text:
    """The source, every removed token on the colour of its layer."""
    text = Text(tab_size=4)
    for piece in _pieces(function):
        shown = harmless(piece.text)
        has_tokens, layer = piece_layer(piece, function.tokens)
        if piece.cut:
            text.append(_shortened(shown), style="bright_black")
        elif not has_tokens:
            text.append(shown)
        elif layer is None:
            text.append(shown, style="bold")
        else:
            if not shown.strip():  # a line end that is a token would be invisible
                shown = shown.replace("\n", "↵\n")
            for line in shown.splitlines(keepends=True):
                body = line.rstrip("\n")  # a coloured line end would paint the rest of the row
                text.append(body, style=styles[layer])
                text.append(line[len(body) :])
    return text


def marked(function: FunctionFate) -> str:
    """The source in plain text, runs of removed tokens in marks."""
    out: list[str] = []
    open_layer: int | None = None
    gap = ""
    for piece in _pieces(function):
        shown = harmless(piece.text)
        has_tokens, layer = piece_layer(piece, function.tokens)
        if not has_tokens and not piece.cut:
            gap += shown  # belongs inside the marks if the run goes on behind it
            continue
        goes_on = layer is not None and layer == open_layer and "\n" not in gap
        if open_layer is not None and not goes_on:
            out.append("›")
        out.append(gap)
        gap = ""
        if piece.cut:
            out.append(f"⟪{_shortened(shown)}⟫")
        elif layer is None:
            out.append(shown)
        else:
            if not shown.strip() and "\n" in shown:
                shown, gap = shown.replace("\n", "↵"), "\n"
            out.append(shown if goes_on else f"‹{layer}:{shown}")
        open_layer = None if piece.cut else layer
    out.append("›" if open_layer is not None else "")
    return "".join([*out, gap])


def _pieces(function: FunctionFate) -> list[Piece]:
    read = function.read
    return pieces(read.source, function.tokens, read.cut_at)


def _shortened(text: str) -> str:
    """The first lines of what was not read; it can be a whole file."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= _CUT_LINES:
        return text
    return "".join(lines[:_CUT_LINES]) + f"… {len(lines) - _CUT_LINES:,} more lines\n"


def legend(shown: Shown, styles: dict[int, str] | None) -> Text:
    """What the colours, or without `styles` the marks, say in words."""
    cut = any(function.read.tokens_cut for function in shown.functions)
    text = Text()
    if styles is None:
        text.append(f"‹n:…› {shown.verb} in layer n; unmarked: stayed to the end")
        text.append("; ⟪…⟫ not read, the function is too long" if cut else "")
        return text
    text.append(f"{shown.verb} in layer ")
    for layer, style in styles.items():
        text.append(f" {layer} ", style=style)
    text.append("  ")
    text.append("bold", style="bold")
    text.append(": stayed to the end")
    if cut:
        text.append("  ")
        text.append("grey", style="bright_black")
        text.append(": not read, the function is too long")
    return text


def length_lines(function: FunctionFate) -> Iterator[str]:
    """The curve of lengths: a bar per layer, tokens entering it, and those behind the last."""
    lengths = function.lengths
    most = max(max(lengths), 1)
    width = len(str(most))
    for at, length in enumerate(lengths):
        filled = round(_BAR * length / most)
        where = f"layer {at:>2}" if at < len(lengths) - 1 else "left    "
        note = ""
        if at < len(function.layers) and function.layers[at].prunes:
            change = lengths[at + 1] - length
            note = f"  {change:+d}".replace("-", "−") if change else "  ±0"
        yield f"{where}  {length:>{width}} {'█' * filled}{note}"


def answer_lines(shown: Shown) -> Iterator[str]:
    """The answers pruned and unpruned, and the sample's own label."""
    if shown.pruned is None or shown.unpruned is None:
        yield f"no answer: {shown.no_answer}"
        return
    yield f"pruned    {_answer(shown.pruned)}"
    yield f"unpruned  {_answer(shown.unpruned)}"
    if shown.truth is not None:
        yield f"label     {shown.truth}"


def _answer(answer: Answer) -> str:
    return f"{answer.label}, probability {answer.probability:.4f}"
