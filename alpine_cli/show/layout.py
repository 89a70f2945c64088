"""Tokens laid back onto the source, and the colour of every layer.

`pieces` cuts the source into stretches that, put together, are the source again, character for
character; every view (terminal, page) draws those and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "Fated",
    "Piece",
    "Placed",
    "harmless",
    "ink_on",
    "layer_codes",
    "layer_colours",
    "piece_layer",
    "pieces",
]

# Nine steps of viridis (van der Walt and Smith, CC0) without its two darkest: lightness grows
# evenly, so that the order of layers survives colour blindness and grey print.
_RAMP = ("#433e85", "#38588c", "#2d708e", "#25858e", "#1e9b8a", "#2ab07f", "#52c569", "#86d549",
         "#c2df23", "#fde725")  # fmt: skip

_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"}
_PICTURES |= {0x7F: "␡", 0x0D: "␍"} | dict.fromkeys(range(0x80, 0xA0), "�")

# The same course through the 256 colours of xterm, each clearly another than its neighbours.
_XTERM = (54, 61, 26, 31, 37, 36, 35, 71, 77, 113, 149, 184, 220, 229)


class Placed(Protocol):
    """Anything that stands for characters [start, end) of a source, or for none."""

    @property
    def start(self) -> int | None:
        """First character."""

    @property
    def end(self) -> int | None:
        """Character after the last."""


class Fated(Placed, Protocol):
    """Something placed that a layer may have removed."""

    @property
    def layer(self) -> int | None:
        """The layer that removed it; None: it stayed."""


@dataclass(frozen=True)
class Piece:
    """A stretch of the source.

    Attributes:
        text: its characters.
        tokens: indices of the tokens that stand for it: none for white space that no token stands
            for, several where they share a character.
        cut: the model did not read it, because the source is too long.
    """

    text: str
    tokens: tuple[int, ...] = ()
    cut: bool = False


def pieces(source: str, tokens: Sequence[Placed], cut_at: int | None = None) -> list[Piece]:
    """Cut `source` into pieces; their texts, joined, are `source`.

    Args:
        source: the text.
        tokens: in the order of the text; those without characters are passed over.
        cut_at: first character that was not read.
    """
    found: list[Piece] = []
    reached = 0
    for index, token in enumerate(tokens):
        if token.start is None or token.end is None:
            continue
        end = max(token.end, reached)
        if token.start < reached:  # it shares a character with the token before, whose piece is
            last = found.pop()  # the last one
            found.append(Piece(last.text + source[reached:end], (*last.tokens, index)))
        else:
            if token.start > reached:
                found.append(Piece(source[reached : token.start]))
            found.append(Piece(source[token.start : end], (index,)))
        reached = end
    stop = len(source) if cut_at is None else max(cut_at, reached)
    if stop > reached:
        found.append(Piece(source[reached:stop]))
    if stop < len(source):
        found.append(Piece(source[stop:], cut=True))
    return found


def harmless(text: str) -> str:
    """The text with control characters as visible signs; line ends stay line ends."""
    return text.replace("\r\n", "\n").translate(_PICTURES)


def piece_layer(piece: Piece, tokens: Sequence[Fated]) -> tuple[bool, int | None]:
    """Whether tokens stand for the piece, and the layer that took out the last of them.

    A character that several tokens share counts as gone once all of them are; None: one stayed.
    """
    layers = [tokens[index].layer for index in piece.tokens]
    gone = [layer for layer in layers if layer is not None]
    return bool(layers), max(gone) if layers and len(gone) == len(layers) else None


def layer_colours(pruned: Sequence[int]) -> dict[int, str]:
    """A colour per pruning layer as "#rrggbb": early layers dark, late ones bright."""
    count = len(pruned)
    return {
        layer: _between(number / (count - 1) if count > 1 else 0.4)
        for number, layer in enumerate(pruned)
    }


def layer_codes(pruned: Sequence[int]) -> dict[int, int] | None:
    """As `layer_colours`, in codes of xterm's 256 colours; None where they are too few to tell."""
    count = len(pruned)
    if count > len(_XTERM):
        return None
    spread = [round(number * (len(_XTERM) - 1) / max(1, count - 1)) for number in range(count)]
    return {layer: _XTERM[at] for layer, at in zip(pruned, spread, strict=True)}


def _between(share: float) -> str:
    at = share * (len(_RAMP) - 1)
    low = min(int(at), len(_RAMP) - 2)
    one, two = _channels(_RAMP[low]), _channels(_RAMP[low + 1])
    mixed = (round(a + (at - low) * (b - a)) for a, b in zip(one, two, strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2) on `colour`."""
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
        for c in (channel / 255 for channel in _channels(colour))
    )
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"


def _channels(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
