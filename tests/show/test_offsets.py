"""Tokens of a source: the ids that models are fed, and the characters they came from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.errors import DataError
from alpine_cli.show.offsets import read_source
from alpine_cli.tasks.data import Sample
from alpine_cli.tasks.encoding import EncodingSpec, encode
from tests.show.conftest import JAVA

SPEC = EncodingSpec("defect-detection", max_length=48)

# \x85, \xa0 and \x1c are white space to Python; a combining accent; special tokens as text
TEXTS = st.lists(
    st.sampled_from(
        [*"ab(){};=+ \t\n", "  ", "\r\n", "é", "e\u0301", "名", "😀", "int ", "return",
         "</s>", "<mask>", "\xa0", "\x85", "\x1c", "\u2028"]
    ),
    min_size=1,
    max_size=60,
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=150)
@given(text=TEXTS, collapses=st.booleans(), length=st.sampled_from([3, 9, 48]))
def test_ids_are_those_of_encode_and_spans_those_of_the_text(
    tiny_tokenizer: Any, text: str, collapses: bool, length: int
) -> None:
    spec = replace(SPEC, collapse_whitespace=collapses, max_length=length)
    if not text.strip():
        text += "x"
    read = read_source(text, tiny_tokenizer, spec)
    encoded = encode([Sample((text,), 0, "0")], tiny_tokenizer, spec)
    assert read.ids == encoded.rows[0][0]
    assert (read.tokens_cut > 0) == (encoded.truncated == 1)
    spans = [(token.start, token.end) for token in read.tokens if token.start is not None]
    assert spans == sorted(spans)
    assert all(end is not None and start < end <= len(text) for start, end in spans)
    covered = {at for start, end in spans for at in range(start, end)}
    stop = len(text) if read.cut_at is None else read.cut_at
    assert covered <= set(range(stop))
    assert {at for at in range(stop) if not text[at].isspace()} <= covered
    for token in read.tokens:
        visible = token.text.lstrip("Ġ")
        if token.start is not None and visible and visible.isascii():
            assert text[token.start : token.end] == visible


def test_white_space_is_left_out_of_words_and_kept_where_it_is_the_token(
    tiny_tokenizer: Any,
) -> None:
    text = "int  a\n\t;"
    collapsed = read_source(text, tiny_tokenizer, SPEC)
    assert [(t.text, text[t.start : t.end]) for t in collapsed.tokens[1:-1]][-3:] == [
        ("Ġa", "a"),
        ("Ġ", "\t"),  # the blank before ";", a run of two characters in the source
        (";", ";"),
    ]
    exact = read_source(text, tiny_tokenizer, replace(SPEC, collapse_whitespace=False))
    assert "Ċ" in [token.text for token in exact.tokens]
    newline = next(token for token in exact.tokens if token.text == "Ċ")
    assert text[newline.start : newline.end] == "\n"


def test_what_is_too_long_is_cut_where_the_first_token_left_out_begins(
    tiny_tokenizer: Any,
) -> None:
    whole = read_source(JAVA, tiny_tokenizer, replace(SPEC, max_length=500))
    short = read_source(JAVA, tiny_tokenizer, replace(SPEC, max_length=20))
    assert short.tokens_cut == len(whole.tokens) - 20
    assert short.cut_at == whole.tokens[19].start
    assert short.tokens[-1].text == "</s>"
    assert whole.cut_at is None


def test_a_tokenizer_that_trims_offsets_hides_no_blank(tiny_tokenizer: Any) -> None:
    """RoBERTa's post-processor leaves the offsets of a lone blank empty, behind the blank."""
    from tokenizers import Tokenizer, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str())
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    trimming = PreTrainedTokenizerFast(
        tokenizer_object=backend, cls_token="<s>", sep_token="</s>", pad_token="<pad>"
    )
    spec = replace(SPEC, collapse_whitespace=False)
    text = "a    b \n c"
    plain, trimmed = (
        read_source(text, tokenizer, spec).tokens for tokenizer in (tiny_tokenizer, trimming)
    )
    assert [(t.start, t.end) for t in trimmed] == [(t.start, t.end) for t in plain]


def test_a_text_without_tokens_is_refused(tiny_tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"x\.c: has no tokens"):
        read_source(" \n", tiny_tokenizer, SPEC, "x.c")
