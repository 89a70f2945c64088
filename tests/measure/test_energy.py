"""Energy of variants: windows, components, sums, net of idle, training steps, CO2.

The worker runs in this process, on real models, with a clock and a meter of our own: 50 W while
idle, 150 W more while something runs, so that every figure is known beforehand.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.measure import energy, training_step
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.energy import measure_energy
from alpine_cli.measure.energy_figures import EnergyBlock, energy_figures
from alpine_cli.measure.meters import Meters, Source
from alpine_cli.measure.timing import TimedPass
from alpine_cli.results import Part
from tests.measure.nvml_trace import Clock
from tests.measure.workloads import request_for

IDLE_W, BUSY_W = 50.0, 150.0
SECONDS = {"stock": 4.0, "unpruned": 2.0, "pruned": 1.0}


class Power(Clock):
    """A clock that knows how much of its time was work."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = 0.0

    def work(self, seconds: float) -> None:
        self.now += seconds
        self.busy += seconds

    @property
    def joules(self) -> float:
        return IDLE_W * self.now + BUSY_W * self.busy


class PowerMeter:
    window_s = 3.0

    def __init__(self, power: Power) -> None:
        self.sources = {"cpu": Source("measured", "a meter of the tests")}
        self._power = power

    def start(self) -> None:
        self._first = self._power.joules

    def stop(self) -> dict[str, float]:
        return {"cpu": self._power.joules - self._first}

    def close(self) -> None:
        pass


@pytest.fixture
def power(monkeypatch: pytest.MonkeyPatch) -> Power:
    """Every pass of a variant takes `SECONDS`, a training pass three times that."""
    found = Power()
    monkeypatch.setattr(energy, "time", found)
    monkeypatch.setattr(
        energy, "open_meters", lambda uuids: Meters([PowerMeter(found)], {"gpu": "none"})
    )

    def timed(original: Callable[..., Any], factor: float) -> Callable[..., TimedPass]:
        def run(subject: Any, batches: Any) -> TimedPass:
            original(subject, batches)
            variant = getattr(subject, "variant", subject)
            found.work(factor * SECONDS[variant.name])
            return TimedPass(factor * SECONDS[variant.name])

        return run

    monkeypatch.setattr(energy, "timed_pass", timed(energy.timed_pass, 1))
    monkeypatch.setattr(energy.TrainingRun, "run", timed(energy.TrainingRun.run, 3))
    return found


def measure(subject: tuple[Path, Path], *names: str, **request: Any) -> Part:
    workload = request_for(subject, *names)
    answer = measure_energy(
        {
            "workload": workload.model_dump(mode="json"),
            "pairs": [("pruned", "unpruned")],
            "runs": 2,
            "min_seconds": 0,
            "timed_samples": None,
            "grid": vars(grid_intensity(None, 360.0)),
            "pue": 1.5,
            **request,
        }
    )
    return Part.model_validate(answer)


def by_name(part: Part, variant: str) -> dict[str, Any]:
    return {figure.name: figure for figure in part.figures if figure.variant == variant}


def test_joules_per_sample_of_inference_and_training(
    subject: tuple[Path, Path], power: Power
) -> None:
    part = measure(subject, "unpruned", "pruned", training=True, training_batch_size=4)
    samples = 24
    for name in ("unpruned", "pruned"):
        figures = by_name(part, name)
        watts = IDLE_W + BUSY_W
        assert figures["energy_gross"].value == pytest.approx(watts * SECONDS[name] / samples)
        assert figures["energy_net"].value == pytest.approx(BUSY_W * SECONDS[name] / samples)
        assert figures["energy_gross"].n == 2
        gross, net = figures["training_energy_gross"], figures["training_energy_net"]
        # At least four steps of four samples make a pass of training.
        assert gross.value == pytest.approx(watts * 3 * SECONDS[name] / 16)
        assert net.value == pytest.approx(BUSY_W * 3 * SECONDS[name] / 16)
        assert "forward, backward, AdamW" in gross.method
        grams = gross.value / 3.6e6 * 360 * 1.5
        assert figures["training_co2"].value == pytest.approx(1000 * grams)
        assert figures["training_co2"].per == "1000 samples"
        assert figures["energy_gpu"].reason == "none"
    ratios = {found.figure: found.ratio for found in part.comparisons}
    for name in ("energy_gross", "co2", "training_energy_gross", "training_co2"):
        assert ratios[name] == pytest.approx(0.5)
    assert "energy-modelled" not in {caution.code for caution in part.cautions}
    gc.collect()  # nor is an optimiser left behind
    assert not [thing for thing in gc.get_objects() if type(thing) is training_step.TrainingRun]


def test_windows_are_filled_with_whole_passes(
    subject: tuple[Path, Path], power: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = []
    original = energy._window

    def remember(*args: Any) -> EnergyBlock:
        windows.append(original(*args))
        return windows[-1]

    monkeypatch.setattr(energy, "_window", remember)
    measure(subject, "stock", "pruned")
    assert {block.seconds for block in windows} == {4.0, 3.0}  # one pass of 4 s, three of 1 s
    assert {block.samples for block in windows} == {24, 3 * 24}


def test_without_training_there_are_no_figures_of_it(
    subject: tuple[Path, Path], power: Power
) -> None:
    part = measure(subject, "pruned", training=False)
    assert not any(figure.name.startswith("training") for figure in part.figures)


def test_memory_that_does_not_suffice_costs_training_only(
    subject: tuple[Path, Path], power: Power, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(energy, "lacks_memory", lambda variants: "too little of it")
    part = measure(subject, "pruned", training=True, training_batch_size=4)
    figures = by_name(part, "pruned")
    assert figures["energy_gross"].value is not None
    for name in ("training_energy_gross", "training_energy_net", "training_co2"):
        assert figures[name].reason == "too little of it"
    assert part.cautions[0].code == "not-measured"


BLOCKS = [EnergyBlock(2.0, 10, {"gpu": 100.0 + i, "cpu": 50.0}) for i in range(6)]
MEASURED = {"gpu": Source("measured", "NVML"), "cpu": Source("measured", "RAPL")}


def test_gross_net_and_co2_of_measured_components() -> None:
    grid = grid_intensity(None, 360.0)
    figures = {
        figure.name: figure
        for figure in energy_figures(
            "pruned", BLOCKS, MEASURED, {"ram": "no counter"}, {"gpu": 10.0, "cpu": 5.0}, grid, 1.5
        )
    }
    assert figures["energy_gross"].value == pytest.approx((102.5 + 50) / 10)
    assert figures["energy_gross"].provenance == "measured"
    assert "without ram" in figures["energy_gross"].method
    assert figures["energy_net"].value == pytest.approx((102.5 - 20 + 50 - 10) / 10)
    # 15.25 J = 4.236e-6 kWh per sample; times 360 g/kWh, PUE 1.5, 1000 samples
    assert figures["co2"].value == pytest.approx(15.25 / 3.6e6 * 360 * 1.5 * 1000)
    assert figures["co2"].per == "1000 samples"
    assert figures["energy_ram"].reason == "no counter"


def test_one_modelled_component_makes_the_sum_modelled_and_net_absent() -> None:
    sources = MEASURED | {"cpu": Source("modelled", "codecarbon")}
    figures = {
        figure.name: figure
        for figure in energy_figures("pruned", BLOCKS, sources, {}, {}, grid_intensity(), 1.0)
    }
    assert figures["energy_gross"].provenance == "modelled"
    assert "gpu measured, cpu modelled" in figures["energy_gross"].method
    assert figures["energy_net"].value is None
    assert figures["co2"].provenance == "modelled"


def test_no_source_at_all_is_absent_not_zero() -> None:
    figures = energy_figures("pruned", BLOCKS, {}, {"gpu": "none"}, {}, grid_intensity(), 1.0)
    assert all(figure.value is None and figure.reason for figure in figures)
