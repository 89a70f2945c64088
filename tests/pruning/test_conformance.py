"""The conformance checks: every family passes them, and families with a defect do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from torch import nn
from transformers import BertConfig, BertModel

from alpine_cli.pruning.conformance import CHECKS
from alpine_cli.pruning.errors import PruningError
from alpine_cli.pruning.patch import registry
from alpine_cli.pruning.patch.bert import BERT
from alpine_cli.pruning.patch.family import Family
from alpine_cli.pruning.run import LAYER_RUN
from tests.pruning.families import CONFIGS, FAMILIES, make_model


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_conforms(family: str, check: Callable[..., None]) -> None:
    check(lambda: make_model(family))


class ForeignConfig(BertConfig):
    model_type = "somebody-elses-bert"


def make_foreign() -> nn.Module:
    fields = CONFIGS["bert"].to_dict()
    fields.pop("model_type")
    model = BertModel(ForeignConfig(**fields))
    model.load_state_dict(make_model("bert").state_dict())
    return model.eval()


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Register a variant of the BERT family for the foreign model type."""
    monkeypatch.setattr(registry, "_BY_MODEL_TYPE", dict(registry._BY_MODEL_TYPE))

    def register(**changes: Any) -> None:
        family = replace(BERT, name="Foreign", model_types=("somebody-elses-bert",), **changes)
        registry.register(family)

    return register


def failed_checks() -> list[str]:
    failed = []
    for check in CHECKS:
        try:
            check(make_foreign)
        except Exception as error:  # a broken family may also crash
            failed.append(f"{check.__name__}: {error}")
    return failed


def test_a_family_of_somebody_else_joins_with_one_call(join: Callable[..., None]) -> None:
    with pytest.raises(PruningError, match="not supported"):
        registry.find_base_model(make_foreign())
    join()
    assert failed_checks() == []
    assert "Foreign" in registry._supported()


def test_wrong_positions_are_found(join: Callable[..., None]) -> None:
    def from_one(*args: Any) -> Any:
        return BERT.positions(*args) + 1  # type: ignore[misc]

    join(positions=from_one)
    assert any("against stock: differs by" in line for line in failed_checks())


def test_a_layer_that_keeps_no_promise_to_unprune_is_found(join: Callable[..., None]) -> None:
    join(attach=lambda layer: BERT.attach(layer) and (lambda: None))
    (line,) = failed_checks()
    assert line.startswith("unprune_gives_the_stock_model_back")


def test_a_cut_behind_the_feed_forward_part_removes_nothing_where_it_should(
    join: Callable[..., None],
) -> None:
    """A family that never calls `shorten` leaves all tokens there: the checks say so."""

    def note_only(module: Any, args: Any, kwargs: Any, output: Any) -> Any:
        layer_run = kwargs[LAYER_RUN]
        layer_run.run.tokens.append(layer_run.tokens)
        return output

    def attach(layer: Any) -> Any:
        return layer.register_forward_hook(note_only, with_kwargs=True).remove

    join(attach=attach)
    assert any("no token was removed" in line for line in failed_checks())


def test_a_model_type_belongs_to_one_family() -> None:
    with pytest.raises(PruningError, match="'roberta' belongs to the family RoBERTa"):
        registry.register(
            Family("Mine", ("roberta",), BERT.encoder, BERT.layers, BERT.attach, None)
        )
