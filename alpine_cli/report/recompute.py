"""CO2 of results put on another grid or site, without measuring again."""

from __future__ import annotations

from collections.abc import Sequence

from alpine_cli.measure.carbon import GridIntensity, grid_intensity, recompute
from alpine_cli.results import Result

__all__ = ["recompute_carbon"]


def recompute_carbon(
    results: Sequence[Result], grid: GridIntensity | None, pue: float | None
) -> tuple[list[Result], list[str]]:
    """The results with CO2 for `grid` and `pue`, and a sentence that says so.

    Neither given: the results as they are. Only `pue` given: each keeps its own grid.

    Raises:
        ConfigError: `pue` is below 1.
    """
    if grid is None and pue is None:
        return list(results), []
    recomputed = [recompute(result, grid or _grid_of(result), pue) for result in results]
    changed = sum(new is not old for new, old in zip(recomputed, results, strict=True))
    where = "each result's own grid" if grid is None else grid.describe()
    site = "" if pue is None else f", power usage effectiveness {pue:g}"
    return recomputed, [
        f"CO2 of {changed} of {len(results)} result(s) was recomputed from their energy for"
        f" {where}{site}; the result files are as they were."
    ]


def _grid_of(result: Result) -> GridIntensity:
    country = result.settings.get("country")
    given = result.settings.get("carbon_intensity")
    return grid_intensity(
        country if isinstance(country, str) else None,
        float(given) if isinstance(given, int | float) else None,
    )
