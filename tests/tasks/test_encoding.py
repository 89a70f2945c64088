"""Code becomes token ids: specials kept, code cut, white space collapsed unless told otherwise."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from alpine_cli.errors import DataError, ModelError
from alpine_cli.tasks import EncodingSpec, Sample, encode
from alpine_cli.tasks.encoding import cut, special_ids

DEFECT = EncodingSpec(task="defect-detection")


def one(code: str, label: int = 0) -> Sample:
    return Sample((code,), label, "7", "data.jsonl:3")


@pytest.fixture
def unixcoder_like(tiny_tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tiny tokenizer with UniXcoder's mode token; a copy, the fixture is shared."""
    copy = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny_tokenizer.backend_tokenizer.to_str()),
        **tiny_tokenizer.special_tokens_map,
    )
    copy.add_special_tokens({"additional_special_tokens": ["<encoder-only>"]})
    return copy


def test_specials_frame_the_code(tiny_tokenizer):
    encoded = encode([one("int x;", 1)], tiny_tokenizer, DEFECT)
    (row,) = encoded.rows[0]
    assert row == tiny_tokenizer("int x;")["input_ids"]
    assert (row[0], row[-1]) == (0, 2)
    assert (encoded.labels, encoded.ids, encoded.length(0)) == ([1], ["7"], len(row))


def test_unixcoder_prefix(unixcoder_like):
    mode = unixcoder_like.convert_tokens_to_ids("<encoder-only>")
    spec = EncodingSpec(task="defect-detection", mode_prefix=True)
    (row,) = encode([one("int x;")], unixcoder_like, spec).rows[0]
    plain = unixcoder_like("int x;")["input_ids"]
    assert row == [0, mode, 2, *plain[1:]]


@pytest.mark.parametrize("mode_prefix", [False, True])
@pytest.mark.parametrize("max_length", [5, 6, 12, 500])
def test_cutting_is_encoding_with_a_smaller_length(unixcoder_like, mode_prefix, max_length):
    samples = [one("int x;"), one("return a + b ; " * 9), one("int x;", 1)]
    full = EncodingSpec(task="defect-detection", max_length=40, mode_prefix=mode_prefix)
    longest = min(max_length, full.max_length)
    short = EncodingSpec(task=full.task, max_length=longest, mode_prefix=mode_prefix)
    found = cut(encode(samples, unixcoder_like, full), max_length)
    assert found == encode(samples, unixcoder_like, short)
    assert found.rows[0][0] is found.rows[2][0]  # what was shared still is
    before, after = special_ids(unixcoder_like, mode_prefix)
    assert len(before) + len(after) == full.specials


def test_unixcoder_prefix_needs_its_token(tiny_tokenizer):
    with pytest.raises(ModelError, match=r"the vocabulary has no <encoder-only>"):
        special_ids(tiny_tokenizer, mode_prefix=True)


def test_white_space_is_collapsed_as_codexglue_does(tiny_tokenizer):
    messy = "int\n\n  f ( )\t{ }\n"
    raw = EncodingSpec(task="defect-detection", collapse_whitespace=False)
    assert (
        encode([one(messy)], tiny_tokenizer, DEFECT).rows
        == encode([one("int f ( ) { }")], tiny_tokenizer, DEFECT).rows
    )
    kept = encode([one(messy)], tiny_tokenizer, raw).rows[0][0]
    assert kept == tiny_tokenizer(messy)["input_ids"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    words=st.lists(st.text("abc(){};", min_size=1, max_size=6), min_size=1, max_size=60),
    max_length=st.integers(5, 40),
    prefixed=st.booleans(),
)
def test_truncation_keeps_the_first_tokens_and_all_specials(
    unixcoder_like, words: list[str], max_length: int, prefixed: bool
):
    spec = EncodingSpec("defect-detection", max_length, mode_prefix=prefixed)
    code = " ".join(words)
    whole = unixcoder_like(code, add_special_tokens=False)["input_ids"]
    encoded = encode([one(code)], unixcoder_like, spec)
    (row,) = encoded.rows[0]
    before, after = special_ids(unixcoder_like, prefixed)
    room = max_length - len(before) - len(after)
    assert row == [*before, *whole[:room], *after]
    assert len(row) <= max_length
    assert encoded.truncated == (len(whole) > room)


def test_pairs_keep_both_functions_and_repeated_texts_are_tokenised_once(tiny_tokenizer):
    seen: list[str] = []

    class Counting:
        def __getattr__(self, name):
            return getattr(tiny_tokenizer, name)

        def __call__(self, texts, **keywords):
            seen.extend(texts)
            return tiny_tokenizer(texts, **keywords)

    pairs = [Sample(("f()", "g()"), 1, "a"), Sample(("g()", "f()"), 0, "b")]
    encoded = encode(pairs, Counting(), EncodingSpec(task="clone-detection"))
    assert sorted(seen) == ["f()", "g()"]
    assert encoded.rows[0] == tuple(reversed(encoded.rows[1]))
    assert encoded.longest_row(0) == max(map(len, encoded.rows[0]))


def test_a_function_of_zero_tokens_names_its_place():
    """Text that is not blank can still be nothing to a tokenizer that knows none of it."""
    backend = Tokenizer(models.BPE(vocab={"<s>": 0, "<pad>": 1, "</s>": 2, "a": 3}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    assert encode([one("aa")], tokenizer, DEFECT).rows == [([0, 3, 3, 2],)]
    with pytest.raises(DataError, match=r"data\.jsonl:3: a function has no tokens"):
        encode([one("日本")], tokenizer, DEFECT)


def test_no_room_for_code(tiny_tokenizer):
    with pytest.raises(ValueError, match=r"max_length \(2\) must be greater"):
        encode([one("x")], tiny_tokenizer, EncodingSpec("defect-detection", max_length=2))


def test_wrong_number_of_functions(tiny_tokenizer):
    with pytest.raises(ValueError, match="takes 2 functions, not 1"):
        encode([one("x")], tiny_tokenizer, EncodingSpec("clone-detection"))


def test_a_tokenizer_without_specials_is_refused():
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()))
    with pytest.raises(ModelError, match="no first or last special token"):
        special_ids(tokenizer, mode_prefix=False)


def test_spec_round_trip():
    spec = EncodingSpec("clone-detection", 400, True, False)
    assert EncodingSpec.from_dict(spec.to_dict()) == spec
