"""Variants of the benchmarks: the same answers, shared weights, the shares that were published."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.cuda.encoders import build_encoder
from benchmarks.published_shares import shares, shares_at_depth
from benchmarks.variants import Contestant, Mode, Variant, compare

ROWS = [[0, *range(5, 5 + n), 2] for n in (40, 21, 33, 12)]


def _ready(variant: Variant, mode: Mode | None = None, rows: list[list[int]] = ROWS) -> Contestant:
    return Contestant(variant, build_encoder("small", 48), [rows], 2, mode or Mode())


@pytest.mark.parametrize("layers", ["all", "even", "odd"])
def test_shares_of_other_depths_follow_the_published_curve(layers: str) -> None:
    published = shares("codebert", layers)
    assert shares_at_depth("codebert", layers, 12) == published
    for depth in (2, 6, 22, 24):
        found = shares_at_depth("codebert", layers, depth)
        assert all(0 < share < 1 for share in found.values())
        assert math.prod(found.values()) == pytest.approx(math.prod(published.values()))
    halved = list(shares_at_depth("codebert", layers, 6).values())
    pairs = zip(*[iter(published.values())] * 2, strict=True)
    assert halved == pytest.approx([a * b for a, b in pairs])


def test_inference_shares_weights_and_training_does_not() -> None:
    encoder = build_encoder("small", 48)
    variant = Variant("packed, all", "packed", "all")
    weight = encoder.get_input_embeddings().weight
    contestant = Contestant(variant, encoder, [ROWS], 2)
    assert contestant.model.get_input_embeddings().weight is weight
    before = weight.clone()
    training = Contestant(variant, encoder, [ROWS], 2, Mode(train=True))
    training.warm_up()
    assert torch.equal(weight, before)
    assert not torch.equal(training.model.get_input_embeddings().weight, before)


def test_published_shares_stay_and_cost_what_they_should() -> None:
    told = {}
    for variant in (Variant("packed, none", "packed"), Variant("packed, all", "packed", "all")):
        contestant = _ready(variant)
        contestant.warm_up()
        told[variant.name] = contestant.tell()
    lengths = told["packed, all"]["mean_lengths"]
    expected = list(shares_at_depth("codebert", "all", 2).values())
    steps = zip(itertools.pairwise(lengths), expected, strict=True)
    for (entering, leaving), share in steps:
        assert leaving == pytest.approx(share * entering, abs=1.5)
    row = compare({"packed, none": [2.0] * 5, "packed, all": [1.0] * 5}, told, "packed, all")
    assert 0 < row["macs_ratio_to_own_unpruned"] < 1
    assert row["efficiency"] == pytest.approx(row["macs_ratio_to_own_unpruned"] / 0.5)
    assert row["speedup_over_stock_bucketed"] is None


def test_a_settled_band_seeks_no_new_width() -> None:
    variant = Variant("packed, all", "packed", "all")
    contestant = _ready(variant, Mode(settles=True))
    contestant.warm_up(2)
    assert contestant.band is not None
    known = dict(contestant.band._alphas)
    other = _ready(variant, rows=[row[:-3] for row in ROWS])
    with contestant.running():
        for batch in other.prepared[0]:
            contestant.run(batch)
    assert contestant.band.unseen == 4  # two batches through two layers
    assert contestant.band._alphas == known


def test_padded_and_packed_keep_the_same() -> None:
    lengths = []
    for engine in ("packed", "padded", "reference"):
        contestant = _ready(Variant(f"{engine}, all", engine, "all"))
        contestant.warm_up()
        lengths.append(contestant.tell()["mean_lengths"])
    assert lengths[0] == lengths[1] == lengths[2]


def test_a_compiled_model_that_does_not_prune_is_no_contestant() -> None:
    contestant = _ready(Variant("compiled packed, all", "packed", "all", compiled=True),
                        Mode(compiler="eager"))  # fmt: skip
    stock = build_encoder("small", 48)

    def unpruned(**batch: Any) -> Any:
        return SimpleNamespace(last_hidden_state=stock(**batch).last_hidden_state)

    contestant._called = unpruned
    with pytest.raises(RuntimeError, match="changed what is computed"):
        contestant.warm_up()
