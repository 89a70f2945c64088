"""A tokenizer survives the checkpoint: identical ids, without its class or files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from transformers import BertTokenizerFast, PreTrainedTokenizerFast, RobertaTokenizerFast

from alpine_cli.errors import CheckpointError
from alpine_cli.tokenizer_record import describe_tokenizer, read_tokenizer, rebuild_tokenizer

SPECIALS = ("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "pad_token_id")
AWKWARD = "a <mask> b</s> <pad>\t\n日本 é \u0000 int x;"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.text(max_size=80))
def test_round_trip_gives_identical_ids(tiny_tokenizer: PreTrainedTokenizerFast, text: str):
    rebuilt = rebuild_tokenizer(describe_tokenizer(tiny_tokenizer))
    for sample in (text, AWKWARD):
        for specials in (False, True):
            assert (
                rebuilt(sample, add_special_tokens=specials)["input_ids"]
                == tiny_tokenizer(sample, add_special_tokens=specials)["input_ids"]
            )


def test_settings_survive_and_a_calls_truncation_does_not(tiny_tokenizer: PreTrainedTokenizerFast):
    tiny_tokenizer(["int x;"], truncation=True, max_length=4, padding="max_length")
    record = describe_tokenizer(tiny_tokenizer)
    rebuilt = rebuild_tokenizer(record)
    assert rebuilt.backend_tokenizer.truncation is None
    assert rebuilt.backend_tokenizer.padding is None
    for name in (*SPECIALS, "model_max_length", "padding_side", "model_input_names"):
        assert getattr(rebuilt, name) == getattr(tiny_tokenizer, name), name
    assert describe_tokenizer(rebuilt) == record


def test_bert_tokenizer(tmp_path: Path):
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "int", "x", "##1", ";"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    original = BertTokenizerFast(str(tmp_path / "vocab.txt"))
    rebuilt = rebuild_tokenizer(describe_tokenizer(original))
    assert rebuilt("INT x1; ?")["input_ids"] == original("INT x1; ?")["input_ids"]
    assert [getattr(rebuilt, name) for name in SPECIALS[2:]] == [2, 3, 0]


def test_roberta_base_tokenizer_from_vocab_and_merges(shared_dir: Path):
    folder = shared_dir / "data" / "tokenizer" / "roberta-base"
    tokenizer = read_tokenizer(folder)
    assert tokenizer("Hello world")["input_ids"] == [0, 31414, 232, 2]
    original = RobertaTokenizerFast.from_pretrained(folder)
    rebuilt = rebuild_tokenizer(describe_tokenizer(tokenizer))
    for text in (AWKWARD, "Hello <mask>.", "static int x;\n\treturn  0;"):
        assert rebuilt(text)["input_ids"] == original(text)["input_ids"]


def test_bare_json_frames_its_input(tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path):
    path = tmp_path / "BPE.json"
    path.write_text(tiny_tokenizer.backend_tokenizer.to_str())
    tokenizer = read_tokenizer(path)
    ids = tokenizer("int x;")["input_ids"]
    assert (ids[0], ids[-1], tokenizer.pad_token_id) == (0, 2, 1)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": "1.0"}'])
def test_not_a_tokenizer_file(tmp_path: Path, text: str):
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"t\.json: not a tokenizer\.json"):
        read_tokenizer(tmp_path / "t.json")


def test_missing_special_tokens_and_missing_files(tmp_path: Path):
    Tokenizer(models.BPE(vocab={"a": 0}, merges=[])).save(str(tmp_path / "t.json"))
    with pytest.raises(CheckpointError, match="lacks <s>, </s> or <pad>"):
        read_tokenizer(tmp_path / "t.json")
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        read_tokenizer(tmp_path / "none.json")
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(CheckpointError, match="holds no tokenizer"):
        read_tokenizer(empty)
