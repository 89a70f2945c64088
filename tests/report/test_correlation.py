"""Correlations against scipy and by hand; which runs are one configuration; what is marked."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from alpine_cli.report.configurations import groups_of
from alpine_cli.report.correlation import (
    correlate,
    draw_flops_against_energy,
    flops_against_energy,
)
from alpine_cli.results import Provenance, Result, Variant
from tests.report.paper_made import bench, pruning, variant

SETTINGS = {
    "stock": None,
    "unpruned": pruning("none"),
    "a": pruning("all"),
    "b": pruning("even"),
    "c": pruning("odd"),
    "d": pruning("all", alpha=2.0),
}
FLOPS = dict(zip(SETTINGS, (10e9, 10e9, 4e9, 6e9, 7e9, 5e9), strict=True))


def machine_runs(
    number: int = 1,
    names: tuple[str, ...] = tuple(SETTINGS),
    *,
    provenance: Provenance = "measured",
    gpu: str | None = None,
    factor: float = 1.0,
    power: float = 1.0,
    **changes: object,
) -> Result:
    """Energy and time are powers of the FLOPs: exact correlations, known slopes."""
    values = {
        name: {
            "total_flops": FLOPS[name],
            "energy_gross": factor * (FLOPS[name] / 1e9) ** power,
            "throughput": 1e12 / FLOPS[name],
        }
        for name in names
    }
    variants: dict[str, Variant] = {name: variant(SETTINGS[name]) for name in names}
    return bench(
        number, variants=variants, values=values, provenance=provenance, gpu=gpu, **changes
    )  # type: ignore[arg-type]


def test_coefficients_are_scipys() -> None:
    rng = np.random.default_rng(3)
    x = rng.lognormal(size=15)
    y = x**0.7 * rng.lognormal(sigma=0.4, size=15)
    found = correlate(list(x), list(y))
    assert found.pearson == pytest.approx(stats.pearsonr(np.log(x), np.log(y)).statistic)
    assert found.spearman == pytest.approx(stats.spearmanr(x, y).statistic)
    assert found.slope == pytest.approx(stats.linregress(np.log(x), np.log(y)).slope)
    for value, interval in (
        (found.pearson, found.pearson_interval),
        (found.spearman, found.spearman_interval),
    ):
        assert interval is not None
        assert value is not None
        assert -1 <= interval.low <= value <= interval.high <= 1
    again = correlate(list(x), list(y))
    assert again == found  # a report can be repeated to the digit


def test_the_interval_covers_the_true_correlation() -> None:
    """Nominal 95 %; simulation of 80 draws of 10 bivariate normal points, rho 0.8."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(80):
        a = rng.normal(size=10)
        b = 0.8 * a + 0.6 * rng.normal(size=10)
        interval = correlate(list(np.exp(a)), list(np.exp(b))).pearson_interval
        assert interval is not None
        held += interval.low <= 0.8 <= interval.high
    assert held >= 71


@pytest.mark.parametrize("n", [0, 1, 3])
def test_below_four_configurations_there_is_no_coefficient(n: int) -> None:
    found = correlate([1.0, 2.0, 3.0][:n], [1.0, 2.0, 3.0][:n])
    assert found.pearson is None
    assert found.reason == f"{n} configurations; at least 4 are needed"


def test_below_six_there_is_no_interval_and_equal_values_have_no_correlation() -> None:
    found = correlate([1, 2, 3, 4, 5], [2, 4, 6, 8, 10.5])
    assert found.pearson is not None
    assert found.pearson_interval is None
    assert "same in every" in (correlate([1, 1, 1, 1], [1, 2, 3, 4]).reason or "")


def test_energy_proportional_to_flops_is_a_perfect_proxy() -> None:
    table = flops_against_energy([machine_runs()])
    assert table is not None
    rows = {row[1].text: row for row in table.rows}
    assert set(rows) == {"FLOPs and energy", "FLOPs and time", "time and energy"}
    row = rows["FLOPs and energy"]
    assert row[2].value == 6
    assert (row[3].value, row[5].value) == (pytest.approx(1), pytest.approx(1))
    assert row[6].text == "measured, all components"
    assert row[6].note is None
    square_root = flops_against_energy([machine_runs(power=0.5)])
    assert square_root is not None
    assert square_root.rows[0][5].value == pytest.approx(0.5)


def test_modelled_energy_is_marked_in_the_cell_and_below() -> None:
    table = flops_against_energy([machine_runs(provenance="modelled")])
    assert table is not None
    assert table.rows[0][6].text == "modelled, all components"
    expected = "modelled energy follows time, so this correlation is one of FLOPs and time"
    assert table.rows[0][6].note == expected
    assert any(expected in note for note in table.notes)
    assert table.rows[1][6].text == ""  # FLOPs and time: nothing modelled


def test_repeats_are_one_configuration_and_machines_batches_and_tasks_are_apart() -> None:
    runs = [
        machine_runs(1),
        machine_runs(2, factor=4.0),  # the same configurations again: averaged
        machine_runs(3, gpu="NVIDIA A100"),
        machine_runs(4, settings={"batch_size": 1}),
        machine_runs(5, task="clone-detection"),
    ]
    groups = groups_of(runs)
    assert [len(group.points) for group in groups] == [6, 6, 6, 6]
    first = {point.setting: point.energy_j for point in groups[0].points}
    assert first["all"] == pytest.approx(math.sqrt(4.0 * 16.0))  # geometric mean of 4 J and 16 J
    assert len({group.where for group in groups}) == 4


def test_flops_may_come_from_another_result_on_the_same_samples() -> None:
    full = machine_runs()
    flops_only = full.model_copy(
        update={"figures": [f for f in full.figures if f.name == "total_flops"]}
    )
    energy_only = full.model_copy(
        update={"id": "0000000f", "figures": [f for f in full.figures if f.name != "total_flops"]}
    )
    apart, together = groups_of([flops_only, energy_only]), groups_of([full])
    assert apart == together
    elsewhere = energy_only.model_copy(
        update={"subject": full.subject.model_copy(update={"data_sha256": "1" * 64})}
    )
    assert groups_of([flops_only, elsewhere]) == []


def test_a_measured_gpu_stands_before_a_modelled_total() -> None:
    result = machine_runs(gpu="NVIDIA A100", provenance="modelled")
    figures = []
    for figure in result.figures:
        figures.append(figure)
        if figure.name == "energy_gross":
            measured = {"name": "energy_gpu", "provenance": "measured"}
            figures.append(figure.model_copy(update=measured))
    table = flops_against_energy([result.model_copy(update={"figures": figures})])
    assert table is not None
    assert table.rows[0][6].text == "measured, the GPU alone"


def test_too_few_configurations_have_one_absent_row_and_no_picture(tmp_path: Path) -> None:
    few = [machine_runs(names=("stock", "unpruned", "a"))]
    table = flops_against_energy(few)
    assert table is not None
    (row,) = table.rows
    assert row[3].text == "absent"
    assert row[3].note == "3 configurations; at least 4 are needed"
    assert not draw_flops_against_energy(few, tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


def test_nothing_to_set_against_each_other_gives_no_table() -> None:
    assert flops_against_energy([]) is None
    assert flops_against_energy([bench(values={"pruned": {"energy_gross": 1.0}})]) is None
    assert flops_against_energy([bench(values={"pruned": {"total_flops": 1.0}})]) is None
    zero = bench(values={"pruned": {"total_flops": 0.0, "energy_gross": 0.0}})
    assert flops_against_energy([zero]) is None


def test_the_picture_names_axes_points_and_coefficients(tmp_path: Path) -> None:
    path = tmp_path / "flops.svg"
    results = [machine_runs(), machine_runs(2, provenance="modelled", settings={"batch_size": 1})]
    assert draw_flops_against_energy(results, path)
    text = path.read_text(encoding="utf-8")
    for expected in (
        "GFLOPs per sample",
        "energy, J per sample",
        "energy (modelled from time), J per sample",
        "time, ms per sample",
        "n = 6, r = 1.00",
        "even",
        "stock",
        "batch size 32",
    ):
        assert expected in text, expected
    assert "mathdefault" not in text
