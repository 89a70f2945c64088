"""The published implementation's own results: masks and lengths exactly, hidden states to 1e-5."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import RobertaConfig, RobertaModel

from alpine_cli.pruning import PruningConfig, prune, trace
from alpine_cli.pruning.packed import Ragged, pack
from alpine_cli.pruning.plan import apply_plan, initial_tokens
from alpine_cli.pruning.scoring import received_attention
from alpine_cli.pruning.selection import band, plan_keep
from tests.pruning.families import ENGINES


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> tuple[dict[str, dict[str, Any]], dict[str, torch.Tensor], Path]:
    folder = shared_dir / "golden"
    cases = json.loads((folder / "cases.json").read_text(encoding="utf-8"))
    return {case["case"]: case for case in cases}, load_file(folder / "cases.safetensors"), folder


@pytest.fixture(scope="module")
def published_encoder(golden: Any) -> RobertaModel:
    folder = golden[2]
    config = RobertaConfig(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    model = RobertaModel(config, add_pooling_layer=False)
    model.load_state_dict(load_file(folder / "encoder.safetensors"))
    return model.eval()


@pytest.mark.parametrize("number", range(6))
def test_published_masks(golden: Any, number: int) -> None:
    """The published scores average over padded query rows too; so does the call without a mask."""
    cases, tensors, _ = golden
    name = f"mask.{number}"
    mask_BL = tensors[f"{name}.attention_mask"].bool()
    scores_BL = received_attention(tensors[f"{name}.attention_probs"])
    tokens = initial_tokens(mask_BL)
    keep_T = band(scores_BL[mask_BL], tokens.ends_T(), tokens.ragged, cases[name]["alpha"])
    expected_BL = tensors[f"{name}.keep"].bool()
    assert torch.equal(keep_T, expected_BL[mask_BL])
    assert tokens.ragged.sum_by_sequence(keep_T.long()).tolist() == cases[name]["kept"]


def test_published_repacking(golden: Any) -> None:
    tensors = golden[1]
    names = sorted({key.rsplit(".", 1)[0] for key in tensors if key.startswith("repack")})
    assert names
    for name in names:
        hidden_BLD, keep_BL = tensors[f"{name}.hidden"], tensors[f"{name}.keep"].bool()
        ragged = Ragged.from_lengths(torch.full((hidden_BLD.shape[0],), hidden_BLD.shape[1]))
        for merge, key in (("mean", "merged"), ("none", "dropped")):
            plan = plan_keep(keep_BL.flatten(), ragged, merge)
            out_TD = apply_plan(pack(hidden_BLD, ragged), plan)
            expected = tensors[f"{name}.{key}"]
            for b, (rows, length) in enumerate(
                zip(out_TD.split(list(plan.after.lengths)), plan.after.lengths, strict=True)
            ):
                torch.testing.assert_close(rows, expected[b, :length], atol=1e-6, rtol=0)
                assert not expected[b, length:].any()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", range(24))
def test_published_encoder(
    golden: Any, published_encoder: RobertaModel, number: int, engine: Any
) -> None:
    cases, tensors, _ = golden
    case = cases[f"encoder.{number}"]
    prune(
        published_encoder,
        PruningConfig(
            layers=case["layers"],
            alpha=case["alpha"],
            merge=case["merge"],
            protect="ends",
            engine=engine,
        ),
    )
    with torch.no_grad(), trace(published_encoder) as recorded:
        output = published_encoder(input_ids=tensors[f"encoder.{number}.input_ids"])
    lengths = [lengths_B[0] for lengths_B in recorded.calls[0].lengths]
    assert lengths == [case["length"], *case["lengths_after_layer"]]
    expected = tensors[f"encoder.{number}.last_hidden_state"]
    torch.testing.assert_close(output.last_hidden_state, expected, atol=1e-5, rtol=0)
