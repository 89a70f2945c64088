"""A sample's result depends on nothing but the sample: property tests over random batches.

Where a score lies within rounding of a threshold (RELATIVE_ROUNDING of its sequence's mean) a
plan may fall either way; such samples are compared on a given plan by `test_given_plan`, and how
rare they are is measured in `benchmarks/`.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.apply import replay
from tests.pruning.families import DECODERS, ENGINES, FAMILIES, make_batch, make_model, make_rows
from tests.reference import alpine as slow

RELATIVE_ROUNDING = 2e-6
MODELS = {family: make_model(family) for family in FAMILIES}

batches = st.fixed_dictionaries(
    {
        "family": st.sampled_from(FAMILIES),
        "engine": st.sampled_from(ENGINES),
        "layers": st.sampled_from(["all", "even", "odd", "2"]),
        "alpha": st.floats(0.3, 2.0),
        "merge": st.sampled_from(["mean", "none"]),
        "protect": st.sampled_from(["special", "ends"]),
    }
)


def run(model: Any, rows: list[list[int]], **layout: Any) -> tuple[list[torch.Tensor], Any]:
    """Every row's valid output, and the trace."""
    batch = make_batch(rows, model.config.pad_token_id, **layout)
    with torch.no_grad(), trace(model) as recorded:
        hidden = model(**batch).last_hidden_state
    call = recorded.calls[0]
    if model.config.model_type in DECODERS:  # in the columns of the input, zeros between
        return [row[row.any(-1)] for row in hidden], call
    return [hidden[b, :n] for b, n in enumerate(call.lengths[-1])], call


def undecided(call: Any, b: int, alpha: float, protect: str) -> bool:
    """Whether any score of sample b lay so close to a threshold that rounding may decide."""
    for layer in call.layers:
        sample = layer.samples[b]
        if sample.scores is None:
            continue
        n = sample.length_in
        if protect == "ends":
            shield = [position in (0, n - 1) for position in range(n)]
        else:
            ragged = call.tokens[layer.index].ragged
            start = sum(ragged.lengths[:b])
            shield = call.tokens[layer.index].special_T[start : start + n].tolist()
        if slow.margin(list(sample.scores), shield, alpha) < RELATIVE_ROUNDING:
            return True
    return False


@settings(deadline=None, max_examples=60)
@given(
    setup=batches,
    lengths=st.lists(st.integers(1, 40), min_size=2, max_size=5),
    extra=st.integers(0, 6),
    left=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_batch_mates_padding_and_order_do_not_matter(
    setup: dict[str, Any], lengths: list[int], extra: int, left: bool, seed: int
) -> None:
    model = MODELS[setup["family"]]
    # BERT-like families number positions by column, so padding on the left is another input
    left = left and setup["family"] in ("roberta", "xlm-roberta", "llama", "qwen2")
    prune(model, PruningConfig(**{k: v for k, v in setup.items() if k != "family"}))
    rows = make_rows(lengths, seed)
    together, call = run(model, rows, extra=extra, left=left)
    backwards, _ = run(model, rows[::-1], extra=2 * extra)
    for b, row in enumerate(rows):
        assume(not undecided(call, b, setup["alpha"], setup["protect"]))
        (alone,), alone_call = run(model, [row])
        assert alone_call.lengths == [(n[b],) for n in call.lengths]
        torch.testing.assert_close(together[b], alone, atol=1e-5, rtol=0)
        torch.testing.assert_close(backwards[len(rows) - 1 - b], alone, atol=1e-5, rtol=0)


@settings(deadline=None, max_examples=30)
@given(
    setup=batches,
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
)
def test_given_plan(setup: dict[str, Any], lengths: list[int], seed: int) -> None:
    """With the plan given, all engines give the same numbers, thresholds or not."""
    model = MODELS[setup["family"]]
    settings_ = {k: v for k, v in setup.items() if k not in ("family", "engine")}
    prune(model, PruningConfig(**settings_, engine=setup["engine"]))
    rows = make_rows(lengths, seed)
    first, call = run(model, rows)
    for engine in ENGINES:
        prune(model, PruningConfig(**settings_, engine=engine))
        with replay(model, call):
            other, other_call = run(model, rows)
        assert other_call.lengths == call.lengths
        for ours, theirs in zip(first, other, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_holes_in_the_mask(engine: Any) -> None:
    """A masked token in the middle does not exist: positions count as the stock model counts."""
    model = make_model("bert")
    batch = make_batch(make_rows([12, 7]), model.config.pad_token_id)
    batch["attention_mask"][0, 4] = 0
    stock = model(**batch).last_hidden_state
    prune(model, PruningConfig("none", engine=engine))
    ours = model(**batch).last_hidden_state
    there = batch["attention_mask"][0].bool()
    torch.testing.assert_close(ours[0, :11], stock[0][there], atol=1e-5, rtol=0)


@torch.no_grad()
def test_settings_can_change_on_the_same_weights() -> None:
    model = make_model("roberta")
    batch = make_batch(make_rows([30, 20]), model.config.pad_token_id)
    kept = []
    for config in (
        PruningConfig("all", alpha=0.5),
        PruningConfig("all", alpha=1.5),
        PruningConfig("odd", alpha=0.5),
        PruningConfig("all", alpha=0.5, merge="none"),
        PruningConfig("all", alpha=0.5),
    ):
        prune(model, config)
        with trace(model) as recorded:
            model(**batch)
        kept.append(recorded.calls[0].lengths)
    assert kept[0] == kept[4]
    assert len({str(lengths) for lengths in kept}) == 4
    assert sum(kept[0][-1]) < sum(kept[1][-1])
