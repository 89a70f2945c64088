"""Families whose layers look at positions: kept tokens keep theirs, merged ones get the mean."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import T5Config, T5ForConditionalGeneration, T5ForSequenceClassification

from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.bias import PositionBias, Window
from alpine_cli.pruning.errors import UnsupportedModelError
from alpine_cli.pruning.packed import Ragged
from tests.pruning.families import ENGINES, make_batch, make_model, make_rows
from tests.reference.positions import encode_modernbert, encode_t5

SLOW = {"modernbert": encode_modernbert, "t5": encode_t5}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("family", list(SLOW))
@torch.no_grad()
def test_equal_to_the_slow_encoder(family: str, engine: Any) -> None:
    """Longer than the window (8 on each side) and than T5's exact buckets."""
    model = make_model(family)
    rows = make_rows([37, 21], seed=3)
    prune(model, PruningConfig("0,1,3", alpha=0.9, engine=engine))
    with trace(model) as recorded:
        hidden = model(**make_batch(rows, model.config.pad_token_id)).last_hidden_state
    for b, row in enumerate(rows):
        slow, lengths = SLOW[family](model, row, [0, 1, 3], 0.9)
        assert [entry[b] for entry in recorded.calls[0].lengths] == lengths
        assert lengths[0] > lengths[1] > lengths[2] > lengths[4]
        torch.testing.assert_close(hidden[b, : lengths[-1]].double(), slow, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", list(SLOW))
@torch.no_grad()
def test_left_padding_moves_no_position(family: str) -> None:
    """ModernBERT counts columns, T5 distances: both must see what the stock model sees."""
    model = make_model(family)
    rows = make_rows([19, 7])
    batch = make_batch(rows, model.config.pad_token_id, left=True)
    stock = model(**batch).last_hidden_state
    prune(model, PruningConfig("none"))
    ours = model(**batch).last_hidden_state
    for b, row in enumerate(rows):
        torch.testing.assert_close(ours[b, : len(row)], stock[b, -len(row) :], atol=1e-5, rtol=0)


def test_a_window_hides_by_distance_and_padding_sees_something() -> None:
    ragged = Ragged.from_lengths(torch.tensor([3, 1]))
    bias = PositionBias(Window(2), torch.tensor([10.0, 11.5, 14.0, 50.0]))
    hidden = torch.tensor([[0, 0, 1], [0, 0, 1], [1, 1, 0]], dtype=torch.bool)
    assert torch.equal(bias.of_rows(0, 3)[0].isinf(), hidden)
    grid = bias.of_grid(ragged)
    assert grid.shape == (2, 1, 3, 3)
    assert torch.equal(grid[0, 0].isinf(), hidden)
    assert not grid[1].isinf().any()


@pytest.mark.parametrize("kind", [T5ForConditionalGeneration, T5ForSequenceClassification])
def test_an_encoder_under_a_decoder_is_refused(kind: Any) -> None:
    config = T5Config(
        vocab_size=20,
        d_model=8,
        d_kv=4,
        d_ff=8,
        num_layers=1,
        num_heads=2,
        decoder_start_token_id=0,
    )
    with pytest.raises(UnsupportedModelError, match="T5EncoderModel"):
        prune(kind(config), PruningConfig("all"))
