"""Grid intensities: their source and year, and what is refused."""

from __future__ import annotations

import pytest

from alpine_cli.errors import ConfigError
from alpine_cli.measure.carbon import emissions_g, grid_intensity


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
