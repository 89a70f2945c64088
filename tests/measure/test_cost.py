"""The cost formulas against the published check values and the published total."""

from __future__ import annotations

import pytest
from transformers import (
    BertConfig,
    DistilBertConfig,
    ElectraConfig,
    GPT2Config,
    GPTNeoConfig,
    LlamaConfig,
    ModernBertConfig,
    RobertaConfig,
    T5Config,
)

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.cost import (
    EncoderShape,
    attention_macs,
    feed_forward_macs,
    paper_crossing,
    paper_feed_forward_flops,
    paper_mha_flops,
)

BASE = EncoderShape.from_config(RobertaConfig())

# shared/golden/README.md: d=768, h=12, multiplications and additions counted apart
PUBLISHED = {
    2: (9.443376e6, 1.887283e7),
    128: (6.541148e8, 1.207861e9),
    256: (1.409286e9, 2.415722e9),
    512: (3.222798e9, 4.831445e9),
}


@pytest.mark.parametrize("n", PUBLISHED)
def test_the_papers_formulas_give_the_papers_values(n: int) -> None:
    mha, feed_forward = PUBLISHED[n]
    assert paper_mha_flops(n) == pytest.approx(mha, rel=1e-6)
    assert paper_feed_forward_flops(n) == pytest.approx(feed_forward, rel=1e-6)


def test_the_blocks_cross_at_1530_not_1375() -> None:
    crossing = paper_crossing()
    assert crossing == 1530
    assert paper_feed_forward_flops(crossing) > paper_mha_flops(crossing)
    assert paper_feed_forward_flops(crossing + 1) < paper_mha_flops(crossing + 1)


def test_roberta_base_at_512_tokens_is_48_32_gmacs() -> None:
    """The published "48.29 GFLOPs" are multiply-adds, not FLOPs."""
    layer = attention_macs(BASE, 512) + feed_forward_macs(BASE, 512)
    assert 12 * int(layer) / 1e9 == pytest.approx(48.32, abs=0.005)


@pytest.mark.parametrize("n", [16, 128, 512])
def test_our_macs_are_half_the_papers_flops(n: int) -> None:
    """Up to what the paper counts besides products: n - 1 additions, scaling and softmax."""
    assert 2 * attention_macs(BASE, n) == pytest.approx(paper_mha_flops(n), rel=2e-3)
    assert 2 * feed_forward_macs(BASE, n) == pytest.approx(paper_feed_forward_flops(n), rel=1e-3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (RobertaConfig(), (12, 768, 12, 3072, 0)),
        (BertConfig(hidden_size=64, num_attention_heads=4), (12, 64, 4, 3072, 0)),
        (DistilBertConfig(dim=32, n_heads=2, n_layers=3, hidden_dim=80), (3, 32, 2, 80, 0)),
        (
            ElectraConfig(embedding_size=16, hidden_size=32, num_attention_heads=2),
            (12, 32, 2, 1024, 512),
        ),
    ],
    ids=["roberta", "bert", "distilbert", "electra"],
)
def test_shapes_are_read_off_each_family(config: object, expected: tuple[int, ...]) -> None:
    shape = EncoderShape.from_config(config)
    assert (
        shape.layers,
        shape.hidden,
        shape.heads,
        shape.feed_forward,
        shape.projection_macs_per_token,
    ) == expected


def test_heads_of_their_own_width_and_gates_are_read_off_the_config() -> None:
    t5 = T5Config(d_model=32, d_kv=6, num_heads=4, d_ff=80, num_layers=3)
    plain = EncoderShape.from_config(t5)
    assert (plain.attention, plain.feed_forward, plain.feed_forward_matrices) == (24, 80, 2)
    assert int(attention_macs(plain, 10)) == 4 * 10 * 32 * 24 + 2 * 100 * 24
    gated = EncoderShape.from_config(T5Config(feed_forward_proj="gated-gelu"))
    assert gated.feed_forward_matrices == 3
    modern = EncoderShape.from_config(ModernBertConfig(hidden_size=64, intermediate_size=96))
    assert int(feed_forward_macs(modern, 5)) == 3 * 5 * 64 * 96


def test_a_family_without_formula_is_refused_by_name() -> None:
    with pytest.raises(MeasurementError, match="gpt_neo"):
        EncoderShape.from_config(GPTNeoConfig())


def test_decoders_share_keys_and_gpt2_names_no_inner_width() -> None:
    gpt2 = EncoderShape.from_config(GPT2Config(n_embd=32, n_head=4, n_layer=3))
    assert (gpt2.layers, gpt2.hidden, gpt2.feed_forward, gpt2.keys) == (3, 32, 128, 32)
    config = LlamaConfig(
        hidden_size=32, num_attention_heads=4, num_key_value_heads=2, intermediate_size=48
    )
    llama = EncoderShape.from_config(config)
    assert (llama.attention, llama.keys) == (32, 16)
    # queries and output are 32 wide, keys and values 16
    assert int(attention_macs(llama, 10)) == 10 * 32 * (32 + 32 + 16 + 16) + 2 * 100 * 32
    assert int(feed_forward_macs(llama, 10)) == 3 * 10 * 32 * 48
