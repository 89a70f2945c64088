"""Tables of one result and of many: overview, what is missing, batch sizes, seeds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.aggregate import group_seeds
from alpine_cli.report.cell_text import decimals_of, parted, worded
from alpine_cli.report.findings import findings
from alpine_cli.report.overview import batch_size_tables, coverage_table, overview_table
from alpine_cli.report.result_tables import lengths_table, speed_by_length_table, to_table
from alpine_cli.report.seed_tables import seed_table
from alpine_cli.report.setting import describe_cell, describe_pruning
from alpine_cli.report.tables import Cell, Column, Table
from alpine_cli.results import Result
from tests.report.made import by_length, make_result, with_energy
from tests.report.test_aggregate import seeded


def column(table: Table, title: str) -> list[Cell]:
    at = [known.title for known in table.columns].index(title)
    return [row[at] for row in table.rows]


def of(model: str, layers: str, number: int) -> Result:
    made = make_result(id=f"{number:08x}")
    variants = dict(made.variants)
    variants["pruned"] = variants["pruned"].model_copy(
        update={"pruning": {"layers": layers, "alpha": 1.0}}
    )
    subject = made.subject.model_copy(update={"model": model})
    return made.model_copy(update={"variants": variants, "subject": subject})


def test_the_overview_has_a_row_per_result_with_interval_and_verdict() -> None:
    table = overview_table([make_result(), with_energy(of("b", "odd", 1), 2.0, 1.0, "modelled")])
    assert table is not None
    (speed, _) = column(table, "throughput")
    assert speed.text.startswith("1.50 [")
    assert speed.text.endswith("] better")
    assert speed.value == pytest.approx(1.5)
    assert speed.low is not None
    assert (speed.low < 1.5, speed.style) == (True, "better")
    (accuracy, _) = column(table, "accuracy")
    assert accuracy.text == "-2.0 pts [-8.0, +3.0] no difference shown"
    assert (accuracy.value, accuracy.low) == (pytest.approx(-2.0), pytest.approx(-8.0))
    (energy, _) = column(table, "energy")
    assert (energy.text, energy.note, energy.style) == ("n/a", "no counter", "absent")
    (memory, _) = column(table, "memory")
    assert (memory.text, memory.note) == ("–", "not part of this result")
    assert "All with batch 32, cpu (CPU)." in table.notes


def test_a_result_without_pruned_and_unpruned_is_in_no_overview() -> None:
    assert overview_table([make_result(comparisons=[])]) is None
    assert overview_table([]) is None


def test_cells_without_result_are_shown_as_missing() -> None:
    table = coverage_table([of("a", "even", 1), of("a", "odd", 2), of("b", "even", 3)])
    assert table is not None
    shown = {row[0].text: [cell.text for cell in row[2:]] for row in table.rows}
    assert [c.title for c in table.columns[2:]] == ["even, α 1", "odd, α 1"]
    assert shown == {"a": ["1", "1"], "b": ["1", "missing"]}
    assert coverage_table([of("a", "even", 1), of("b", "even", 2)]) is None


def test_budgets_of_tokens_come_after_batch_sizes() -> None:
    limits = [{"batch_size": None, "tokens_per_batch": 4096}, {"batch_size": 32}]
    results = [
        make_result(id=f"{n:08x}", settings={"device": "cpu", **limit})
        for n, limit in enumerate(limits)
    ]
    (table,) = batch_size_tables(results)
    assert [cell.text for cell in column(table, "batch")] == ["32", "≤ 4,096 tokens"]
    assert "batch ≤ 4,096 tokens" in describe_cell(results[0])
    overview = overview_table(results)
    assert overview is not None
    assert [cell.text for cell in column(overview, "batch")] == ["batch ≤ 4,096 tokens", "batch 32"]


def test_batch_sizes_of_one_checkpoint_stand_together_smallest_first() -> None:
    results = [
        make_result(id=f"{size:08x}", settings={"device": "cpu", "batch_size": size})
        for size in (32, 1, 8)
    ]
    (table,) = batch_size_tables(results)
    assert [cell.value for cell in column(table, "batch")] == [1, 8, 32]
    assert batch_size_tables(results[:1]) == []
    other = of("other", "even", 99).model_copy(update={"settings": {"batch_size": 4}})
    assert len(batch_size_tables([*results, other])) == 1


def test_one_run_has_no_interval_and_says_so() -> None:
    made = make_result()
    comparisons = [
        found.model_copy(
            update={
                "interval": None,
                "verdict": "not judged",
                "reason": "no interval: 1 run(s), at least 5 are needed",
            }
        )
        if found.figure == "throughput"
        else found
        for found in made.comparisons
    ]
    result = made.model_copy(update={"comparisons": comparisons})
    table = overview_table([result])
    assert table is not None
    assert column(table, "throughput")[0].text == "1.50 not judged"
    told = {finding.subject: finding for finding in findings(result)}
    assert "1 run(s), at least 5 are needed" in told["throughput"].clause
    assert told["throughput"].style == ""


def test_findings_name_models_and_tests() -> None:
    made = with_energy(make_result(), 2.0, 1.0, "modelled")
    extra = made.comparisons[0].model_copy(
        update={"figure": "energy_gross", "better": "lower", "interval": None, "ratio": 0.5}
    )
    result = made.model_copy(update={"comparisons": [*made.comparisons, extra]})
    told = {finding.subject: str(finding) for finding in findings(result)}
    assert "exact McNemar test p = 0.73" in told["accuracy"]
    assert "energy per sample (modelled)" in told
    assert any(subject.startswith("throughput against stock") for subject in told)


def test_the_summary_says_how_everything_was_taken_and_why_not() -> None:
    table = to_table(make_result())
    assert column(table, "how")[2].text == "measured, n=6"
    assert column(table, "how")[2].note == "a clock"
    # Once for all variants: it stood there three times.
    (told,) = [note for note in table.notes if "energy per sample" in note]
    assert told.startswith("energy per sample, ")
    assert "pruned: not taken, no counter" in told
    assert [cell.text for cell in column(table, "pruning is")][1:3] == ["better", "better"]


def test_lengths_and_speed_by_length() -> None:
    lengths = lengths_table(make_result())
    assert lengths is not None
    assert [row[0].text for row in lengths.rows] == ["unpruned", "pruned"]
    assert [cell.value for cell in lengths.rows[1]][1:] == [400, 300, 300, 180, 180]
    speeds = speed_by_length_table(make_result())
    assert speeds is not None
    gains = column(speeds, "pruned / unpruned")
    assert [gain.text for gain in gains] == [
        "1.00 [0.90, 1.10] no difference shown",
        "1.60 [1.50, 1.70] better",
    ]
    assert lengths_table(make_result(series=[])) is None
    assert speed_by_length_table(make_result(series=[])) is None


def test_speed_by_length_says_what_was_not_timed() -> None:
    labels = ["1–64 tokens", "65–96 tokens", "257–384 tokens"]
    curves = [
        curve.model_copy(
            update={"x": [1.0, 2.0, 3.0], "y": [curve.y[0], None, curve.y[1]], "labels": labels,
                    "low": None, "high": None}
        )
        for curve in by_length()
    ]  # fmt: skip
    table = speed_by_length_table(make_result(series=curves))
    assert table is not None
    assert [row[0].text for row in table.rows] == [labels[0], labels[2]]
    assert "No batch that was timed is of 65–256 tokens." in table.notes
    assert not any("rackets" in note for note in table.notes)
    single = [
        curve.model_copy(update={name: getattr(curve, name)[:1] for name in ("x", "y", "labels")})
        for curve in curves
    ]
    table = speed_by_length_table(make_result(series=single))
    assert table is not None
    assert "All batches that were timed are of one range of lengths" in table.notes[0]


@pytest.mark.parametrize(
    ("stock", "size", "told"),
    [
        (140.0, 1, "stock takes 40.0 % more than unpruned because it pads a pair's two functions"),
        (140.0, 32, "stock takes 40.0 % more than unpruned because it pads samples of a batch"),
        (100.0, 1, None),
    ],
)
def test_padding_is_told_where_stock_multiplies_more(
    stock: float, size: int, told: str | None
) -> None:
    result = make_result()
    counts = {"stock": stock, "unpruned": 100.0}
    model = result.figure("total_macs", "unpruned")
    assert model is not None
    figures = [f for f in result.figures if f.name != "total_macs"]
    figures += [model.model_copy(update={"variant": v, "value": n}) for v, n in counts.items()]
    settings = result.settings | {"flops_batch_size": size}
    notes = to_table(result.model_copy(update={"figures": figures, "settings": settings})).notes
    found = [note for note in notes if note.startswith("Multiply-adds: ")]
    assert (told in found[0]) if told is not None else (found == [])


def test_a_table_over_seeds_shows_mean_and_interval() -> None:
    (group,), _ = group_seeds([seeded(1, 1.00), seeded(2, 1.04), seeded(3, 0.97)])
    table = seed_table(group)
    rows = {row[0].text: row for row in table.rows}
    speed = rows["throughput [samples/s]"]
    # 90, 93.6 and 87.3: mean 90.3, s 3.161, t 4.3027, n 3
    assert speed[3].text == "90.3 ± 7.9"
    assert speed[4].text.startswith("1.50 [1.3")
    assert (speed[5].text, speed[6].value) == ("better", 3)
    assert rows["accuracy [%]"][4].text == "-2.0 pts [-2.0, -2.0]"
    assert "Seeds 1, 2, 3; batch size 32, cpu." in table.notes


def test_results_are_named_by_what_tells_them_apart() -> None:
    assert describe_cell(seeded(4)) == "tiny, clone-detection: even, α 1, batch 32, seed 4"
    assert (
        describe_pruning(make_result(variants={}, figures=[], comparisons=[], series=[])) == "none"
    )
    result = of("a", "0,2", 1)
    variants = dict(result.variants)
    pruning = {"layers": "0,2", "alpha": 0.5, "merge": "none", "protect": "special"}
    variants["pruned"] = variants["pruned"].model_copy(update={"pruning": pruning})
    told = describe_pruning(result.model_copy(update={"variants": variants}))
    assert told == "0,2, α 0.5, merge none"


@pytest.mark.parametrize(
    ("text", "number", "words"),
    [
        ("0.64 [0.62, 0.66] better", "0.64 [0.62, 0.66]", "better"),
        ("-2.0 pts [-8.0, +3.0] worse", "-2.0 pts [-8.0, +3.0]", "worse"),
        ("1.05 not judged", "1.05", "not judged"),
        ("90.3 ± 7.9", "90.3 ± 7.9", ""),
        ("n/a", "", "n/a"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_text_is_parted_into_number_and_words(text: str, number: str, words: str) -> None:
    assert parted(text) == (number, words)


@given(st.text(max_size=30))
def test_parting_loses_nothing(text: str) -> None:
    number, words = parted(text)
    assert "".join(f"{number}{words}".split()) == "".join(text.split())
    assert decimals_of(text) >= 0


def test_a_coloured_row_says_its_word_once() -> None:
    silent = [Cell("a"), Cell("-7.3 [-11.0, -4.0]", -7.3, style="worse")]
    telling = [Cell("b"), Cell("0.6", 0.6, style="better"), Cell("better", style="better")]
    one = worded(Table("k", "t", [Column("x"), Column("y")], [silent]))
    assert one.rows[0][1].text == "-7.3 [-11.0, -4.0] worse"
    two = Table("k", "t", [Column("x"), Column("y"), Column("z")], [telling])
    assert worded(two) == two


def test_decimals_are_those_shown() -> None:
    shown = [decimals_of(text) for text in ("1,234", "0.62 [0.6, 0.7]", "90.25", "none")]
    assert shown == [0, 2, 2, 0]


@pytest.mark.parametrize(
    ("pruning", "words"),
    [
        (PruningConfig("even"), "even, α 1"),
        (PruningConfig("odd", 0.5, "none", "ends"), "odd, α 0.5, merge none, protect ends"),
        (
            PruningConfig("all", rule="top", keep=0.6, merge="nearest"),
            "all, merge nearest, rule top, keep 0.6",
        ),
    ],
)
def test_a_pruning_is_told_by_what_departs_from_the_defaults(
    pruning: PruningConfig, words: str
) -> None:
    result = make_result()
    pruned = result.variants["pruned"].model_copy(update={"pruning": pruning.to_dict()})
    variants = {**result.variants, "pruned": pruned}
    assert describe_pruning(result.model_copy(update={"variants": variants})) == words
