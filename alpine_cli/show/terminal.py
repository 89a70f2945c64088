"""A function's tokens in the terminal: coloured by layer, or, where there is no colour, marked.

With colours a removed token stands on the colour of its layer and what stayed is bold. Without
(NO_COLOR, a pipe, a dumb terminal) runs of removed tokens stand in marks, ‹2:like this›, the
number being the layer; everything else stayed. Text that the model did not read is dimmed, or in
⟪…⟫. Control characters of the source are shown as pictures (␛): a source must not move the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from alpine_cli.show.fates import Answer, Fate, FunctionFate, Shown
from alpine_cli.show.layout import Piece, ink_on, layer_colours, pieces

__all__ = ["answer_lines", "coloured", "heading", "legend", "length_lines", "marked", "piece_layer"]

_BAR = 40
_CUT_LINES = 12
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"}
_PICTURES |= {0x7F: "␡", 0x0D: "␍"} | dict.fromkeys(range(0x80, 0xA0), "�")


def harmless(text: str) -> str:
    """The text with control characters as visible signs; line ends stay line ends."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def piece_layer(piece: Piece, tokens: tuple[Fate, ...]) -> tuple[bool, int | None]:
    """Whether tokens stand for the piece, and the layer that took out the last of them.

    A character that several tokens share counts as gone once all of them are; None: one stayed.
    """
    layers = [tokens[index].layer for index in piece.tokens]
    gone = [layer for layer in layers if layer is not None]
    return bool(layers), max(gone) if layers and len(gone) == len(layers) else None


def heading(function: FunctionFate) -> str:
    """The function in one clause: how many tokens it has, and how many are left."""
    read, lengths = function.read, function.lengths
    text = f"{lengths[0]:,} tokens, {function.kept:,} stayed to the end"
    merged = lengths[-1] - function.kept
    if merged:
        text += f", and {merged} merged token{'s' if merged > 1 else ''}"
    if read.tokens_cut:
        text += f"; {read.tokens_cut:,} more were cut off, the model reads {lengths[0]:,}"
    return text


def coloured(function: FunctionFate, pruned: tuple[int, ...]) -> Text:
    """The source, every removed token on the colour of its layer."""
    colours = layer_colours(pruned)
    text = Text()
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
            style = f"{ink_on(colours[layer])} on {colours[layer]}"
            for line in _with_line_ends(shown).splitlines(keepends=True):
                body = line.rstrip("\n")  # a coloured line end would paint the rest of the row
                text.append(body, style=style)
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
        elif layer is not None and not goes_on:
            out.append(f"‹{layer}:{_with_line_ends(shown)}")
        else:
            out.append(shown if layer is None else _with_line_ends(shown))
        open_layer = None if piece.cut else layer
    out.append("›" if open_layer is not None else "")
    return "".join([*out, gap])


def _with_line_ends(text: str) -> str:
    """A removed token that is a line end, made visible."""
    return text if text.strip() else text.replace("\n", "↵\n")


def _pieces(function: FunctionFate) -> list[Piece]:
    read = function.read
    return pieces(read.source, function.tokens, read.cut_at)


def _shortened(text: str) -> str:
    """The first lines of what was not read; it can be a whole file."""
    lines = text.splitlines(keepends=True)
    if len(lines) <= _CUT_LINES:
        return text
    return "".join(lines[:_CUT_LINES]) + f"… {len(lines) - _CUT_LINES:,} more lines\n"


def legend(shown: Shown, *, colour: bool) -> Text:
    """What the colours (or the marks) say, in words."""
    cut = any(function.read.tokens_cut for function in shown.functions)
    text = Text()
    if not colour:
        text.append(f"‹n:…› {shown.verb} in layer n; unmarked: stayed to the end")
        text.append("; ⟪…⟫ not read, the function is too long" if cut else "")
        return text
    text.append(f"{shown.verb} in layer ")
    for layer, ground in layer_colours(shown.pruned_layers).items():
        text.append(f" {layer} ", style=f"{ink_on(ground)} on {ground}")
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
