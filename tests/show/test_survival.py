"""Counting kinds over a data set: against counting token by token, and its intervals."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from alpine_cli.checkpoint import Checkpoint
from alpine_cli.measure.statistics import share_interval
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.show.fates import show_functions
from alpine_cli.show.kinds import KINDS, kind_of, kinds_of_characters, lexer_for
from alpine_cli.show.sources import Source
from alpine_cli.show.survival import Counts, Survival, count_survival, summarise_survival
from alpine_cli.show.survival_views import (
    against_all,
    curve_table,
    finding,
    survival_record,
    survival_table,
)
from alpine_cli.tasks.data import Sample
from alpine_cli.tasks.encoding import encode
from tests.show.conftest import JAVA

CPU = torch.device("cpu")
TEXTS = [JAVA, "int f() { return 1; } // one", "void g(int n) { n += 2; }", '{ "a"; }']
SAMPLES = [Sample((text,), number % 2, str(number)) for number, text in enumerate(TEXTS)]
PRUNING = PruningConfig("0,2", alpha=0.8)


@pytest.fixture(scope="module")
def counts(detector: Checkpoint) -> Counts:
    return count_survival(detector, SAMPLES, PRUNING, lexer_for("java"), CPU)


def test_counts_are_those_of_each_function_shown_alone(
    detector: Checkpoint, counts: Counts
) -> None:
    assert counts.present.shape == (4, len(KINDS), 5)
    assert (counts.pruned_layers, counts.cut) == ((0, 2), 1)
    for number, text in enumerate(TEXTS):
        (function,) = show_functions(detector, [Source("f", text)], PRUNING, CPU).functions
        kinds = kinds_of_characters(text, lexer_for("java"))
        for layer in range(5):
            expected: Counter[int] = Counter()
            for token in function.tokens:
                if token.start is None or token.end is None:
                    continue
                if token.layer is None or token.layer >= layer:
                    expected[kind_of(kinds, token.start, token.end)] += 1
            found = {k: int(n) for k, n in enumerate(counts.present[number, :, layer]) if n}
            assert found == dict(expected)


def test_a_function_in_many_pairs_counts_once_and_the_data_keep_their_name(
    clone_detector: Checkpoint,
) -> None:
    one, two = TEXTS[1], TEXTS[2]
    pairs = [Sample((one, two), 1, "a"), Sample((two, one), 0, "b"), Sample((one, one), 1, "c")]
    told: list[tuple[int, int]] = []
    counts = count_survival(
        clone_detector, pairs, PRUNING, lexer_for("java"), CPU, lambda *at: told.append(at)
    )
    assert len(counts.present) == 2
    assert told[-1] == (2, 2)
    _, tokenizer = clone_detector.build()
    encoded = encode(pairs, tokenizer, clone_detector.encoding_spec)
    content = json.dumps([encoded.rows, encoded.labels], separators=(",", ":"))
    # as `measure.plan` names the samples of a result
    assert counts.data_sha256 == hashlib.sha256(content.encode()).hexdigest()


def made(present: Any) -> Survival:
    """A survival of functions with counts [kind][0 or 2] entering layers 0 and 1 (the end)."""
    array = np.zeros((len(present), len(KINDS), 2), dtype=np.int64)
    array[:, : len(present[0])] = present
    return summarise_survival(Counts(array, (0,), 0, "0" * 64), "c", "because", {"data": "d"})


@settings(deadline=None, max_examples=15)
@given(st.data())
def test_shares_add_up_and_lie_in_their_intervals(data: st.DataObject) -> None:
    functions = data.draw(st.integers(1, 9))
    row = st.tuples(st.integers(0, 9), st.integers(0, 9)).map(lambda p: (max(p), min(p)))
    present = [[data.draw(row) for _ in range(3)] for _ in range(functions)]
    present[0][0] = (3, 1)
    survival = made(present)
    assert sum(kind.share for kind in survival.kinds) == pytest.approx(1)
    assert sum(kind.tokens for kind in survival.kinds) == survival.all.tokens
    assert survival.all.surviving == pytest.approx(
        sum(kind.share * kind.surviving for kind in survival.kinds)
    )
    for found in survival.every:
        assert found.by_layer[0] == 1
        assert found.by_layer[-1] == found.surviving
        interval = found.surviving_interval
        assert (interval is None) == (found.functions < 5)
        if interval is not None:
            assert 0 <= interval.low <= interval.high <= 1
    assert [k.tokens for k in survival.kinds] == sorted(
        (k.tokens for k in survival.kinds), reverse=True
    )


def test_kinds_that_differ_are_found_and_named_in_the_finding() -> None:
    # 40 functions: identifiers lose most, keywords almost nothing, with some variety
    functions = [[(20, 4 + f % 3), (10, 9 - f % 2), (5, 2)] for f in range(40)]
    survival = made(functions)
    named = {found.kind: against_all(found, survival) for found in survival.kinds}
    assert named == {"identifiers": "less", "keywords": "more", "operators": "less"}
    sentence = finding(survival)
    assert sentence.startswith("Of 1,400 tokens in 40 functions 44.2 % (95 % CI ")
    assert "More often: keywords, 85.0 % (95 % CI " in sentence
    assert sentence.index("More often") < sentence.index("Less often: identifiers, 24.9")


def test_few_functions_get_no_interval_and_no_verdict() -> None:
    survival = made([[(4, 1), (2, 2)]] * 3)
    table = survival_table(survival)
    assert [row[4].text for row in table.rows] == ["50.0", "25.0", "100.0"]
    assert all(row[4].note and "no interval" in row[4].note for row in table.rows)
    assert [row[5].text for row in table.rows] == ["", "not judged", "not judged"]
    assert "No kind is shown" in finding(survival)


def test_tables_and_record_tell_the_same(counts: Counts) -> None:
    survival = summarise_survival(counts, "java", "--language", {"checkpoint": "c.pt"})
    record = json.loads(json.dumps(survival_record(survival), default=lambda v: v.model_dump()))
    table, curves = survival_table(survival), curve_table(survival)
    assert [row[0].text for row in table.rows] == [kind["kind"] for kind in record["kinds"]]
    for row, curve, kind in zip(table.rows, curves.rows, record["kinds"], strict=True):
        assert row[1].value == kind["tokens"]
        assert row[4].value == pytest.approx(100 * kind["surviving"])
        # after layers 0 and 2 of 4: what enters layers 1 and 3
        assert [cell.value for cell in curve[1:]] == pytest.approx(
            [100 * kind["entering_layer"][1], 100 * kind["entering_layer"][3]]
        )
        assert kind["entering_layer"][3] == kind["surviving"]
    assert "1 of 4 functions are longer than the model reads" in " ".join(table.notes)
    assert record["about"]["data SHA-256"] == counts.data_sha256


def test_the_interval_of_a_share_resamples_clusters() -> None:
    wholes = [10.0] * 60
    alike = share_interval([5.0] * 60, wholes)
    assert alike is not None
    assert (alike.low, alike.high) == (0.5, 0.5)
    # The same 300 of 600: in clusters of all or none they say far less.
    mixed = share_interval([4.0, 6.0] * 30, wholes, unit="function")
    apart = share_interval([0.0, 10.0] * 30, wholes)
    assert mixed is not None
    assert apart is not None
    assert apart.high - apart.low > 3 * (mixed.high - mixed.low)
    assert mixed.low < 0.5 < mixed.high
    assert "60 functions" in mixed.method


def test_the_interval_of_a_share_stays_between_0_and_1() -> None:
    near_one = share_interval([10, 10, 10, 10, 2, 10, 10], [10] * 7)
    assert near_one is not None
    assert near_one.high <= 1
    none = share_interval([0.0] * 6, [3.0] * 6)
    every = share_interval([3.0] * 6, [3.0] * 6)
    assert none is not None
    assert every is not None
    # Of six that all say no the exact bound is 1 - 0.025^(1/6); a bootstrap says "none, surely".
    assert (none.low, none.high) == (0, pytest.approx(0.4593, abs=1e-4))
    assert (every.low, every.high) == (pytest.approx(0.5407, abs=1e-4), 1)
    assert share_interval([1, 1, 1, 1], [2, 2, 2, 2]) is None
    for parts, wholes in (([1], [0]), ([3], [2]), ([-1], [2]), ([1, 1], [2])):
        with pytest.raises(ValueError, match="0 <= part <= whole"):
            share_interval(parts, wholes)
