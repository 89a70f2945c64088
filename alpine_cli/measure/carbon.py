"""From energy to CO2: the carbon intensity of a grid, with its source and year. No network.

Country figures are those that codecarbon ships (yearly means of Our World in Data); without a
country or a value the world mean is used, and every method text says so. CO2 is energy times a
constant, so `recompute` can put any result on another grid without measuring again.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, TypeVar

from alpine_cli.errors import ConfigError
from alpine_cli.results import Comparison, Figure, Interval, Result, Spread

__all__ = [
    "CARBON_OF",
    "J_PER_KWH",
    "GridIntensity",
    "carbon_figure",
    "emissions_g",
    "grid_intensity",
    "recompute",
]

J_PER_KWH = 3.6e6

CARBON_OF: Mapping[str, str] = {
    "co2": "energy_gross",
    "training_co2": "training_energy_gross",
    "finetuning_co2": "finetuning_energy",
}
"""Names of CO2 figures and of the energy figures, in J, that they are made of."""


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


def carbon_figure(
    energy: Figure, name: str, grid: GridIntensity, pue: float, *, factor: float, per: str | None
) -> Figure:
    """The CO2 that an energy figure stands for.

    Args:
        energy: a figure in J; where it is absent, so is the CO2, for the same reason.
        name: of the new figure, a key of `CARBON_OF`.
        grid, pue: grams per kWh at the site, and the site's overhead factor.
        factor: how many times `energy` one unit of the new figure is (1000 for 1000 samples).
        per: its denominator.
    """
    common: dict[str, Any] = {
        "name": name,
        "variant": energy.variant,
        "unit": "g CO2e",
        "per": per,
        "better": "lower",
    }
    if energy.value is None:
        return Figure(
            **common,
            value=None,
            reason=energy.reason,
            provenance="absent",
            method="not taken",
        )
    grams = factor * emissions_g(1.0, grid, pue)
    return Figure(
        **common,
        value=grams * energy.value,
        provenance=energy.provenance,
        method=f"{energy.name} x {grid.describe()} x PUE {pue:g}",
        n=energy.n,
        aggregate=energy.aggregate,
        interval=_scaled(energy.interval, grams),
        spread=_scaled(energy.spread, grams),
        samples=None if energy.samples is None else [grams * joules for joules in energy.samples],
    )


def recompute(result: Result, grid: GridIntensity, pue: float | None = None) -> Result:
    """The same result with its CO2 figures for another grid or site; nothing is measured again.

    CO2 is energy times a constant, so ratios, their intervals and verdicts stay as they are;
    values, differences, methods and settings change. A result without energy figures comes back
    unchanged.

    Args:
        result: of any kind; not changed.
        grid: the new intensity.
        pue: the new overhead factor; None keeps the one the result was made with.

    Raises:
        ConfigError: `pue` is below 1 or not finite.
    """
    if pue is None:
        pue = float(result.settings.get("pue") or 1.0)
    if not 1 <= pue < float("inf"):
        raise ConfigError(f"--pue: must be at least 1 (got {pue})")
    figures = []
    for figure in result.figures:
        source = CARBON_OF.get(figure.name)
        energy = None if source is None else result.figure(source, figure.variant)
        if energy is not None and energy.unit == "J":
            factor = 1000 if figure.per == "1000 samples" else 1
            figure = carbon_figure(energy, figure.name, grid, pue, factor=factor, per=figure.per)
        figures.append(figure)
    if figures == result.figures:
        return result
    changed = {(figure.name, figure.variant): figure for figure in figures}
    comparisons = []
    for found in result.comparisons:
        if found.figure in CARBON_OF:
            found = _recompared(
                found,
                result.comparison(CARBON_OF[found.figure], found.variant, found.baseline),
                changed[found.figure, found.variant],
                changed[found.figure, found.baseline],
            )
        comparisons.append(found)
    settings = {
        **result.settings,
        "pue": pue,
        "country": None,
        "carbon_intensity": grid.g_per_kwh,
        "carbon_recomputed": grid.describe(),
    }
    return result.model_copy(
        update={"figures": figures, "comparisons": comparisons, "settings": settings}
    )


def _recompared(
    old: Comparison, energy: Comparison | None, figure: Figure, baseline: Figure
) -> Comparison:
    """The comparison of the energies under the name of the CO2: a constant cancels in a ratio."""
    if energy is None or figure.value is None or baseline.value is None:
        return old
    if baseline.value == 0:  # a grid of 0 g/kWh
        return old.model_copy(
            update={
                "ratio": None,
                "interval": None,
                "difference": figure.value - baseline.value,
                "verdict": "not judged",
                "reason": f"{baseline.variant} is 0: no ratio",
                "method": figure.method,
            }
        )
    difference = figure.value - baseline.value
    return energy.model_copy(
        update={"figure": old.figure, "difference": difference, "method": figure.method}
    )


_Scaled = TypeVar("_Scaled", Interval, Spread)


def _scaled(numbers: _Scaled | None, factor: float) -> _Scaled | None:
    """Every number of an interval (but its level) or of a spread, times a factor."""
    if numbers is None:
        return None
    names = [name for name in type(numbers).model_fields if name not in ("level", "method")]
    return numbers.model_copy(update={name: getattr(numbers, name) * factor for name in names})


def _codecarbon_data(name: str) -> dict[str, Any]:
    # Read as package data, without importing codecarbon: its import costs a second and sets up
    # logging, and these tables are all that is needed here.
    path = resources.files("codecarbon").joinpath("data", "private_infra", name)
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
