"""Three ways of counting must agree, pruned and unpruned, on every task; the traps stay shut."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    PreTrainedModel,
    RobertaConfig,
    RobertaModel,
)

from alpine_cli.measure.flops import _measure_variant
from alpine_cli.measure.operator_counts import count_dispatched, count_traced
from alpine_cli.measure.workload import LoadedVariant
from alpine_cli.models import with_head
from alpine_cli.pruning.apply import prune
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.results import Part
from alpine_cli.tasks.encoding import EncodedSplit, EncodingSpec
from alpine_cli.tasks.registry import TASKS

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 100,
}
FAMILIES = {
    "roberta": (RobertaModel, RobertaConfig(**SIZES)),
    "bert": (BertModel, BertConfig(**SIZES)),
    "electra": (ElectraModel, ElectraConfig(**SIZES, embedding_size=16)),
    "distilbert": (
        DistilBertModel,
        DistilBertConfig(
            vocab_size=100, dim=32, n_layers=3, n_heads=4, hidden_dim=48, max_position_embeddings=90
        ),
    ),
}


def make_variant(
    pruning: PruningConfig | None, *, task: str = "defect-detection", family: str = "roberta"
) -> LoadedVariant:
    """A random model over ten samples of 5 to 80 tokens."""
    spec = TASKS[task]
    build, config = FAMILIES[family]
    arguments = {"add_pooling_layer": False} if family in ("roberta", "bert") else {}
    torch.manual_seed(0)
    encoder: PreTrainedModel = build(config, **arguments)
    model = with_head(encoder, spec, "alpine").eval()
    if pruning is not None:
        prune(model, pruning)
    draw = random.Random(0)
    rows = [
        tuple(
            [0, *[draw.randrange(3, 100) for _ in range(draw.randrange(3, 79))], 2]
            for _ in range(spec.functions_per_sample)
        )
        for _ in range(10)
    ]
    encoded = EncodedSplit(rows, [0] * 10, [str(i) for i in range(10)])
    tokenizer = SimpleNamespace(pad_token_id=1)
    return LoadedVariant(
        "pruned", model, tokenizer, EncodingSpec(task), encoded, pruning, torch.device("cpu")
    )


def values(part: Part) -> dict[str, float]:
    return {figure.name: figure.value for figure in part.figures if figure.value is not None}


VARIANTS = {
    "stock": None,
    "unpruned": PruningConfig(),
    "pruned": PruningConfig(layers="even"),
    "all, no merge": PruningConfig(layers="all", merge="none"),
    "padded": PruningConfig(layers="none", engine="padded"),
    "reference": PruningConfig(layers="all", engine="reference"),
}


@pytest.mark.parametrize("task", ["defect-detection", "clone-detection"])
@pytest.mark.parametrize("name", VARIANTS)
def test_three_counts_agree(name: str, task: str) -> None:
    part = _measure_variant(make_variant(VARIANTS[name], task=task), 1, 4)
    found = values(part)
    assert found["dispatcher_macs_over_analytic"] == pytest.approx(1, abs=1e-3)
    assert found["fvcore_macs_over_analytic"] == pytest.approx(1, abs=1e-3)
    assert part.cautions == []


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("layers", ["none", "all"])
def test_three_counts_agree_on_every_family(family: str, layers: str) -> None:
    part = _measure_variant(make_variant(PruningConfig(layers=layers), family=family), 1, 4)
    found = values(part)
    assert found["dispatcher_macs_over_analytic"] == pytest.approx(1, abs=1e-3)
    assert found["fvcore_macs_over_analytic"] == pytest.approx(1, abs=1e-3)


def test_the_parts_add_up_and_flops_are_twice_the_macs() -> None:
    found = values(_measure_variant(make_variant(PruningConfig(layers="even")), 1, 4))
    parts = ("attention_macs", "feed_forward_macs", "head_macs")
    assert found["total_macs"] == pytest.approx(sum(found[name] for name in parts))
    overhead = found["pruning_overhead_flops"]
    assert overhead > 0
    assert found["total_flops"] == pytest.approx(2 * found["total_macs"] + overhead)


def test_layer_curves_add_up_to_the_totals() -> None:
    part = _measure_variant(make_variant(PruningConfig(layers="even")), 1, 4)
    curves = {series.name: series.y for series in part.series}
    found = values(part)
    assert sum(curves["attention_macs_per_layer"]) == pytest.approx(found["attention_macs"])  # type: ignore[arg-type]
    assert sum(curves["feed_forward_macs_per_layer"]) == pytest.approx(found["feed_forward_macs"])  # type: ignore[arg-type]
    lengths = curves["mean_length"]
    assert len(lengths) == 4
    assert lengths == sorted(lengths, reverse=True)  # type: ignore[type-var]
    assert lengths[1] == lengths[2] > lengths[3]  # type: ignore[operator]  # layers 0 and 2 prune


def test_padding_is_paid_for_in_batches_and_not_by_the_packed_engine() -> None:
    alone, together = (
        values(_measure_variant(make_variant(None), size, 4))["total_macs"] for size in (1, 5)
    )
    assert together > alone
    packed = [
        values(_measure_variant(make_variant(PruningConfig(layers="even")), size, 4))["total_macs"]
        for size in (1, 5)
    ]
    assert packed[0] == packed[1]


def test_lengths_do_not_depend_on_the_batch_they_are_traced_in() -> None:
    curves = [
        _measure_variant(make_variant(PruningConfig(layers="all")), 1, size).series[0].y
        for size in (1, 7)
    ]
    assert curves[0] == curves[1]


class _Attention(nn.Module):
    """Nothing but fused attention, whose share the bare counters drop on a CPU."""

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=nn.functional.scaled_dot_product_attention(x, x, x))


def test_fused_attention_on_a_cpu_is_counted() -> None:
    """The trap: torch's counter has no formula for the CPU's fused operator and says 0."""
    x = torch.randn(1, 4, 10, 8)
    expected = 2 * 4 * 10 * 10 * 8  # q k^T and p v, multiply-adds
    with torch.no_grad(), FlopCounterMode(display=False) as bare:
        _Attention()(x)
    assert bare.get_total_flops() == 0
    assert count_dispatched(_Attention(), {"x": x}) == expected
    assert count_traced(_Attention(), {"x": x}) == expected


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 8, bias=False), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.norm(self.linear(x)))


def test_fvcores_layer_norm_flops_are_kept_out_of_the_macs() -> None:
    """The trap: fvcore adds LayerNorm in true FLOPs to products in multiply-adds."""
    from fvcore.nn import FlopCountAnalysis

    x = torch.randn(3, 8)

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = _Norm()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).logits

    assert FlopCountAnalysis(Plain(), x).total() > 3 * 8 * 8
    assert count_traced(_Norm(), {"x": x}) == 3 * 8 * 8


def test_a_disagreement_becomes_a_caution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "alpine_cli.measure.flops.count_dispatched",
        lambda model, inputs: 1.02 * count_dispatched(model, inputs),
    )
    part = _measure_variant(make_variant(None), 1, 4)
    assert [c.code for c in part.cautions] == ["counts-disagree"]
    assert "+2.0%" in part.cautions[0].text


def test_a_counter_that_fails_costs_only_its_own_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(model: nn.Module, inputs: Any) -> float:
        raise RuntimeError("cannot trace\nlong story")

    monkeypatch.setattr("alpine_cli.measure.flops.count_traced", fail)
    part = _measure_variant(make_variant(None), 1, 4)
    (absent,) = [figure for figure in part.figures if figure.value is None]
    assert absent.name == "fvcore_macs"
    assert absent.reason == "fvcore failed: RuntimeError: cannot trace"
    assert np.isfinite(values(part)["total_macs"])
