"""Grid intensities: their source and year, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from alpine_cli.errors import ConfigError
from alpine_cli.measure.carbon import (
    GridIntensity,
    carbon_figure,
    emissions_g,
    grid_intensity,
    recompute,
)
from alpine_cli.measure.energy_figures import EnergyBlock, energy_figures, training_energy_figures
from alpine_cli.measure.meters import Source
from alpine_cli.measure.statistics import compare_all
from alpine_cli.results import Environment, Figure, Result, Subject, Variant


def test_a_country_comes_with_source_and_year() -> None:
    grid = grid_intensity("fra")
    assert 20 < grid.g_per_kwh < 150  # mostly nuclear
    assert grid.year is not None
    assert grid.place == "France"
    assert str(grid.year) in grid.describe()


def test_without_a_country_the_world_mean_says_that_it_is_one() -> None:
    assert "world mean" in grid_intensity().describe()


def test_a_given_value_is_taken_as_it_is() -> None:
    assert grid_intensity(None, 690.0).g_per_kwh == 690


@pytest.mark.parametrize("code", ["FR", "XXX", ""])
def test_an_unknown_country_is_refused(code: str) -> None:
    with pytest.raises(ConfigError, match="three-letter"):
        grid_intensity(code)


def test_country_and_value_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="not both"):
        grid_intensity("FRA", 1.0)
    with pytest.raises(ConfigError, match=">= 0"):
        grid_intensity(None, -1.0)


def test_the_papers_co2_follows_from_time_power_and_intensity() -> None:
    """ALPINE's A100 total: 18.29 h at 250 W and 0.69 kg/kWh is the 3.15 kg it prints."""
    joules = 18.29 * 3600 * 250
    assert emissions_g(joules, grid_intensity(None, 690.0)) / 1000 == pytest.approx(3.15, abs=0.01)


def test_pue_multiplies() -> None:
    grid = grid_intensity(None, 100.0)
    assert emissions_g(3.6e6, grid, 1.5) == pytest.approx(150)


SOURCES = {"cpu": Source("measured", "RAPL")}
ENVIRONMENT = Environment(
    cpu_model="a CPU",
    physical_cores=1,
    logical_cores=1,
    usable_cores=1,
    ram_bytes=1,
    os="an OS",
    python="3.11",
    versions={},
)


def result_on(grid: GridIntensity, pue: float) -> Result:
    """Inference and training energy of two variants and a fine-tuning run, on that grid."""
    figures: list[Figure] = []
    for name, scale in (("unpruned", 2.0), ("pruned", 1.0)):
        blocks = [EnergyBlock(1.0, 10, {"cpu": scale * (50 + i)}) for i in range(6)]
        figures += energy_figures(name, blocks, SOURCES, {}, {}, grid, pue)
        figures += training_energy_figures(name, blocks, SOURCES, {}, grid, pue, how="steps")
    whole = Figure(
        name="finetuning_energy",
        variant="pruned",
        unit="J",
        value=7200.0,
        provenance="modelled",
        method="sum",
    )
    figures += [
        whole,
        carbon_figure(whole, "finetuning_co2", grid, pue, factor=1, per=None),
    ]
    variant = Variant(checkpoint="c", checkpoint_sha256="0", engine="packed", description="d")
    return Result(
        figures=figures,
        comparisons=compare_all(figures, [("pruned", "unpruned")]),
        command=["alpine"],
        kind="energy",
        subject=Subject(
            model="m", task="t", head="h", data="d", split="test", samples=1, data_sha256="0"
        ),
        variants={"unpruned": variant, "pruned": variant},
        settings={"pue": pue, "country": "FRA"},
        environment=ENVIRONMENT,
    )


def content(result: Result) -> dict[str, Any]:
    """Everything but what tells results apart, and settings."""
    return result.model_dump(exclude={"id", "created", "settings"})


def close_to(value: Any) -> Any:
    """The same structure, its numbers up to rounding."""
    if isinstance(value, dict):
        return {key: close_to(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [close_to(inner) for inner in value]
    return pytest.approx(value) if isinstance(value, float) else value


@pytest.mark.parametrize(("pue", "expected_pue"), [(1.2, 1.2), (None, 1.5)])
def test_recomputed_equals_measured_on_that_grid(pue: float | None, expected_pue: float) -> None:
    """Values, samples, intervals, comparisons and methods: as if it had been measured there."""
    there, here = grid_intensity(None, 700.0), grid_intensity("FRA")
    recomputed = recompute(result_on(there, 1.5), here, pue)
    assert content(recomputed) == close_to(content(result_on(here, expected_pue)))
    assert recomputed.settings["pue"] == expected_pue
    assert recomputed.settings["country"] is None
    assert recomputed.settings["carbon_intensity"] == here.g_per_kwh
    assert "France" in recomputed.settings["carbon_recomputed"]
    figure = recomputed.figure("finetuning_co2", "pruned")
    assert figure is not None
    assert figure.value == pytest.approx(7200 / 3.6e6 * here.g_per_kwh * expected_pue)
    assert f"Our World in Data, through codecarbon, {here.year}" in figure.method


def test_from_and_to_a_grid_without_emissions() -> None:
    """A ratio is lost at 0 g/kWh and comes back from the energy's."""
    none, some = grid_intensity(None, 0.0), grid_intensity(None, 100.0)
    to_none = recompute(result_on(some, 1.0), none)
    found = to_none.comparison("co2")
    assert found is not None
    assert found.ratio is None
    assert found.verdict == "not judged"
    assert content(recompute(to_none, some)) == close_to(content(result_on(some, 1.0)))


def test_absent_energy_stays_absent() -> None:
    grid = grid_intensity()
    figures = energy_figures("pruned", [], {}, {}, {}, grid, 1.0)
    result = result_on(grid, 1.0).model_copy(update={"figures": figures, "comparisons": []})
    again = recompute(result, grid_intensity("FRA"))
    figure = again.figure("co2", "pruned")
    assert figure is not None
    assert figure.value is None
    assert figure.reason == "no component could be measured or modelled"


def test_results_without_energy_are_left_alone() -> None:
    result = result_on(grid_intensity(), 1.0).model_copy(update={"figures": [], "comparisons": []})
    assert recompute(result, grid_intensity("FRA")) is result


@pytest.mark.parametrize("pue", [0.9, float("nan"), float("inf")])
def test_an_impossible_pue_is_refused(pue: float) -> None:
    with pytest.raises(ConfigError, match="--pue"):
        recompute(result_on(grid_intensity(), 1.0), grid_intensity(), pue)
