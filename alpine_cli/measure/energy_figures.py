"""Figures from energy windows: per component, their sum, less idle, and the CO2 they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alpine_cli.measure.carbon import GridIntensity, carbon_figure
from alpine_cli.measure.meter import COMPONENTS, Source
from alpine_cli.measure.statistics import aggregate, mean_interval, spread
from alpine_cli.results import Figure, Provenance

__all__ = [
    "EnergyBlock",
    "absent_training_figures",
    "energy_figures",
    "sum_method",
    "sum_provenance",
    "training_energy_figures",
]


@dataclass(frozen=True)
class EnergyBlock:
    """One window: wall time, samples done, joules per component."""

    seconds: float
    samples: int
    joules: Mapping[str, float]


def energy_figures(
    variant: str,
    blocks: Sequence[EnergyBlock],
    sources: Mapping[str, Source],
    absent: Mapping[str, str],
    idle_watts: Mapping[str, float],
    grid: GridIntensity,
    pue: float,
) -> list[Figure]:
    """Energy of one variant in inference, J per sample: energy_gpu, _cpu, _ram, _gross, _net; co2.

    Args:
        variant: its name.
        blocks: its windows.
        sources: of the components that were metered.
        absent: reasons for the others.
        idle_watts: of measured components, taken while nothing of ours ran.
        grid, pue: see `carbon`.
    """
    figures = []
    for part in COMPONENTS:
        name = f"energy_{part}"
        if part not in sources:
            figures.append(_absent(variant, name, absent.get(part, "no source")))
            continue
        source = sources[part]
        values = [block.joules[part] / block.samples for block in blocks]
        figures.append(_figure(variant, name, values, source.provenance, source.method))
    gross = _gross(variant, "energy_gross", blocks, sources)
    figures += [gross, _net(variant, "energy_net", blocks, idle_watts)]
    figures.append(carbon_figure(gross, "co2", grid, pue, factor=1000, per="1000 samples"))
    return figures


def training_energy_figures(
    variant: str,
    blocks: Sequence[EnergyBlock],
    sources: Mapping[str, Source],
    idle_watts: Mapping[str, float],
    grid: GridIntensity,
    pue: float,
    *,
    how: str,
) -> list[Figure]:
    """Energy of one variant's training steps, in J per sample: training_energy_gross, _net, _co2.

    Args: as for `energy_figures`; `how` says what a step was.
    """
    gross = _gross(variant, "training_energy_gross", blocks, sources, how)
    net = _net(variant, "training_energy_net", blocks, idle_watts, how)
    co2 = carbon_figure(gross, "training_co2", grid, pue, factor=1000, per="1000 samples")
    return [gross, net, co2]


def absent_training_figures(variant: str, reason: str, grid: GridIntensity) -> list[Figure]:
    """The same figures where training steps could not be run."""
    gross = _absent(variant, "training_energy_gross", reason)
    co2 = carbon_figure(gross, "training_co2", grid, 1.0, factor=1000, per="1000 samples")
    return [gross, _absent(variant, "training_energy_net", reason), co2]


def sum_provenance(sources: Mapping[str, Source]) -> Provenance:
    """A sum is measured only if all of it is."""
    kinds = {source.provenance for source in sources.values()}
    return "measured" if kinds == {"measured"} else "modelled"


def sum_method(sources: Mapping[str, Source]) -> str:
    """Which components a sum holds, each with its provenance, and which it lacks."""
    parts = ", ".join(f"{part} {source.provenance}" for part, source in sources.items())
    missing = [part for part in COMPONENTS if part not in sources]
    return f"sum of {parts}" + (f"; without {', '.join(missing)}" if missing else "")


def _gross(
    variant: str,
    name: str,
    blocks: Sequence[EnergyBlock],
    sources: Mapping[str, Source],
    how: str = "",
) -> Figure:
    if not sources:
        return _absent(variant, name, "no component could be measured or modelled")
    values = [sum(block.joules.values()) / block.samples for block in blocks]
    method = "; ".join(filter(None, (sum_method(sources), how)))
    return _figure(variant, name, values, sum_provenance(sources), method)


def _net(
    variant: str,
    name: str,
    blocks: Sequence[EnergyBlock],
    idle_watts: Mapping[str, float],
    how: str = "",
) -> Figure:
    """Measured components less their idle share of the same time."""
    if not idle_watts:
        reason = "no component is measured; idle power can only be subtracted from a measurement"
        return _absent(variant, name, reason)
    values = [
        sum(block.joules[part] - watts * block.seconds for part, watts in idle_watts.items())
        / block.samples
        for block in blocks
    ]
    idle = ", ".join(f"{part} {watts:.1f} W" for part, watts in idle_watts.items())
    method = f"measured components minus their idle power ({idle}) over the same time"
    return _figure(variant, name, values, "measured", "; ".join(filter(None, (method, how))))


def _figure(
    variant: str, name: str, values: list[float], provenance: Provenance, method: str
) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit="J",
        value=float(aggregate(values, "mean")),
        provenance=provenance,
        method=method,
        per="sample",
        better="lower",
        n=len(values),
        aggregate="mean",
        interval=mean_interval(values),
        spread=spread(values),
        samples=values,
    )


def _absent(variant: str, name: str, reason: str) -> Figure:
    return Figure.absent(name, variant, "J", reason, better="lower", per="sample")
