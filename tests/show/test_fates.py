"""What became of every token: as the slow reference says, whatever engine, pair or partner."""

from __future__ import annotations

import json
import math

import pytest
import torch

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.errors import BadInput
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.show.fates import FunctionFate, Shown, show_functions
from alpine_cli.show.record import shown_record
from alpine_cli.show.sources import Source
from alpine_cli.tasks.loading import Collator
from tests.reference import alpine as slow
from tests.show.conftest import JAVA

CPU = torch.device("cpu")
OTHER = "int sum(int[] a) {\n  int s = 0;\n  for (int x : a) s += x;\n  return s;\n}\n"


def show(checkpoint: Checkpoint, *texts: str, **pruning: object) -> Shown:
    config = PruningConfig(**{"layers": "all", "alpha": 0.8, **pruning})  # type: ignore[arg-type]
    sources = [Source(f"f{number}", text) for number, text in enumerate(texts)]
    return show_functions(checkpoint, sources, config, CPU)


@pytest.mark.parametrize("engine", ["packed", "padded", "reference"])
@pytest.mark.parametrize("merge", ["mean", "none"])
def test_fates_are_those_of_the_slow_reference(
    detector: Checkpoint, engine: str, merge: str
) -> None:
    (function,) = show(detector, JAVA, engine=engine, merge=merge).functions
    base = detector.build()[0].encoder.base_model
    expected = slow.encode_roberta(base, function.read.ids, [0, 1, 2, 3], 0.8, merge)
    assert expected.smallest_margin > 1e-6  # else rounding might decide
    for position, token in enumerate(function.tokens):
        stays = [position in kept for kept in expected.kept]
        assert token.layer == (stays.index(False) if False in stays else None)
        assert list(token.scores) == list(range(4 if token.layer is None else token.layer + 1))
    assert list(function.lengths) == expected.lengths
    assert bool(function.merged) == (merge == "mean")
    # Every score of a layer belongs to exactly one token: together they are all of the attention.
    for layer in function.layers:
        every = [*function.tokens, *function.merged]
        received = [token.scores[layer.index] for token in every if layer.index in token.scores]
        assert len(received) == layer.length_in
        assert math.fsum(received) == pytest.approx(1, abs=1e-5)
        assert sorted(received) == pytest.approx(sorted(expected.scores[layer.index]), rel=1e-4)


def test_causes_and_bands_agree_with_the_scores(detector: Checkpoint) -> None:
    (function,) = show(detector, JAVA).functions
    causes = set()
    for token in [*function.tokens, *function.merged]:
        for index, score in token.scores.items():
            band = function.layers[index].band
            assert band is not None
            outside = not band[0] <= score <= band[1]
            assert outside == (token.layer == index) or token.protected
        if token.layer is not None:
            band = function.layers[token.layer].band
            assert band is not None
            low = token.scores[token.layer] < band[0]
            assert token.cause == ("too little attention" if low else "too much attention")
            causes.add(token.cause)
        else:
            assert token.cause is None
    assert len(causes) == 2
    assert [token.protected for token in function.tokens] == [
        position in (0, len(function.tokens) - 1) for position in range(len(function.tokens))
    ]


def test_merged_tokens_stand_for_all_that_went(detector: Checkpoint) -> None:
    (function,) = show(detector, JAVA, layers="even").functions
    every = [*function.tokens, *function.merged]
    assert [layer.prunes for layer in function.layers] == [True, False, True, False]
    for merged in function.merged:
        made = -merged.position - 1
        assert merged.stands_for == sum(token.layer == made for token in every)
    assert function.kept + sum(m.layer is None for m in function.merged) == function.lengths[-1]


def test_answers_are_the_models_own(detector: Checkpoint) -> None:
    shown = show(detector, JAVA)
    model, tokenizer = detector.build()
    batch = Collator(tokenizer.pad_token_id)(
        [{"rows": (shown.functions[0].read.ids,), "label": 0, "index": 0}]
    )
    stock = model.predict_proba(batch["input_ids"], batch["attention_mask"])[0].tolist()
    assert shown.unpruned is not None
    assert shown.pruned is not None
    assert shown.unpruned.probabilities == pytest.approx(stock, abs=1e-5)
    assert shown.pruned.probabilities != pytest.approx(stock, abs=1e-7)
    assert shown.unpruned.label == ("sound", "defective")[stock[1] > stock[0]]


def test_one_function_of_a_pair_has_the_same_fate_and_no_answer(
    clone_detector: Checkpoint,
) -> None:
    pair, alone = show(clone_detector, JAVA, OTHER), show(clone_detector, OTHER)
    assert pair.pruned is not None
    assert (alone.pruned, alone.unpruned) == (None, None)
    assert "give a second file" in (alone.no_answer or "")

    def fate(function: FunctionFate) -> list[int | None]:
        return [token.layer for token in function.tokens]

    assert fate(pair.functions[1]) == fate(alone.functions[0])
    assert pair.functions[1].lengths == alone.functions[0].lengths


def test_too_many_functions_are_refused(detector: Checkpoint) -> None:
    with pytest.raises(BadInput, match="reads 1 function"):
        show(detector, JAVA, OTHER)


def test_rules_without_a_band_show_fates_without_causes(detector: Checkpoint) -> None:
    (function,) = show(detector, JAVA, rule="first", keep=0.5).functions
    assert function.lengths[-1] < function.lengths[0]
    assert {token.cause for token in function.tokens} == {None}
    assert all(not token.scores for token in function.tokens)


def test_the_record_is_json_and_complete(detector: Checkpoint) -> None:
    shown = show(detector, JAVA)
    record = json.loads(json.dumps(shown_record(shown), allow_nan=False))
    (function,) = record["functions"]
    assert function["source"] == JAVA
    assert [token["layer"] for token in function["tokens"]] == [
        token.layer for token in shown.functions[0].tokens
    ]
    assert function["lengths"][0] == len(function["tokens"])
    assert record["answer"]["pruned"]["probabilities"].keys() == {"sound", "defective"}
