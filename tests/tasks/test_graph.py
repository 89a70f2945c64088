"""Code with its data flow as a row: tokens, positions, links and mask against the paper's words."""

from __future__ import annotations

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alpine_cli.errors import DataError, ModelError
from alpine_cli.tasks import Collator, EncodingSpec, Sample, encode
from alpine_cli.tasks.graph import RowGraph, read_graph_rows
from tests.reference import data_flow as slow

SPEC = EncodingSpec("defect-detection", data_flow="c")
CODE = "int f(int size) { /* é */ int n = size; while (n) { n -= 1; } return n; }"


@pytest.fixture(autouse=True)
def _needs_the_extra() -> None:
    for package in ("tree_sitter", "tree_sitter_java", "tree_sitter_python", "tree_sitter_c"):
        pytest.importorskip(package, reason="needs the extra: pip install 'alpine-cli[graph]'")


def one(code: str) -> Sample:
    return Sample((code,), 1, "7", "data.jsonl:3")


def graphs() -> st.SearchStrategy[RowGraph]:
    def build(numbers: tuple[int, int, int], data: list[tuple[int, int, list[int]]]) -> RowGraph:
        prefix, words, suffix = numbers
        links, sources = [], []
        for start, width, found in data:
            first = prefix + start % words
            links.append((first, min(prefix + words, first + 1 + width)))
            sources.append(tuple(sorted({source % len(data) for source in found})))
        return RowGraph(prefix, suffix, prefix + words + suffix, tuple(links), tuple(sources))

    node = st.tuples(st.integers(0, 9), st.integers(0, 3), st.lists(st.integers(0, 9), max_size=3))
    sizes = st.tuples(st.integers(1, 3), st.integers(1, 8), st.integers(1, 2))
    return st.builds(build, sizes, st.lists(node, max_size=7))


@settings(deadline=None)
@given(graphs())
def test_mask_and_positions_by_definition(graph: RowGraph) -> None:
    mask, n, code = graph.mask(), len(graph), graph.code
    facts = (graph.prefix, graph.suffix, code, [range(*link) for link in graph.links])
    for query in range(n):
        for key in range(n):
            assert mask[query, key] == slow.sees(*facts, graph.sources, query, key)
    # symmetric between code and nodes but for the special tokens, to which no node attends
    words = list(range(graph.prefix, code - graph.suffix))
    special = [c for c in range(code) if c not in words]
    assert (mask[:code, :code]).all()
    assert (mask[words][:, code:] == mask[code:][:, words].T).all()
    assert mask[special].all()
    assert not mask[code:][:, special].any()
    assert mask[code:][:, words].any(axis=1).all()  # so no row of a softmax is empty
    assert graph.positions(1).tolist() == [*range(2, code + 2), *[0] * (n - code)]
    assert RowGraph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


def test_a_row_holds_code_then_nodes(tiny_tokenizer) -> None:
    encoded = encode([one(CODE)], tiny_tokenizer, SPEC)
    (row,), ((graph,),) = encoded.rows[0], encoded.graphs
    joined = "int f ( int size ) { int n = size ; while ( n ) { n -= 1 ; } return n ; }"
    assert row[: graph.code] == tiny_tokenizer(joined)["input_ids"]
    assert row[graph.code :] == [tiny_tokenizer.unk_token_id] * len(graph.links)
    texts = [tiny_tokenizer.decode(row[start:stop]).strip() for start, stop in graph.links]
    assert texts == ["size", "n", "size", "n", "n", "1", "n"]
    assert graph.sources == ((), (2,), (0,), (1, 4), (1, 4, 5), (), (1, 4))
    assert encoded.truncated == 0
    assert encoded.longest_row(0) == len(row)


def test_tokens_and_nodes_know_their_characters(tiny_tokenizer) -> None:
    code = 'int f(char *s) { s = "a   b"; // é\n\n g( s ); }'
    (row,) = read_graph_rows([code], tiny_tokenizer, SPEC)
    quote = code.index('"')
    for id, span in zip(row.ids[: row.graph.code], row.spans, strict=False):
        if span is not None and not quote <= span[0] < quote + 7:  # its blanks are collapsed
            text = tiny_tokenizer.decode([id])
            # a token that is only the blank stands for the first character behind it
            assert code[slice(*span)] == text.strip() or (text == " " and span[1] - span[0] == 1)
    nodes = [code[slice(*span)] for span in row.spans[row.graph.code :]]
    assert nodes == ["s", '"a   b"', "s"]
    assert (row.cut_at, row.tokens_cut, row.nodes_cut) == (None, 0, 0)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(max_length=st.integers(3, 60), room=st.integers(1, 12))
def test_code_is_cut_first_and_nodes_to_what_is_left(tiny_tokenizer, max_length, room) -> None:
    spec = EncodingSpec("defect-detection", max_length, data_flow="c", data_flow_length=room)
    (whole,) = read_graph_rows([CODE], tiny_tokenizer, SPEC)
    (cut,) = read_graph_rows([CODE], tiny_tokenizer, spec)
    graph = cut.graph
    assert graph.code == min(max_length, whole.graph.code)
    assert cut.ids[: graph.code - 1] == whole.ids[: graph.code - 1]
    assert cut.ids[graph.code - 1] == tiny_tokenizer.sep_token_id
    assert len(cut.ids) == len(graph) <= max_length + room
    last = graph.code - 1
    readable = [link for link in whole.graph.links if link[0] < last]
    expected = [(start, min(stop, last)) for start, stop in readable]
    assert list(graph.links) == expected[: max_length + room - graph.code]
    assert cut.tokens_cut == whole.graph.code - graph.code
    assert cut.nodes_cut == len(whole.graph.links) - len(graph.links)
    assert (cut.cut_at is None) == (cut.tokens_cut == 0)
    for node, sources in enumerate(graph.sources):
        kept = [source for source in whole.graph.sources[node] if source < len(graph.links)]
        assert list(sources) == kept  # those cut are the last ones here
    assert encode([one(CODE)], tiny_tokenizer, spec).truncated == (cut.tokens_cut > 0)


def test_batches_hold_positions_and_masks(tiny_tokenizer) -> None:
    samples = [one(CODE), one("void g() {}"), one("int h(int a) { return a; }")]
    encoded = encode(samples, tiny_tokenizer, SPEC)
    batch = Collator(pad_id=1, pad_to=90)([encoded[i] for i in range(3)])
    for b, (graph,) in enumerate(encoded.graphs):
        n = len(graph)
        assert batch["position_ids"][b].tolist() == [*graph.positions(1), *[1] * (90 - n)]
        assert torch.equal(batch["graph_mask"][b, :n, :n], torch.from_numpy(graph.mask()))
        assert not batch["graph_mask"][b, :, n:].any()
        assert batch["graph_mask"][b, n:, 0].all()  # padding sees something, nobody sees padding
        assert not batch["graph_mask"][b, n:, 1:].any()
    assert len(encoded.graphs[1][0].links) == 0


def test_pairs_and_shared_functions(tiny_tokenizer) -> None:
    spec = EncodingSpec("clone-detection", data_flow="java")
    a, b = "int f(int x) { return x; }", "int g() { int y = 1; return y; }"
    samples = [Sample((a, b), 0, "0"), Sample((a, a), 1, "1")]
    encoded = encode(samples, tiny_tokenizer, spec)
    assert encoded.graphs[0][0] is encoded.graphs[1][1]
    assert encoded.take([1]).content() == [[encoded.rows[1]], [1], [
        [graph.to_dict() for graph in encoded.graphs[1]]
    ]]  # fmt: skip
    batch = Collator(pad_id=1)([encoded[0], encoded[1]])
    assert batch["graph_mask"].shape[0] == 4


def test_without_data_flow_nothing_is_added(tiny_tokenizer) -> None:
    encoded = encode([one(CODE)], tiny_tokenizer, EncodingSpec("defect-detection"))
    assert encoded.graphs is None
    assert set(Collator(1)([encoded[0]])) == {"input_ids", "attention_mask", "labels", "index"}
    assert encoded.content() == [encoded.rows, encoded.labels]


def test_code_without_tokens(tiny_tokenizer) -> None:
    with pytest.raises(DataError, match=r"data\.jsonl:3: a function has no tokens"):
        encode([one("/* nothing */")], tiny_tokenizer, SPEC)


def test_a_tokenizer_without_an_unknown_token(tiny_tokenizer) -> None:
    class Without:
        cls_token_id, sep_token_id, unk_token_id = 0, 2, None
        bos_token_id = eos_token_id = None

    with pytest.raises(ModelError, match="no unknown token, which stands for nodes"):
        read_graph_rows([CODE], Without(), SPEC)
