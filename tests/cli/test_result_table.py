"""What `alpine bench` prints: whole at 120 columns, readable at 80, the same figures in both."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from alpine_cli.cli import _result_table
from alpine_cli.cli._result_table import print_cautions, print_cells, print_result
from alpine_cli.cli.bench import _of_cells
from alpine_cli.report.session_tables import session_tables
from alpine_cli.results import Caution, Comparison, Figure, Interval, Result
from tests.report.made import make_result

# Name, unit, unpruned value, pruned value, and whether more is better: the widest rows there are.
FIGURES = (
    ("accuracy", "share", 0.6312, 0.6284, True),
    ("f1", "share", 0.6012, 0.5984, True),
    ("mcc", "1", 0.2612, 0.2584, True),
    ("total_macs", "MACs", 48.3e9, 21.4e9, False),
    ("throughput", "samples/s", 1235.0, 1753.7, True),
    ("latency", "ms", 11.73, 13.24, False),
    ("latency_p95", "ms", 14.73, 16.24, False),
    ("training_throughput", "samples/s", 110.2, 151.7, True),
    ("inference_memory_run", "bytes", 66.2 * 2**20, 45.1 * 2**20, False),
    ("training_memory_run", "bytes", 1234.0 * 2**20, 1034.0 * 2**20, False),
    ("energy_gross", "J", 0.783, 0.524, False),
    ("training_energy_gross", "J", 7.83, 5.24, False),
    ("co2", "g CO2e", 0.103, 0.0955, False),
)


@pytest.fixture(scope="module")
def result() -> Result:
    made = make_result()
    figures, comparisons = [], []
    for name, unit, base, value, more in FIGURES:
        better = "higher" if more else "lower"
        for variant, number in (("stock", base), ("unpruned", base), ("pruned", value)):
            figures.append(
                Figure(
                    name=name,
                    variant=variant,
                    unit=unit,
                    value=number,
                    provenance="modelled" if "energy" in name or name == "co2" else "measured",
                    method="made up",
                    better=better,
                    n=2732,
                )
            )
        ratio = value / base
        good = (ratio > 1) == more
        metric = name in ("accuracy", "f1", "mcc")
        interval = Interval(low=ratio * 0.97, high=ratio * 1.02, method="made up")
        difference = Interval(low=value - base - 0.03, high=value - base + 0.03, method="made up")
        for variant, baseline in (("pruned", "unpruned"), ("unpruned", "stock")):
            comparisons.append(
                Comparison(
                    figure=name,
                    variant=variant,
                    baseline=baseline,
                    better=better,
                    ratio=ratio,
                    interval=None if metric else interval,
                    difference=value - base,
                    difference_interval=difference if metric else None,
                    verdict="no difference shown" if metric else "better" if good else "worse",
                    method="made up",
                )
            )
    return made.model_copy(update={"figures": figures, "comparisons": comparisons, "cautions": []})


@pytest.fixture(params=[120, 80])
def printed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Console:
    """A console of that width, which all of the module prints to."""
    console = Console(file=io.StringIO(), width=request.param, color_system=None)
    monkeypatch.setattr(_result_table, "console", lambda: console)
    monkeypatch.setattr(_result_table, "error_console", lambda: console)
    return console


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_no_line_is_too_long_and_no_figure_is_cut(printed: Console, result: Result) -> None:
    print_result(result)
    text = text_of(printed)
    assert max(map(len, text.splitlines())) <= printed.width
    assert "…" not in text
    rows = {line.split(",")[0].strip(): line for line in text.splitlines() if ", " in line}
    assert "1,235" in text  # values
    assert "1,754" in text
    assert "1.42 [1.38, 1.45]" in text  # ratio and interval, in one piece
    assert "better" in rows["throughput"]
    assert "worse" in rows["latency at batch 1"]
    assert "undecided" in rows["accuracy"]
    assert ("/ stock" in text) == (printed.width == 120)


def test_sentences_say_what_the_table_shows(printed: Console, result: Result) -> None:
    print_result(result)
    text = " ".join(text_of(printed).split())
    assert "throughput 1.42× faster (95 % CI 1.38–1.45)" in text
    assert "accuracy no difference shown (95 % CI" in text
    assert "fewer multiply-adds" in text
    assert "less energy" in text
    assert ", modelled" in text


def test_cautions_have_effect_and_remedy(printed: Console) -> None:
    caution = Caution(code="busy", text="it was busy", effect="times spread", remedy="Wait")
    later = caution.model_copy(update={"text": "it was busy again"})
    print_cautions([caution, Caution(code="note", text="no more"), later])
    lines = [line.strip() for line in text_of(printed).splitlines()]
    assert lines == [
        "mind: it was busy",
        "mind: it was busy again",
        "effect: times spread",
        "remedy: Wait",
        "mind: no more",
    ]


def with_seed(result: Result, seed: int, size: int) -> Result:
    settings = {**result.settings, "checkpoint": f"codebert-defect-{seed}/ckpt.pt"}
    settings |= {"batch_size": size, "device": "cpu"}
    variants = {
        name: variant.model_copy(
            update={"training_seed": seed, "checkpoint_sha256": f"{seed:064d}"}
        )
        for name, variant in result.variants.items()
    }
    update = {"settings": settings, "variants": variants, "id": f"{seed:04d}{size:04d}"}
    return result.model_copy(update=update)


def test_cells_and_seeds_fit_and_name_what_differs(printed: Console, result: Result) -> None:
    cells = [with_seed(result, seed, size) for seed in (1, 2, 3) for size in (1, 32)]
    print_cells(cells)
    text = text_of(printed)
    assert max(map(len, text.splitlines())) <= printed.width
    assert "device cpu" in text  # what all cells share stands in the title, not in a column
    assert "[1.38, 1.45]" in text
    assert "1.42*" in text
    tables = session_tables(cells)
    assert [table.key for table in tables] == ["cells", "seeds"]
    by_cell, over_seeds = tables
    assert len(by_cell.rows) == 6
    assert [column.title for column in by_cell.columns][:2] == ["checkpoint", "batch"]
    assert len(over_seeds.rows) == 2  # one per batch size
    throughput = over_seeds.rows[0][[c.title for c in over_seeds.columns].index("throughput")]
    assert throughput.value == pytest.approx(1753.7 / 1235.0)


def test_without_repeats_there_is_no_table_of_seeds(result: Result) -> None:
    cells = [with_seed(result, 1, size) for size in (1, 32)]
    assert [table.key for table in session_tables(cells)] == ["cells"]


def test_cautions_of_several_cells_name_the_cells() -> None:
    """Which of the cells had been disturbed could not be told."""
    everywhere = Caution(code="energy-modelled", text="energy is modelled")
    results = [
        make_result(
            id=f"0000000{size}",
            settings={"device": "cpu", "batch_size": size},
            cautions=[everywhere, Caution(code="busy-machine", text=f"busy at {size}")],
        )
        for size in (1, 8)
    ]
    assert [caution.text for caution in _of_cells(results)] == [
        "energy is modelled",
        "batch 1: busy at 1",
        "batch 8: busy at 8",
    ]
