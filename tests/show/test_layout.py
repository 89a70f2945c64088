"""Pieces put together are the source; colours keep order and contrast; marks and colours agree."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.show import terminal
from alpine_cli.show.fates import Shown, show_functions
from alpine_cli.show.layout import harmless, ink_on, layer_codes, layer_colours, piece_layer, pieces
from alpine_cli.show.sources import Source
from tests.show.conftest import JAVA


@dataclass(frozen=True)
class At:
    start: int | None
    end: int | None
    layer: int | None = None


@st.composite
def placed(draw: st.DrawFn) -> tuple[str, list[At], int | None]:
    """A text, tokens in its order that may share characters, and perhaps a cut behind them."""
    text = draw(st.text("ab \n", min_size=1, max_size=30))
    tokens, at = [], 0
    while at < len(text) and draw(st.booleans()):
        start = draw(st.integers(max(0, at - 1), len(text) - 1))
        end = draw(st.integers(start + 1, len(text)))
        tokens.append(At(start, end, draw(st.sampled_from([None, 0, 3]))))
        at = end
    cut = draw(st.none() | st.integers(at, len(text)))
    return text, tokens, cut


@given(placed())
def test_pieces_are_the_source(case: tuple[str, list[At], int | None]) -> None:
    text, tokens, cut = case
    found = pieces(text, [At(None, None), *tokens], cut)
    assert "".join(piece.text for piece in found) == text
    named = [index for piece in found for index in piece.tokens]
    assert named == list(range(1, len(tokens) + 1))
    at = 0
    for piece in found:
        for index in piece.tokens:
            token = tokens[index - 1]
            assert token.start is not None
            assert token.end is not None
            assert at <= token.start < token.end <= at + len(piece.text)
        at += len(piece.text)
    unread = "".join(piece.text for piece in found if piece.cut)
    assert text.endswith(unread)
    assert len(unread) == (0 if cut is None else len(text) - cut)


def test_a_shared_character_is_gone_once_its_last_token_is() -> None:
    tokens = [At(0, 1, 2), At(0, 1, 5), At(0, 1, None)]
    (both,) = pieces("é", tokens[:2])
    assert piece_layer(both, tokens) == (True, 5)
    (all_three,) = pieces("é", tokens)
    assert piece_layer(all_three, tokens) == (True, None)
    assert piece_layer(pieces(" ", [])[0], []) == (False, None)


@pytest.mark.parametrize("layers", [(0,), (1, 3), tuple(range(12)), tuple(range(14))], ids=len)
def test_every_layer_has_its_own_readable_colour(layers: tuple[int, ...]) -> None:
    def luminance(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    colours = layer_colours(layers)
    codes = layer_codes(layers)
    assert codes is not None
    assert len(set(colours.values())) == len(set(codes.values())) == len(layers)
    light = [luminance(colour) for colour in colours.values()]
    assert light == sorted(light)
    for colour in colours.values():
        pair = sorted((luminance(colour), luminance(ink_on(colour))))
        assert (pair[1] + 0.05) / (pair[0] + 0.05) >= 4.5  # WCAG 2, level AA


def test_more_layers_than_a_terminal_has_colours_get_marks() -> None:
    assert layer_codes(range(24)) is None
    assert terminal.layer_styles(tuple(range(24)), "256") is None
    assert terminal.layer_styles((0,), "standard") is None
    assert terminal.layer_styles((0,), None) is None
    assert len(terminal.layer_styles(tuple(range(24)), "truecolor") or ()) == 24


def test_control_characters_become_visible() -> None:
    assert harmless("a\x1b[31m\tb\r\nc\rd\x7f\x9b") == "a␛[31m\tb\nc␍d␡�"


@pytest.fixture(scope="module")
def shown(detector: Checkpoint) -> Shown:
    pruning = PruningConfig("all", alpha=0.7)
    return show_functions(detector, [Source("Copy.java", JAVA)], pruning, torch.device("cpu"))


def test_marks_say_what_the_tokens_say_and_leave_the_source_whole(shown: Shown) -> None:
    function = shown.functions[0]
    text = terminal.marked(function)
    assert re.sub(r"‹\d+:|›|⟪|⟫", "", text.replace("↵", "")) == JAVA
    by_layer: dict[int, str] = {}
    for layer, run in re.findall(r"‹(\d+):(.*?)›", text, re.S):
        by_layer[int(layer)] = by_layer.get(int(layer), "") + "".join(run.replace("↵", "").split())
    expected: dict[int, str] = {}
    for token in function.tokens:
        if token.layer is not None and token.start is not None:
            text = "".join(JAVA[token.start : token.end].split())
            expected[token.layer] = expected.get(token.layer, "") + text
    assert by_layer == {layer: text for layer, text in expected.items() if text}
    assert len(by_layer) >= 2
    cut = function.read.cut_at
    assert cut is not None
    assert terminal.marked(function).endswith(f"⟪{JAVA[cut:]}⟫")


def test_coloured_text_is_the_source_and_kept_tokens_are_bold(shown: Shown) -> None:
    function = shown.functions[0]
    styles = terminal.layer_styles(shown.pruned_layers, "truecolor")
    assert styles is not None
    text = terminal.coloured(function, styles)
    assert text.plain.replace("↵", "") == JAVA
    position = [at for at, sign in enumerate(text.plain) if sign != "↵"]
    found = {(span.start, span.end): span.style for span in text.spans}
    for token in function.tokens:
        if token.start is None or token.end is None or not JAVA[token.start : token.end].strip():
            continue
        style = "bold" if token.layer is None else styles[token.layer]
        assert found[position[token.start], position[token.end - 1] + 1] == style


def test_legend_and_lengths_are_in_words(shown: Shown) -> None:
    styles = terminal.layer_styles(shown.pruned_layers, "truecolor")
    assert "merged away in layer  0  1  2  3" in terminal.legend(shown, styles).plain
    assert "‹n:…› merged away in layer n" in terminal.legend(shown, None).plain
    lines = list(terminal.length_lines(shown.functions[0]))
    assert len(lines) == 5
    lengths = shown.functions[0].lengths
    for line, length in zip(lines, lengths, strict=True):
        assert line[8:].split()[0] == str(length)
    assert lines[0].endswith(f"−{lengths[0] - lengths[1]}")
