"""From energy to CO2: the carbon intensity of a grid, with its source and year. No network.

Country figures are those that codecarbon ships (yearly means of Our World in Data); without a
country or a value the world mean is used, and every method text says so.
"""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

from alpine_cli.errors import ConfigError

__all__ = ["J_PER_KWH", "GridIntensity", "emissions_g", "grid_intensity"]

J_PER_KWH = 3.6e6


@dataclass(frozen=True)
class GridIntensity:
    """Grams of CO2 equivalent per kWh of electricity, and where the number comes from."""

    g_per_kwh: float
    source: str
    year: int | None
    place: str

    def describe(self) -> str:
        """One clause for a method text."""
        year = f", {self.year}" if self.year else ""
        return f"{self.g_per_kwh:g} g CO2e/kWh ({self.place}; {self.source}{year})"


def grid_intensity(country: str | None = None, g_per_kwh: float | None = None) -> GridIntensity:
    """The intensity of a country (ISO 3166 alpha-3, e.g. FRA), of a given value, or of the world.

    Raises:
        ConfigError: an unknown country code, a value below 0, or both given.
    """
    if country is not None and g_per_kwh is not None:
        raise ConfigError("give --country or --carbon-intensity, not both")
    if g_per_kwh is not None:
        if not 0 <= g_per_kwh < float("inf"):
            raise ConfigError(f"--carbon-intensity: must be >= 0 g/kWh (got {g_per_kwh})")
        return GridIntensity(g_per_kwh, "value given by the user", None, "given")
    if country is None:
        world = _codecarbon_data("carbon_intensity_per_source.json")
        return GridIntensity(
            float(world["world_average"]),
            "IEA, Global Energy & CO2 Status Report, through codecarbon",
            2019,
            "world mean, as no --country was given",
        )
    mixes = _codecarbon_data("global_energy_mix.json")
    code = country.upper()
    if code not in mixes or mixes[code].get("carbon_intensity") is None:
        near = difflib.get_close_matches(code, mixes, n=3, cutoff=0.3)
        hint = f"; near: {', '.join(near)}" if near else ""
        raise ConfigError(
            f"--country: {country!r} is not a known three-letter ISO code{hint}."
            " --carbon-intensity takes a value in g CO2e/kWh instead"
        )
    mix = mixes[code]
    return GridIntensity(
        float(mix["carbon_intensity"]),
        "Our World in Data, through codecarbon",
        int(mix["year"]),
        str(mix["country_name"]),
    )


def emissions_g(energy_j: float, intensity: GridIntensity, pue: float = 1.0) -> float:
    """Grams of CO2e for `energy_j` joules at the device, with the site's overhead factor `pue`."""
    return energy_j / J_PER_KWH * intensity.g_per_kwh * pue


def _codecarbon_data(name: str) -> dict[str, Any]:
    # Read as package data, without importing codecarbon: its import costs a second and sets up
    # logging, and these tables are all that is needed here.
    path = resources.files("codecarbon").joinpath("data", "private_infra", name)
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
