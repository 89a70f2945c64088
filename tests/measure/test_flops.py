"""Three ways of counting must agree on every family, pruned and not; the traps stay shut."""

from __future__ import annotations

import random
import re
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from alpine_cli.measure import count_check
from alpine_cli.measure.flops import _measure_variant
from alpine_cli.measure.operator_counts import OperatorCount, count_dispatched, count_traced
from alpine_cli.measure.workload import LoadedVariant
from alpine_cli.models import with_head
from alpine_cli.pruning.apply import prune, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.patch.registry import FAMILIES
from alpine_cli.pruning.scoring import received_attention
from alpine_cli.results import Part
from alpine_cli.tasks.batching import BatchLimit
from alpine_cli.tasks.encoding import EncodedSplit, EncodingSpec
from alpine_cli.tasks.graph import RowGraph
from alpine_cli.tasks.registry import TASKS
from tests.pruning.families import CONFIGS, VOCABULARY, make_model

# fvcore's trace leaves out a pooler that no head reads: a thousandth of so small a model.
TOLERANCE = 2e-3


def make_variant(
    pruning: PruningConfig | None, *, task: str = "defect-detection", family: str = "roberta"
) -> LoadedVariant:
    """A random model over ten samples of 5 to 80 tokens."""
    spec = TASKS[task]
    model = with_head(make_model(family), spec, "alpine").eval()
    if pruning is not None:
        prune(model, pruning)
    draw = random.Random(0)
    rows = [
        tuple(
            [0, *[draw.randrange(5, VOCABULARY) for _ in range(draw.randrange(3, 79))], 2]
            for _ in range(spec.functions_per_sample)
        )
        for _ in range(10)
    ]
    encoded = EncodedSplit(rows, [0] * 10, [str(i) for i in range(10)])
    tokenizer = SimpleNamespace(pad_token_id=1)
    return LoadedVariant(
        "pruned", model, tokenizer, EncodingSpec(task), encoded, pruning, torch.device("cpu")
    )


def with_nodes(encoded: EncodedSplit) -> EncodedSplit:
    """The same samples, the last third of every row as nodes, each of one code token."""
    graphs = []
    for (row,) in encoded.rows:
        nodes = len(row) // 3
        code = len(row) - nodes
        links = tuple((1 + at % (code - 2), 2 + at % (code - 2)) for at in range(nodes))
        sources = tuple((at // 2,) for at in range(nodes))
        graphs.append((RowGraph(1, 1, code, links, sources),))
    return EncodedSplit(encoded.rows, encoded.labels, encoded.ids, graphs=graphs)


def values(part: Part) -> dict[str, float]:
    return {figure.name: figure.value for figure in part.figures if figure.value is not None}


def caution_of(part: Part) -> str:
    (caution,) = part.cautions
    assert caution.code == "counts-disagree"
    return caution.text


@pytest.fixture(autouse=True)
def _one_sample_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tracing is slow; the sample of middle length shows what eight would."""
    monkeypatch.setattr("alpine_cli.measure.flops._CHECKED_SAMPLES", 1)


VARIANTS = {
    "stock": None,
    "packed": PruningConfig(),
    "packed, pruned": PruningConfig(layers="all"),
    "packed, no merge": PruningConfig(layers="even", merge="none"),
    "padded": PruningConfig(engine="padded"),
    "padded, pruned": PruningConfig(layers="all", engine="padded"),
    "reference, pruned": PruningConfig(layers="all", engine="reference"),
}


def test_every_supported_family_is_counted_here() -> None:
    supported = {model_type for family in FAMILIES for model_type in family.model_types}
    assert supported <= {config.model_type for config in CONFIGS.values()}


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("name", VARIANTS)
def test_three_counts_agree(name: str, family: str) -> None:
    part = _measure_variant(
        make_variant(VARIANTS[name], family=family), BatchLimit(1), BatchLimit(4)
    )
    found = values(part)
    assert found["dispatcher_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)
    assert found["fvcore_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)
    assert part.cautions == []


RULES = {
    "cls scores": PruningConfig(layers="all", score="cls", engine="padded"),
    "fixed share": PruningConfig(layers="even", rule="top", keep=0.6),
    "no scores": PruningConfig(layers="all", rule="random", keep=0.8, engine="padded"),
    "nearest": PruningConfig(layers="all", merge="nearest"),
    "nearest, padded": PruningConfig(layers="all", merge="nearest", engine="padded"),
    "bipartite": PruningConfig(layers="all", rule="bipartite", keep=0.7, merge="nearest"),
    "bipartite, ends": PruningConfig(
        layers="even", rule="bipartite", keep=0.9, merge="nearest", protect="ends"
    ),
    "first output": PruningConfig(layers="none", output="first"),
    "first output, pruned": PruningConfig(layers="all", output="first", engine="padded"),
}


@pytest.mark.parametrize("name", RULES)
def test_three_counts_agree_under_every_rule(name: str) -> None:
    """Merging by similarity multiplies matrices, too; reading one token saves feed-forward."""
    found = values(_measure_variant(make_variant(RULES[name]), BatchLimit(1), BatchLimit(4)))
    assert found["dispatcher_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)
    assert found["fvcore_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["stock", "packed, pruned", "padded, pruned"])
def test_three_counts_agree_on_pairs_of_functions(name: str) -> None:
    """Two rows of different lengths: a padding engine pads even at batch size 1."""
    part = _measure_variant(
        make_variant(VARIANTS[name], task="clone-detection"), BatchLimit(1), BatchLimit(4)
    )
    found = values(part)
    assert found["dispatcher_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)
    assert found["fvcore_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)


@pytest.mark.parametrize("name", ["stock", "packed", "packed, pruned", "padded, pruned"])
def test_three_counts_agree_where_data_flow_is_read(name: str) -> None:
    """A mask saves nothing in dense attention: nodes are tokens, and every pair is multiplied."""
    variant = make_variant(VARIANTS[name])
    variant.encoded = with_nodes(variant.encoded)
    part = _measure_variant(variant, BatchLimit(1), BatchLimit(4))
    found = values(part)
    assert found["dispatcher_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)
    assert found["fvcore_macs_over_analytic"] == pytest.approx(1, abs=TOLERANCE)
    assert part.cautions == []
    lengths = next(one for one in part.series if one.name == "mean_length")
    assert lengths.y[0] == sum(map(variant.encoded.length, range(10))) / 10


def test_a_counter_finds_the_macs_of_a_product_by_hand() -> None:
    """Independent of all formulas: one matrix, counted on paper, by module and operator."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 5), nn.Linear(5, 2)

        def forward(self, x: torch.Tensor) -> Any:
            return SimpleNamespace(logits=self.second(self.first(x)))

    for count in (count_dispatched, count_traced):
        found = count(Two(), {"x": torch.randn(7, 3)})
        assert found.of("first") == 7 * 3 * 5
        assert found.of("second") == 7 * 5 * 2
        assert found.total == 7 * 3 * 5 + 7 * 5 * 2
        assert found.of("", ["bmm"]) == 0


def test_the_parts_add_up_and_flops_are_twice_the_macs() -> None:
    found = values(
        _measure_variant(make_variant(PruningConfig(layers="even")), BatchLimit(1), BatchLimit(4))
    )
    parts = ("attention_macs", "feed_forward_macs", "head_macs")
    assert found["total_macs"] == pytest.approx(sum(found[name] for name in parts))
    overhead = found["pruning_overhead_flops"]
    assert overhead > 0
    assert found["total_flops"] == pytest.approx(2 * found["total_macs"] + overhead)


def test_layer_curves_add_up_to_the_totals() -> None:
    part = _measure_variant(
        make_variant(PruningConfig(layers="even")), BatchLimit(1), BatchLimit(4)
    )
    curves = {series.name: series.y for series in part.series}
    found = values(part)
    assert sum(curves["attention_macs_per_layer"]) == pytest.approx(found["attention_macs"])  # type: ignore[arg-type]
    assert sum(curves["feed_forward_macs_per_layer"]) == pytest.approx(found["feed_forward_macs"])  # type: ignore[arg-type]
    lengths = curves["mean_length"]
    assert len(lengths) == 5
    assert lengths == sorted(lengths, reverse=True)  # type: ignore[type-var]
    assert lengths[1] == lengths[2] > lengths[3] == lengths[4]  # type: ignore[operator]  # layers 0 and 2 prune


def test_padding_is_paid_for_in_batches_and_not_by_the_packed_engine() -> None:
    alone, together = (
        values(_measure_variant(make_variant(None), BatchLimit(size), BatchLimit(4)))["total_macs"]
        for size in (1, 5)
    )
    assert together > alone
    packed = [
        values(
            _measure_variant(
                make_variant(PruningConfig(layers="even")), BatchLimit(size), BatchLimit(4)
            )
        )["total_macs"]
        for size in (1, 5)
    ]
    assert packed[0] == packed[1]


def test_lengths_do_not_depend_on_the_batch_they_are_traced_in() -> None:
    curves = [
        _measure_variant(make_variant(PruningConfig(layers="all")), BatchLimit(1), BatchLimit(size))
        .series[0]
        .y
        for size in (1, 7)
    ]
    assert curves[0] == curves[1]


def test_overhead_per_layer_counts_what_the_layers_removed() -> None:
    variant = make_variant(PruningConfig(layers="even"))
    part = _measure_variant(variant, BatchLimit(1), BatchLimit(4))
    curves = {series.name: series.y for series in part.series}
    overhead = curves["pruning_overhead_flops_per_layer"]
    assert overhead[1] == overhead[3] == 0
    expected = np.zeros(4)
    for sample in range(10):
        with trace(variant.model) as recorded:
            variant.forward(variant.batch_of([sample]))
        for layer in recorded.calls[0].layers:
            if layer.prunes:
                (row,) = layer.samples
                n, heads, hidden = row.length_in, 4, 48
                removed = len(row.merged) + len(row.merged_tokens_removed)
                expected[layer.index] += heads * n * n + 6 * n + removed * hidden
    assert overhead == pytest.approx(expected / 10)


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
    assert count_dispatched(_Attention(), {"x": x}).total == expected
    assert count_traced(_Attention(), {"x": x}).total == expected


class _Norm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 8, bias=False), nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> Any:
        return SimpleNamespace(logits=self.norm(self.linear(x)))


class _Plain(nn.Module):
    """A module as fvcore wants it: its output is a tensor."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.inner(*inputs).logits


def test_fvcores_layer_norm_flops_are_kept_out_of_the_macs() -> None:
    """The trap: fvcore adds LayerNorm in true FLOPs to products in multiply-adds."""
    from fvcore.nn import FlopCountAnalysis

    x = torch.randn(3, 8)
    assert FlopCountAnalysis(_Plain(_Norm()), x).total() > 3 * 8 * 8
    assert count_traced(_Norm(), {"x": x}).total == 3 * 8 * 8


class _Scores(nn.Module):
    def forward(self, probs: torch.Tensor, mask: torch.Tensor) -> Any:
        return SimpleNamespace(logits=received_attention(probs, mask))


def test_fvcores_einsum_is_counted_as_pytorch_computes_it() -> None:
    """The trap: fvcore multiplies over all heads, PyTorch sums them first, then multiplies once."""
    from fvcore.nn import FlopCountAnalysis

    heads, n = 6, 10
    inputs = {"probs": torch.rand(1, heads, n, n), "mask": torch.ones(1, n, dtype=torch.bool)}
    bare = FlopCountAnalysis(_Plain(_Scores()), tuple(inputs.values()))
    assert bare.by_operator()["einsum"] > 2 * n * n
    assert count_traced(_Scores(), inputs).total == n * n
    assert count_dispatched(_Scores(), inputs).total == n * n


def altered(counter: int, change: Any) -> Any:
    """The counters, one of which tells something else."""
    counters = list(count_check.COUNTERS)
    name, label, terms, count = counters[counter]
    counters[counter] = (name, label, terms, lambda *asked: change(count(*asked)))
    return tuple(counters)


def without_attention_products(count: OperatorCount) -> OperatorCount:
    """What a counter says that has no formula for fused attention."""
    return OperatorCount(
        {
            module: {name: n for name, n in counts.items() if "scaled_dot" not in name}
            for module, counts in count.by_module.items()
        }
    )


def with_more(module: str, share: float) -> Any:
    """Adds an operator of that share of the whole to a module and all it stands in."""

    def change(count: OperatorCount) -> OperatorCount:
        found = {name: dict(counts) for name, counts in count.by_module.items()}
        for name in found:
            if module == name or module.startswith(f"{name}.") or name == "":
                found[name]["strange"] = share * count.total
        return OperatorCount(found)

    return change


@pytest.mark.parametrize("counter", [0, 1], ids=["dispatcher", "fvcore"])
def test_a_dropped_attention_share_is_found_where_it_is(
    counter: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_check, "COUNTERS", altered(counter, without_attention_products))
    text = caution_of(_measure_variant(make_variant(None), BatchLimit(1), BatchLimit(4)))
    assert "they differ in attention's products (-100.0%)" in text


@pytest.mark.parametrize(
    ("counter", "module", "said"),
    [
        (0, "encoder.encoder.layer.2.attention", "attention's products (+"),
        (0, "encoder.encoder.layer.2.output", "feed-forward (+"),
        (1, "encoder.encoder.layer.2.output", "feed-forward (+"),
        (1, "head", "what stands outside the layers (+"),
    ],
    ids=["attention", "feed-forward", "feed-forward by fvcore", "head"],
)
def test_a_disagreement_names_part_layer_and_operator(
    counter: int, module: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(count_check, "COUNTERS", altered(counter, with_more(module, 0.02)))
    text = caution_of(_measure_variant(make_variant(None), BatchLimit(1), BatchLimit(4)))
    assert re.search(r"counts \+(2\.0|1\.9)% against the formulas", text)  # fvcore skips the pooler
    assert f"they differ in {said}" in text
    if "layer" in module:
        assert ", layer 2; as much as strange counts there)" in text


def test_a_counter_that_fails_costs_only_its_own_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(count: OperatorCount) -> OperatorCount:
        raise RuntimeError("cannot trace\nlong story")

    monkeypatch.setattr(count_check, "COUNTERS", altered(1, fail))
    part = _measure_variant(make_variant(None), BatchLimit(1), BatchLimit(4))
    (absent,) = [figure for figure in part.figures if figure.value is None]
    assert absent.name == "fvcore_macs"
    assert absent.reason == "fvcore failed: RuntimeError: cannot trace"
    assert np.isfinite(values(part)["total_macs"])
