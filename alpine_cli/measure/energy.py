"""Energy per sample and the CO2 it stands for, of every variant in turn.

A block is as many passes over the timed samples as fill a window that the meters can resolve;
variants take turns (see `blocks`). Each component (gpu, cpu, ram) is measured, modelled or absent;
the total says which parts it sums. Idle power is taken while nothing runs, before the first block,
and subtracted only where it was measured: a model's idle share is no fact about the machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from alpine_cli.measure.blocks import run_blocks
from alpine_cli.measure.carbon import GridIntensity, emissions_g
from alpine_cli.measure.meters import Meter, Source, gpu_uuid_of, open_meters
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval, spread
from alpine_cli.measure.throughput import timed_pass
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Batch, LoadedVariant, WorkloadRequest, load_workload
from alpine_cli.results import Caution, Figure, Part, Provenance

__all__ = ["COMPONENTS", "EnergyBlock", "energy_figures", "measure_energy"]

COMPONENTS = ("gpu", "cpu", "ram")

# Counters tick every 20 to 100 ms; a window of seconds keeps that below a few per cent. A model
# has no such grain.
_WINDOW_SECONDS = {"measured": 3.0, "modelled": 1.0}
_IDLE_SECONDS = 5.0


@dataclass(frozen=True)
class EnergyBlock:
    """One window: wall time, samples done, joules per component."""

    seconds: float
    samples: int
    joules: Mapping[str, float]


def measure_energy(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`. Returns a `Part` as plain data."""
    workload = load_workload(WorkloadRequest.model_validate(request["workload"]))
    seed = workload.request.seed
    uuid = None
    if workload.device.type == "cuda":
        uuid = gpu_uuid_of(workload.device.index or torch.cuda.current_device())
    meters, absent = open_meters(uuid)
    try:
        batches = workload.timed_batches(request["timed_samples"])
        report_progress(0, 1000, "idle power")
        idle_watts = _idle_watts(meters)
        passes = {}
        window = max(
            (_WINDOW_SECONDS[s.provenance] for m in meters for s in m.sources.values()), default=1.0
        )
        for name, variant in workload.variants.items():
            report_progress(0, 1000, f"warm-up of {name}")
            timed_pass(variant, batches[name])
            seconds = timed_pass(variant, batches[name]).seconds
            passes[name] = max(1, round(window / max(seconds, 1e-6)))
        blocks = run_blocks(
            list(workload.variants),
            lambda name: _window(workload.variants[name], batches[name], passes[name], meters),
            runs=request["runs"],
            min_seconds=request["min_seconds"],
            seed=seed,
            on_progress=report_progress,
        )
    finally:
        for meter in meters:
            meter.close()
    sources = {part: source for meter in meters for part, source in meter.sources.items()}
    grid = GridIntensity(**request["grid"])
    figures = []
    for name in workload.variants:
        figures += energy_figures(
            name, blocks[name], sources, absent, idle_watts, grid, request["pue"]
        )
    part = Part(
        figures=figures,
        comparisons=compare_all(figures, request["pairs"], seed=seed),
        cautions=_cautions(sources),
    )
    return part.model_dump(mode="json")


def _window(
    variant: LoadedVariant, batches: Sequence[Batch], passes: int, meters: Sequence[Meter]
) -> EnergyBlock:
    for meter in meters:
        meter.start()
    seconds = sum(timed_pass(variant, batches).seconds for _ in range(passes))
    joules = {}
    for meter in meters:
        joules.update(meter.stop())
    return EnergyBlock(seconds, passes * sum(len(batch.indices) for batch in batches), joules)


def _idle_watts(meters: Sequence[Meter]) -> dict[str, float]:
    """Power of the measured components while this process sleeps."""
    if not any(s.provenance == "measured" for meter in meters for s in meter.sources.values()):
        return {}
    for meter in meters:
        meter.start()
    start = time.perf_counter()
    time.sleep(_IDLE_SECONDS)
    seconds = time.perf_counter() - start
    watts = {}
    for meter in meters:
        for part, joules in meter.stop().items():
            if meter.sources[part].provenance == "measured":
                watts[part] = joules / seconds
    return watts


def energy_figures(
    variant: str,
    blocks: Sequence[EnergyBlock],
    sources: Mapping[str, Source],
    absent: Mapping[str, str],
    idle_watts: Mapping[str, float],
    grid: GridIntensity,
    pue: float,
) -> list[Figure]:
    """Turn the windows of one variant into figures: per component, total, net, CO2."""
    figures = []
    for part in COMPONENTS:
        name = f"energy_{part}"
        if part not in sources:
            figures.append(_absent(variant, name, "J", absent.get(part, "no source")))
            continue
        source = sources[part]
        values = [block.joules[part] / block.samples for block in blocks]
        figures.append(_figure(variant, name, "J", values, source.provenance, source.method))
    figures.append(_total(variant, blocks, sources))
    figures.append(_net(variant, blocks, sources, idle_watts))
    figures.append(_carbon(figures[-2], grid, pue))
    return figures


def _total(variant: str, blocks: Sequence[EnergyBlock], sources: Mapping[str, Source]) -> Figure:
    if not sources:
        return _absent(variant, "energy_gross", "J", "no component could be measured or modelled")
    kinds = {source.provenance for source in sources.values()}
    provenance: Provenance = "measured" if kinds == {"measured"} else "modelled"
    parts = ", ".join(f"{part} {source.provenance}" for part, source in sources.items())
    missing = [part for part in COMPONENTS if part not in sources]
    method = f"sum of {parts}" + (f"; without {', '.join(missing)}" if missing else "")
    values = [sum(block.joules.values()) / block.samples for block in blocks]
    return _figure(variant, "energy_gross", "J", values, provenance, method)


def _net(
    variant: str,
    blocks: Sequence[EnergyBlock],
    sources: Mapping[str, Source],
    idle_watts: Mapping[str, float],
) -> Figure:
    """Measured components less their idle share of the same time."""
    if not idle_watts:
        reason = "no component is measured; idle power can only be subtracted from a measurement"
        return _absent(variant, "energy_net", "J", reason)
    values = [
        sum(block.joules[part] - watts * block.seconds for part, watts in idle_watts.items())
        / block.samples
        for block in blocks
    ]
    idle = ", ".join(f"{part} {watts:.1f} W" for part, watts in idle_watts.items())
    method = f"measured components minus their idle power ({idle}) over the same time"
    return _figure(variant, "energy_net", "J", values, "measured", method)


def _carbon(gross: Figure, grid: GridIntensity, pue: float) -> Figure:
    if gross.value is None or gross.samples is None:
        return _absent(gross.variant, "co2", "g CO2e", gross.reason or "no energy figure")
    values = [1000 * emissions_g(joules, grid, pue) for joules in gross.samples]
    method = f"energy_gross x {grid.describe()} x PUE {pue:g}"
    return _figure(
        gross.variant, "co2", "g CO2e", values, gross.provenance, method, per="1000 samples"
    )


def _figure(
    variant: str,
    name: str,
    unit: str,
    values: list[float],
    provenance: Provenance,
    method: str,
    per: str = "sample",
) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=float(aggregate(values, "mean")),
        provenance=provenance,
        method=method,
        per=per,
        better="lower",
        n=len(values),
        aggregate="mean",
        interval=mean_interval(values),
        spread=spread(values),
        samples=values,
    )


def _absent(variant: str, name: str, unit: str, reason: str) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=None,
        reason=reason,
        provenance="absent",
        method="not taken",
        per="1000 samples" if name == "co2" else "sample",
        better="lower",
    )


def _cautions(sources: Mapping[str, Source]) -> list[Caution]:
    modelled = [part for part, source in sources.items() if source.provenance == "modelled"]
    if not modelled:
        return []
    return [
        Caution(
            code="energy-modelled",
            text=f"energy of {', '.join(modelled)} is modelled, not measured",
            effect="it follows run time and CPU load and shows no saving beyond them",
            remedy="Readable RAPL counters (Linux, root) or an NVIDIA GPU would measure it",
        )
    ]
