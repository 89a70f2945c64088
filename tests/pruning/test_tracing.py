"""What a trace says of every token: as the slow reference scores it, and without contradiction."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import replay
from alpine_cli.pruning.tracing import TracedForward
from tests.pruning.families import ENGINES, LAYERS, make_batch, make_model, make_rows
from tests.reference import alpine as slow

MODEL = make_model("roberta")


def traced(config: PruningConfig, rows: list[list[int]], **layout: Any) -> TracedForward:
    prune(MODEL, config)
    with torch.no_grad(), trace(MODEL) as recorded:
        MODEL(**make_batch(rows, 1, **layout))
    return recorded.calls[0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("protect", ["special", "ends"])
def test_scores_are_those_of_the_slow_reference(engine: str, protect: str) -> None:
    (row,) = make_rows([37], seed=4)
    call = traced(PruningConfig("all", protect=protect, engine=engine), [row])  # type: ignore[arg-type]
    expected = slow.encode_roberta(MODEL, row, list(range(LAYERS)), protect=protect)
    assert list(expected.scores) == list(range(LAYERS))
    for layer in call.layers:
        sample = layer.samples[0]
        assert sample.scores == pytest.approx(expected.scores[layer.index], rel=1e-4)
        assert [p for p in sample.entered if p >= 0] == (
            expected.kept[layer.index - 1] if layer.index else list(range(len(row)))
        )
        assert sample.length_in == len(sample.entered) == expected.lengths[layer.index]


@settings(deadline=None, max_examples=25)
@given(
    engine=st.sampled_from(ENGINES),
    layers=st.sampled_from(["all", "odd", "1,2"]),
    alpha=st.floats(0.3, 2.0),
    merge=st.sampled_from(["mean", "none"]),
    protect=st.sampled_from(["special", "ends"]),
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    left=st.booleans(),
    seed=st.integers(0, 100),
)
def test_a_trace_agrees_with_itself(
    engine: Any, layers: str, alpha: float, merge: Any, protect: Any,
    lengths: list[int], left: bool, seed: int,
) -> None:  # fmt: skip
    config = PruningConfig(layers, alpha, merge, protect, engine)
    call = traced(config, make_rows(lengths, seed), left=left)
    removed_in = call.removed_in().tolist()
    width = max(lengths)
    for b, length in enumerate(lengths):
        first = width - length if left else 0
        columns = range(first, first + length)
        gone: dict[int, int] = {}
        for layer in call.layers:
            sample = layer.samples[b]
            if not layer.prunes:
                assert (sample.keeps, sample.scores, sample.band) == (None, None, None)
                continue
            assert sample.keeps is not None
            assert sample.scores is not None
            stays = {p for p, keep in zip(sample.entered, sample.keeps, strict=True) if keep}
            gone |= dict.fromkeys(set(sample.entered) - stays, layer.index)
            assert set(sample.kept) == {p for p in stays if p >= 0}
            shielded = (
                {columns[0], columns[-1]}
                if protect == "special"
                else {sample.entered[0], sample.entered[-1]}
            )
            for position, keep, score in zip(
                sample.entered, sample.keeps, sample.scores, strict=True
            ):
                if position in shielded:
                    assert keep
                elif sample.band is not None and min(
                    abs(score - end) for end in sample.band
                ) > 1e-6 * abs(sample.band[1]):
                    assert keep == (sample.band[0] <= score <= sample.band[1])
            assert (sample.band is None) == (set(sample.entered) <= shielded)
        for column in range(len(removed_in[b])):
            expected = gone.get(column, LAYERS) if column in columns else -1
            assert removed_in[b][column] == expected


def test_a_replayed_run_has_plans_but_no_scores() -> None:
    rows = make_rows([20], seed=1)
    first = traced(PruningConfig("all"), rows)
    with torch.no_grad(), replay(MODEL, first), trace(MODEL) as recorded:
        MODEL(**make_batch(rows, 1))
    again = recorded.calls[0]
    assert torch.equal(again.removed_in(), first.removed_in())
    for layer in again.layers:
        assert layer.samples[0].keeps is not None
        assert layer.samples[0].scores is None
        assert layer.samples[0].band is None


def test_all_padding_has_no_columns() -> None:
    prune(MODEL, PruningConfig("all"))
    with torch.no_grad(), trace(MODEL) as recorded:
        MODEL(input_ids=torch.ones(2, 3).long(), attention_mask=torch.zeros(2, 3))
    assert recorded.calls[0].removed_in().shape == (2, 0)
