"""Named prunings: what they stand for is part of their name and may never change."""

from __future__ import annotations

import pytest
import torch
from transformers import RobertaConfig, RobertaModel

import alpine_cli
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.presets import PRESETS, preset, preset_fields


def test_presets_are_what_they_were_when_they_were_named() -> None:
    """Papers cite them. A better one gets another name."""
    assert preset("alpine") == PruningConfig(layers="all")
    assert preset("alpine-plus") == PruningConfig(
        layers="all", rule="bipartite", keep=0.85, merge="nearest"
    )


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_all_of_how_tokens_go(name: str) -> None:
    """Laid over any other pruning it gives the same: only engine and output are left to it."""
    other = PruningConfig(
        layers="odd", rule="top", keep=0.5, merge="none", score="cls", protect="ends", alpha=2.0
    )
    assert PruningConfig.from_dict(other.to_dict() | preset_fields(name)) == preset(name)


def test_an_unknown_preset_names_those_there_are() -> None:
    with pytest.raises(alpine_cli.PruningError, match="one of alpine, alpine-plus"):
        preset("alpine+")


def test_alpine_plus_keeps_85_percent_in_every_layer() -> None:
    config = RobertaConfig(
        vocab_size=60, hidden_size=16, num_hidden_layers=3, num_attention_heads=2,
        intermediate_size=16,
    )  # fmt: skip
    torch.manual_seed(0)
    model = alpine_cli.prune(RobertaModel(config).eval(), alpine_cli.preset("alpine-plus"))
    with torch.no_grad(), alpine_cli.trace(model) as traced:
        model(input_ids=torch.randint(5, 60, (2, 50)))
    assert traced.calls[0].lengths == [(50, 50), (43, 43), (37, 37), (32, 32)]
