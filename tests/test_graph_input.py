"""Data flow through whole models: against a slow encoder, pruned and not; what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alpine_cli.errors import ModelError
from alpine_cli.graph_input import graph_inputs, node_embeddings, require_graph_encoder
from alpine_cli.models import TaskModel, with_head
from alpine_cli.pruning.apply import prune, trace
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.tasks import Collator, resolve_task
from alpine_cli.tasks.graph import RowGraph
from alpine_cli.tasks.loading import model_inputs
from tests.pruning.families import ENGINES, make_model
from tests.reference import alpine as slow
from tests.reference import data_flow

GRAPHS = (
    RowGraph(1, 1, 12, ((1, 3), (4, 5), (4, 5), (9, 11)), ((), (0,), (1, 2), (0, 2))),
    RowGraph(1, 1, 5, (), ()),
    RowGraph(1, 1, 17, ((15, 16), (2, 6)), ((1,), (1,))),
)
UNKNOWN = 3


def make_task_model(attention: str = "sdpa") -> TaskModel:
    encoder = make_model("roberta", attention=attention)
    encoder.pooler = None
    return with_head(encoder, resolve_task("defect-detection"), "alpine").eval()


def rows() -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    found = []
    for graph in GRAPHS:
        words = torch.randint(5, 300, (graph.code - 2,), generator=draw).tolist()
        found.append([0, *words, 2, *[UNKNOWN] * len(graph.links)])
    return found


def batch() -> dict[str, torch.Tensor]:
    items = [
        {"rows": (row,), "graphs": (graph,), "label": 0, "index": at}
        for at, (row, graph) in enumerate(zip(rows(), GRAPHS, strict=True))
    ]
    return model_inputs(Collator(pad_id=1)(items), "cpu")


def slow_graph(graph: RowGraph) -> slow.SlowGraph:
    n, links = len(graph), [range(*link) for link in graph.links]
    facts = (graph.prefix, graph.suffix, graph.code, links, graph.sources)
    return slow.SlowGraph(
        sees=[[data_flow.sees(*facts, q, k) for k in range(n)] for q in range(n)],
        positions=[*range(2, graph.code + 2), *[0] * len(graph.links)],
        links={graph.code + at: list(link) for at, link in enumerate(links)},
        last=graph.code - 1,
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_stock_transformers_equal_to_the_slow_encoder(attention: str) -> None:
    model = make_task_model(attention)
    output = model.encoder(**model.encoder_inputs(**batch())).last_hidden_state
    for b, (row, graph) in enumerate(zip(rows(), GRAPHS, strict=True)):
        expected = slow.encode_roberta(model.encoder, row, [], graph=slow_graph(graph)).hidden
        torch.testing.assert_close(output[b, : len(row)].double(), expected, atol=1e-5, rtol=0)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("layers", ["none", "all"])
@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_engines_equal_to_the_slow_encoder(engine: Any, layers: str) -> None:
    """The last code token, not the last node, is special; nodes are pruned like any other token."""
    model = make_task_model()
    prune(model, PruningConfig(layers, engine=engine, alpha=0.8))
    with trace(model) as recorded:
        output = model.encoder(**model.encoder_inputs(**batch())).last_hidden_state
    pruned = [] if layers == "none" else [0, 1, 2, 3]
    for b, (row, graph) in enumerate(zip(rows(), GRAPHS, strict=True)):
        expected = slow.encode_roberta(model.encoder, row, pruned, 0.8, graph=slow_graph(graph))
        assert expected.smallest_margin > 1e-6
        kept = [list(layer.samples[b].kept) for layer in recorded.calls[0].layers]
        assert kept == expected.kept
        assert {0, graph.code - 1} <= set(kept[-1])
        torch.testing.assert_close(
            output[b, : expected.lengths[-1]].double(), expected.hidden, atol=1e-5, rtol=0
        )
    if pruned:
        assert not {13, 14, 15} <= set(recorded.calls[0].layers[-1].samples[0].kept)


def test_gradients_reach_the_words_that_nodes_are_made_of() -> None:
    words = torch.randn(1, 4, 3, requires_grad=True)
    node = torch.tensor([[False, False, False, True]])
    mask = torch.zeros(1, 4, 4, dtype=torch.bool)
    mask[0, 3, 1:3] = True
    found = node_embeddings(words, node, ~node, mask)
    torch.testing.assert_close(found[0, 3], words[0, 1:3].mean(0))
    assert torch.equal(found[0, :3], words[0, :3])
    found[0, 3].sum().backward()
    assert words.grad is not None
    assert words.grad[0].tolist() == [[0] * 3, [0.5] * 3, [0.5] * 3, [0] * 3]
    alone = torch.zeros(1, 4, 4, dtype=torch.bool)  # a node without code
    assert not node_embeddings(words, node, ~node, alone)[0, 3].any()


@pytest.mark.parametrize("engine", ENGINES)
def test_training_agrees_with_stock(engine: Any) -> None:
    """The loss's gradient of an unpruned engine is that of stock transformers."""
    gradients = []
    for pruned in (False, True):
        torch.manual_seed(0)
        model = make_task_model()
        if pruned:
            prune(model, PruningConfig("none", engine=engine))
        output = model(**batch(), labels=torch.tensor([0, 1, 1]))
        output.loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    for name, expected in gradients[0].items():
        scale = expected.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(gradients[1][name] / scale, expected / scale, atol=1e-4, rtol=0)


def test_only_roberta_reads_data_flow() -> None:
    require_graph_encoder(make_model("roberta"))
    with pytest.raises(ModelError, match=r"not those of type 'bert'; take --model graphcodebert"):
        require_graph_encoder(make_model("bert"))
    model = make_model("roberta")
    model.config = type(model.config)(**{**model.config.to_dict(), "pad_token_id": 0})
    with pytest.raises(ModelError, match="position 0, which this model uses for padding"):
        require_graph_encoder(model)


def test_nodes_are_known_by_their_position() -> None:
    inputs = batch()
    del inputs["position_ids"]
    with pytest.raises(ValueError, match="graph_mask needs position_ids"):
        make_task_model()(**inputs)


@torch.no_grad()
def test_without_validity_every_token_counts() -> None:
    model, inputs = make_task_model(), batch()
    whole = {name: tensor[2:, :19] for name, tensor in inputs.items()}
    whole["graph_mask"] = whole["graph_mask"][:, :, :19]
    expected = model(**whole).logits
    del whole["attention_mask"]
    torch.testing.assert_close(model(**whole).logits, expected)
    given = graph_inputs(model.encoder, whole["input_ids"], None, *list(whole.values())[1:])
    assert set(given) == {"inputs_embeds", "attention_mask", "position_ids"}
