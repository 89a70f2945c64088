"""Tensors are made on the devices they are named for, and statistics in what devices know."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.pruning import PruningConfig, kernels, prune, rules, selection, trace
from alpine_cli.pruning.packed import Ragged, widest_float
from tests.pruning.families import ENGINES, make_batch, make_model, make_rows

FIELDS = [
    {"rule": "band", "alpha": 0.7},
    {"rule": "top", "keep": 0.7, "merge": "nearest"},
    {"rule": "random", "keep": 0.7, "merge": "none"},
    {"rule": "bipartite", "keep": 0.7, "merge": "nearest"},
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: fields["rule"])
@pytest.mark.parametrize("family", ["roberta", "gpt2"])
@torch.no_grad()
def test_the_default_device_changes_nothing(family: str, fields: dict[str, Any]) -> None:
    """As `torch.set_default_device("cuda")` would say; here a device that computes nothing."""
    model = make_model(family)
    batch = make_batch(make_rows([13, 1, 4], seed=1), model.config.pad_token_id)
    for engine in ENGINES:
        prune(model, PruningConfig("all", engine=engine, **fields))
        expected = model(**batch).last_hidden_state
        with torch.device("meta"), trace(model) as recorded:
            found = model(**batch).last_hidden_state
            assert recorded.calls[0].removed_in().device.type == "cpu"
        assert found.equal(expected)
    with torch.device("meta"), kernels.forced():
        assert model(**batch).last_hidden_state.device.type == "cpu"


def test_no_float64_on_mps() -> None:
    assert widest_float(torch.device("mps")) == torch.float32
    assert widest_float(torch.device("cuda", 0)) == widest_float(torch.device("cpu"))


@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=4),
    seed=st.integers(0, 999),
    alpha=st.floats(0.05, 2),
)
@settings(deadline=None, max_examples=50)
def test_in_float32_rules_decide_alike(lengths: list[int], seed: int, alpha: float) -> None:
    """What MPS computes, but for scores within rounding of a threshold."""
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    generator = torch.Generator().manual_seed(seed)
    scores_T = 1 / 60 + 1e-3 * torch.rand(ragged.total, generator=generator)
    protected_T = torch.rand(ragged.total, generator=generator) < 0.2
    counts = [rules.kept_count(n, 0.5, n) for n in lengths]

    def decided() -> tuple[torch.Tensor, ...]:
        return (
            selection.band(scores_T, protected_T, ragged, alpha),
            rules.floor(scores_T, protected_T, ragged, alpha),
            rules.keep_share(scores_T, protected_T, ragged, counts),
        )

    wide = decided()
    deviation_T, mean_B, sigma_B = selection.score_statistics(scores_T, protected_T, ragged)
    width_B = alpha * sigma_B + selection.TOLERANCE * mean_B
    near_T = (deviation_T.abs() - width_B[ragged.segment_T]).abs() < 1e-8
    with pytest.MonkeyPatch.context() as patch:
        for room in (selection, rules):
            patch.setattr(room, "widest_float", lambda device: torch.float32)
        narrow = decided()
    for a, b in zip(wide, narrow, strict=True):
        assert a[~near_T].equal(b[~near_T])
