"""Which figure of ours stands in which published cell, and what is said where they differ."""

from __future__ import annotations

import pytest

from alpine_cli.report.paper_runs import choose, runs_of
from alpine_cli.report.paper_tables import paper_tables
from alpine_cli.report.published import load_tables
from alpine_cli.report.tables import Cell, Table
from alpine_cli.results import Result
from tests.report.paper_made import bench, faster, pruning, training, variant

FULL = {
    "stock": {"accuracy": 0.63, "total_macs": 30e9, "throughput": 50.0},
    "unpruned": {"accuracy": 0.63, "total_macs": 30e9, "throughput": 60.0},
    "pruned": {"accuracy": 0.62, "total_macs": 15e9, "throughput": 90.0},
}


def tables_of(*results: Result) -> dict[str, Table]:
    return {table.key: table for table in paper_tables(results)}


def row_of(table: Table, *names: str) -> dict[str, Cell]:
    """The one row whose first cells are these."""
    found = [row for row in table.rows if tuple(c.text for c in row[: len(names)]) == names]
    assert len(found) == 1, names
    titles = [column.title for column in table.columns]
    return dict(zip(titles, found[0], strict=True))


def told(table: Table, row: dict[str, Cell]) -> list[str]:
    """The sentences that a row's numbers refer to."""
    marks = row["see notes"].text.split()
    return [note for note in table.notes if note.partition(" ")[0] in marks]


def test_no_results_give_no_tables() -> None:
    assert paper_tables([]) == []


def test_every_published_figure_of_tables_a_and_b_is_shown_as_printed() -> None:
    made = tables_of(
        bench(values=FULL), bench(2, task="clone-detection", values={"pruned": {"f1": 0.9}})
    )
    for key, letter, score in (("table-a", "A", "accuracy"), ("table-b", "B", "F1")):
        for cell in load_tables()[letter].cells:
            assert cell.model is not None
            row = row_of(made[key], cell.model, cell.layers)
            shown = row[f"{score}, published"]
            assert shown.value == cell.values["score"]
            assert shown.text == f"{cell.values['score']:.2f}"
            macs = row["multiply-adds (× fewer), published"]
            assert macs.value == cell.values["macs"]
            if cell.layers != "none":
                assert macs.text.endswith(f"({cell.values['reduction']:.2f}×)")
            assert {shown.style, macs.style} == {"published"}


@pytest.mark.parametrize("model", ["codebert", "codebert-base", "CodeBERT"])
def test_ours_stand_beside_the_same_cell(model: str) -> None:
    table = tables_of(bench(model=model, values=FULL, comparisons=[faster(1.5, 1.4, 1.6)]))[
        "table-a"
    ]
    pruned = row_of(table, "CodeBERT", "all")
    assert pruned["accuracy, ours"].value == pytest.approx(62.0)
    assert pruned["multiply-adds (× fewer), ours"].text == "15.0 (2.00×)"
    assert pruned["throughput (× faster), ours"].text == "90.0 (1.50× [1.40, 1.60])"
    assert pruned["our results"].text == "00000001"
    none = row_of(table, "CodeBERT", "none")
    assert none["throughput (× faster), ours"].value == 50.0  # stock, not the bare engine
    engine = row_of(table, "CodeBERT", "none, packed")
    assert engine["throughput (× faster), ours"].value == 60.0
    assert engine["accuracy, published"].text == "not published"
    other = row_of(table, "UniXcoder", "all")
    assert other["accuracy, ours"].text == "not measured"


def test_a_run_like_the_papers_differs_in_cost_and_machine_only() -> None:
    table = tables_of(bench(values=FULL))["table-a"]
    sentences = told(table, row_of(table, "CodeBERT", "all"))
    assert len(sentences) == 2
    assert "GMACs: ours at batch size 1" in sentences[0]
    assert "Speed: ours on Test CPU, 1 thread, batch size 32" in sentences[1]
    alone = tables_of(bench(values={"pruned": {"accuracy": 0.62}}))["table-a"]
    assert told(alone, row_of(alone, "CodeBERT", "all")) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"samples": 272}, "272 of the 2,732 test functions"),
        ({"split": "valid"}, "Measured on the valid split, published on the test split"),
        ({"settings": {"max_length": 256}}, "Cut at 256 tokens, published at 512"),
        ({"settings": {"max_length": None}}, "length limit of our run is not recorded"),
        (
            {"variants": {"pruned": variant(pruning(), seed=7)}},
            "Fine-tuned with seed 7, published with seed 123456",
        ),
        (
            {"variants": {"pruned": variant(pruning(), seed=None)}},
            "The seed of our fine-tuning is not known",
        ),
        (
            {"variants": {"pruned": variant(pruning(protect="special"))}},
            "protect special",
        ),
        (
            {"variants": {"unpruned": variant(pruning("none")), "pruned": variant(pruning())}},
            "ran on the same weights",
        ),
    ],
    ids=["subset", "split", "limit", "no-limit", "seed", "no-seed", "protect", "no-retraining"],
)
def test_each_difference_is_said_in_plain_words(changes: dict, expected: str) -> None:
    table = tables_of(bench(values={"pruned": {"accuracy": 0.62}}, **changes))["table-a"]
    (sentence,) = told(table, row_of(table, "CodeBERT", "all"))
    assert expected in sentence


def test_clone_detection_counts_pairs_and_never_has_the_same_ones() -> None:
    result = bench(
        task="clone-detection", samples=1948, values={"pruned": {"f1": 0.9, "total_macs": 4e10}}
    )
    table = tables_of(result)["table-b"]
    sentences = told(table, row_of(table, "CodeBERT", "all"))
    assert "1,948 test pairs, published on another 4,154 drawn at random" in sentences[0]
    assert "in batches of 8" in sentences[1]
    assert any("96.5 GMACs are twice" in note for note in table.notes)


def test_what_the_paper_lacks_stands_below_its_rows() -> None:
    odd_ones = {
        "narrow": variant(pruning("all", alpha=0.5)),
        "dropped": variant(pruning("all", merge="none")),
        "reference": variant(pruning("all", engine="reference")),
        "list": variant(pruning("0,2,4,6,8,10")),
    }
    values = {name: {"accuracy": 0.6} for name in odd_ones}
    table = tables_of(
        bench(values=values, variants=odd_ones),
        bench(2, model="tiny", values=FULL),
        bench(3, data="own", samples=10, values=FULL),
    )["table-a"]
    assert row_of(table, "CodeBERT", "all")["accuracy, ours"].text == "not measured"
    assert row_of(table, "CodeBERT", "even")["accuracy, ours"].value == 60.0  # the list is "even"
    below = [(row[0].text, row[1].text) for row in table.rows[12:]]
    assert ("CodeBERT", "all, α 0.5") in below
    assert ("CodeBERT", "all, dropped") in below
    assert ("CodeBERT", "all, reference") in below
    assert ("tiny on devign", "all") in below
    assert ("codebert on own", "all") in below
    own = row_of(table, "codebert on own", "all")
    assert own["accuracy, published"].text == "not published"
    assert own["see notes"].text == ""


def test_sweeps_fill_cells_but_do_not_flood_the_table() -> None:
    variants = {"none": variant(pruning("none")), "as published": variant(pruning("all"))}
    variants |= {f"all a{k}": variant(pruning("all", alpha=k / 10)) for k in range(1, 9)}
    values = {name: {"accuracy": 0.6} for name in variants}
    table = tables_of(bench(kind="sweep", variants=variants, values=values))["table-a"]
    assert row_of(table, "CodeBERT", "all")["accuracy, ours"].value == 60.0
    assert len(table.rows) == 13  # 12 published, one for the engine
    assert any(note.startswith("Left out: 8 setting(s) of sweeps") for note in table.notes)


def test_of_several_results_the_best_known_is_taken_and_named() -> None:
    few = bench(3, samples=100, values={"pruned": {"accuracy": 0.9}})
    full = bench(1, values={"pruned": {"accuracy": 0.61, "throughput": 5.0}})
    newer = bench(2, values={"pruned": {"accuracy": 0.62}})
    table = tables_of(few, full, newer)["table-a"]
    row = row_of(table, "CodeBERT", "all")
    assert row["accuracy, ours"].value == pytest.approx(62.0)
    assert row["our results"].text == "score: 00000002 of 3; speed: 00000001 of 3"
    assert choose(runs_of([few]), "f1") is None


def test_seeds_are_averaged_where_results_differ_in_nothing_else() -> None:
    repeats = []
    for seed, accuracy in ((1, 0.60), (2, 0.62), (3, 0.64)):
        variants = {
            "unpruned": variant(pruning("none"), "abc"[seed - 1], seed),
            "pruned": variant(pruning(), "def"[seed - 1], seed),
        }
        values = {"pruned": {"accuracy": accuracy}}
        repeats.append(bench(seed, variants=variants, values=values))
    table = tables_of(*repeats)["table-a"]
    row = row_of(table, "CodeBERT", "all")
    cell = row["accuracy, ours"]
    assert cell.value == pytest.approx(62.0)
    assert cell.low is not None
    assert cell.high is not None
    assert cell.low < 60 < 64 < cell.high
    assert row["our results"].text == "mean of seeds 1, 2, 3"
    (sentence,) = told(table, row)
    assert "Mean over fine-tuning seeds 1, 2, 3" in sentence


def test_an_absent_figure_says_why() -> None:
    table = tables_of(bench(values={"pruned": {"accuracy": 0.6, "throughput": None}}))["table-a"]
    cell = row_of(table, "CodeBERT", "all")["throughput (× faster), ours"]
    assert (cell.text, cell.note, cell.style) == ("n/a", "no counter", "absent")


def test_memory_is_set_against_the_same_engine() -> None:
    bytes_of = {"stock": 3000e6, "unpruned": 2000e6, "pruned": 500e6}
    name = "inference_memory_cuda_run"
    values = {of: {name: value} for of, value in bytes_of.items()}
    on_cpu = bench(2, values={of: {"inference_memory_run": 9e9} for of in bytes_of}, model="tiny")
    table = tables_of(bench(values=values, gpu="NVIDIA H200"), on_cpu)["table-c"]
    row = row_of(table, "defect-detection", "CodeBERT", "all")
    assert row["none, published"].value == 1650
    assert row["cut, published"].value == pytest.approx(71.97, abs=0.01)
    assert row["pruned, published"].note is not None
    assert row["stock, ours"].value == 3000
    assert row["none in the same engine, ours"].value == 2000
    assert row["cut, ours"].value == pytest.approx(75.0)
    assert "on the GPU (NVIDIA H200, batch size 32)" in told(table, row)[0]
    below = row_of(table, "defect-detection", "tiny on devign", "all")
    assert "on the CPU" in told(table, below)[0]


def test_fine_tuning_time_stands_beside_the_same_gpu_only() -> None:
    table = tables_of(
        training(1, "none", 2000),
        training(2, "all", 1500),
        training(3, "none", 9000, gpu="NVIDIA GeForce RTX 2080 Ti"),
        training(4, "all", 6000, gpu="NVIDIA GeForce RTX 2080 Ti", epochs=3),
    )["table-d"]
    row = row_of(table, "A100", "defect-detection", "CodeBERT", "all")
    assert row["none, published"].value == 2499
    assert row["time saved, published"].value == pytest.approx(25.33, abs=0.01)
    assert (row["none, ours"].value, row["pruned, ours"].value) == (2000, 1500)
    assert row["time saved, ours"].value == pytest.approx(25.0)
    assert told(table, row) == []
    assert (
        row_of(table, "RTX 2080", "defect-detection", "CodeBERT", "all")["pruned, ours"].text
        == "not measured"
    )
    ti = [row for row in table.rows if row[0].text == "NVIDIA GeForce RTX 2080 Ti"]
    assert len(ti) == 2  # three epochs and five are not set against each other
    notes = " ".join(table.notes)
    assert "our epochs is 3, published 5" in notes
    assert "published on an A100 and an RTX 2080" in notes


def test_co2_is_summed_over_six_runs_or_not_at_all() -> None:
    runs = []
    for task in ("defect-detection", "clone-detection"):
        for model in ("codebert", "graphcodebert", "unixcoder"):
            for layers, grams in (("none", 500.0), ("all", 400.0)):
                number = len(runs) + 1
                runs.append(training(number, layers, 100, model=model, task=task, co2=grams))
    table = tables_of(*runs)["table-e"]
    row = row_of(table, "A100", "all six runs", "all")
    assert (row["none, ours"].value, row["pruned, ours"].value) == (3.0, pytest.approx(2.4))
    assert row["cut, ours"].value == pytest.approx(20.0)
    wrong = row_of(table, "RTX 2080", "all six runs", "all")
    assert wrong["pruned, published"].text == "0.34"
    assert "it is 3.27" in (wrong["pruned, published"].note or "")
    assert len(table.rows) == 8  # two published, six of ours
    partial = tables_of(*runs[:-1])["table-e"]
    cell = row_of(partial, "A100", "all six runs", "all")["none, ours"]
    assert (cell.text, cell.note) == ("not measured", "5 of 6 pairs of runs")


def test_the_merge_ablation_pairs_runs_that_differ_in_merging_only() -> None:
    variants = {
        "merged": variant(pruning("all")),
        "dropped": variant(pruning("all", merge="none")),
        "narrow": variant(pruning("all", merge="none", alpha=0.5)),
    }
    accuracy = {"merged": 0.62, "dropped": 0.60, "narrow": 0.5}
    values = {name: {"accuracy": value} for name, value in accuracy.items()}
    table = tables_of(bench(kind="sweep", variants=variants, values=values))["table-f"]
    row = row_of(table, "defect-detection", "CodeBERT", "all")
    assert row["gain of merging, published"].text == "+0.50"
    assert row["gain of merging, ours"].value == pytest.approx(2.0)
    assert any("on the same weights" in sentence for sentence in told(table, row))
    noted = row_of(table, "clone-detection", "CodeBERT", "even")
    assert "90.39 in table B" in (noted["merged, published"].note or "")
    below = row_of(table, "defect-detection", "CodeBERT", "all, α 0.5")
    assert below["gain of merging, ours"].text == "not measured"
    assert len(table.rows) == 19
    assert "table-f" not in tables_of(bench(values=FULL))


def test_lengths_of_ours_stand_below_the_published_curve() -> None:
    ours = [400.0 - 20 * layer for layer in range(13)]
    short = [100.0, 80.0, 80.0]
    table = tables_of(
        bench(curves={"stock": [400.0] * 13, "pruned": ours}),
        bench(2, model="tiny", curves={"pruned": short}),
    )["table-g"]
    titles = [column.title for column in table.columns]
    assert titles[4:16] == [str(layer) for layer in range(12)]
    above = [row for row in table.rows if row[1].text == "CodeBERT" and row[2].text == "all"]
    assert [row[3].text for row in above] == ["published", "ours, 00000001"]
    assert [cell.value for cell in above[1][4:16]] == ours[:12]  # what leaves the last: no column
    assert any("padded to the longest" in note for note in table.notes)
    tiny = next(row for row in table.rows if row[1].text == "tiny on devign")
    assert [cell.text for cell in tiny[4:8]] == ["100.0", "80.0", "", ""]
    assert any("No curve of ours for clone-detection" in note for note in table.notes)
    unmeasured = [row for row in table.rows if row[1].text == "UniXcoder"]
    assert {row[-1].text for row in unmeasured} == {"not measured"}


def test_a_deeper_model_widens_the_table_of_lengths() -> None:
    deep = [100.0 - layer for layer in range(25)]
    table = tables_of(bench(model="deep", curves={"pruned": deep}))["table-g"]
    assert len(table.columns) == 4 + 24 + 1
    assert table.rows[-1][27].value == 77.0


def test_the_overview_lists_what_there_is_nothing_of_in_one_line() -> None:
    made = tables_of(bench(values=FULL))
    assert set(made) == {"paper-tables", "table-a", "paper-claims"}
    overview = {row[0].text: row[3].text for row in made["paper-tables"].rows}
    assert overview["A"] == "2 of 12 published rows have figures of ours"
    assert {overview[letter] for letter in "BCDEFG"} == {"nothing measured: not shown"}
    assert "paper-claims" not in tables_of(bench(model="tiny", values=FULL))


def test_claims_show_the_misprints_beside_what_the_tables_give() -> None:
    table = tables_of(bench(values=FULL))["paper-claims"]
    found = {row[2].text: (row[3].text, row[5].text) for row in table.rows}
    assert found["1375"] == ("1,530", "does not agree")
    assert found["0.34"] == ("3.27", "does not agree")
    assert found["28.1"] == ("38.79", "does not agree")
    assert found["90.39"] == ("90.93", "does not agree")
    assert found["58.1"] == ("58.11", "holds")


def test_keys_and_titles_are_distinct_and_every_note_that_is_referred_to_exists() -> None:
    made = paper_tables([bench(values=FULL, curves={"stock": [9.0] * 13})])
    assert len({table.key for table in made}) == len(made)
    for table in made:
        if table.columns[-1].title != "see notes":
            continue
        for row in table.rows:
            for mark in row[-1].text.split():
                if mark.startswith("["):
                    assert any(note.startswith(f"{mark} ") for note in table.notes)
