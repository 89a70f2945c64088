"""The theory curves: the paper's crossing, ours, and sizes found without network."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig, GPTNeoConfig, ModernBertConfig, RobertaConfig, T5Config

from alpine_cli.errors import ModelError
from alpine_cli.measure.cost import EncoderShape
from alpine_cli.measure.theory import (
    DEFAULT_LENGTHS,
    Theory,
    TheorySubject,
    subject_of_checkpoint,
    subject_of_model,
    theory,
)
from tests.measure.subjects import write_checkpoint


def of_config(config: object, **changed: object) -> Theory:
    return theory(TheorySubject("m", EncoderShape.from_config(config), 512), **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "context"), [("codebert", 512), ("graphcodebert", 512), ("unixcoder", 1024)]
)
def test_the_papers_models_cross_at_1530_beyond_their_longest_input(
    name: str, context: int
) -> None:
    found = theory(subject_of_model(name))
    assert found.crossing_flops == 1530
    assert found.crossing_macs == 1536  # F - 2 d
    assert found.subject.context == context
    assert found.mha_flops is not None
    # shared/golden/README.md
    assert found.mha_flops[DEFAULT_LENGTHS.index(512)] == pytest.approx(3.222798e9, rel=1e-6)


@given(
    hidden=st.integers(1, 64).map(lambda k: 4 * k),
    heads=st.sampled_from([1, 2, 4]),
    feed_forward=st.integers(1, 1024),
)
def test_the_crossings_are_where_the_curves_cross(
    hidden: int, heads: int, feed_forward: int
) -> None:
    shape = EncoderShape(
        layers=1, hidden=hidden, heads=heads, feed_forward=feed_forward, embedding=hidden
    )
    subject = TheorySubject("m", shape, None)
    found = theory(subject)
    assert found.crossing_flops is not None
    for crossing, kind in ((found.crossing_flops, "flops"), (found.crossing_macs, "macs")):
        around = theory(subject, [crossing, crossing + 1])
        attention = getattr(around, f"mha_{kind}")
        feed = getattr(around, f"ffn_{kind}")
        assert feed[1] < attention[1]
        if crossing > 0:
            assert feed[0] >= attention[0]


@pytest.mark.parametrize(
    ("config", "note"),
    [
        (ModernBertConfig(), "gated"),
        (T5Config(feed_forward_proj="gated-gelu"), "gated"),
        (T5Config(d_model=64, d_kv=64, num_heads=4), "as wide as the model"),
    ],
    ids=["modernbert", "gated t5", "wide t5"],
)
def test_where_the_papers_formulas_do_not_hold_only_exact_ones_are_given(
    config: object, note: str
) -> None:
    found = of_config(config)
    assert found.mha_flops is None
    assert found.ffn_flops is None
    assert found.crossing_flops is None
    assert note in (found.note or "")
    assert len(found.mha_macs) == len(DEFAULT_LENGTHS)


def test_sizes_are_read_off_a_directory_or_its_config(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    RobertaConfig(
        hidden_size=64, num_attention_heads=4, intermediate_size=96, max_position_embeddings=130
    ).save_pretrained(folder)
    for name in (folder, folder / "config.json"):
        subject = subject_of_model(str(name))
        assert subject.name == "mine"
        assert (subject.shape.hidden, subject.shape.feed_forward) == (64, 96)
        assert subject.context == 128  # two of RoBERTa's positions are not for tokens
    BertConfig(max_position_embeddings=130).save_pretrained(folder)
    assert subject_of_model(str(folder)).context == 130


def test_sizes_are_read_off_a_checkpoint(tmp_path: Path, tiny_model_dir: Path) -> None:
    subject = subject_of_checkpoint(write_checkpoint(tmp_path / "ckpt.pt", tiny_model_dir))
    assert subject.name == "tiny-roberta"
    assert (subject.shape.layers, subject.shape.hidden, subject.context) == (4, 32, 128)


def test_what_has_no_known_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not known without network"):
        subject_of_model("somebody/some-model")
    with pytest.raises(ModelError, match="did you mean 'codebert'"):
        subject_of_model("codebrt")
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="no readable config"):
        subject_of_model(str(tmp_path))
    GPTNeoConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="gpt_neo"):
        subject_of_model(str(tmp_path))
