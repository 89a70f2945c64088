"""Energy meters: counters that wrap, are missing or go backwards; the model without network."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.carbon import grid_intensity
from alpine_cli.measure.energy import EnergyBlock, energy_figures
from alpine_cli.measure.meters import (
    CodecarbonMeter,
    NvmlMeter,
    RaplMeter,
    Source,
    open_meters,
)


def write_zone(root: Path, zone: str, name: str, micro: int, limit: int = 1_000_000) -> None:
    folder = root / zone
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{micro}\n")
    (folder / "max_energy_range_uj").write_text(f"{limit}\n")


def test_rapl_adds_packages_and_tells_memory_apart(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 100)
    write_zone(tmp_path, "intel-rapl:1", "package-1", 100)
    write_zone(tmp_path, "intel-rapl:0:0", "core", 0)  # inside the package: not added again
    write_zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    write_zone(tmp_path, "intel-rapl:2", "psys", 0)  # contains the packages
    meter = RaplMeter(tmp_path)
    meter.start()
    for zone, name, micro in (
        ("intel-rapl:0", "package-0", 500_100),
        ("intel-rapl:1", "package-1", 250_100),
        ("intel-rapl:0:0", "core", 400_000),
        ("intel-rapl:0:1", "dram", 125_000),
        ("intel-rapl:2", "psys", 900_000),
    ):
        write_zone(tmp_path, zone, name, micro)
    assert meter.stop() == pytest.approx({"cpu": 0.75, "ram": 0.125})
    assert {source.provenance for source in meter.sources.values()} == {"measured"}


def test_a_rapl_counter_that_wraps_is_put_right(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    meter = RaplMeter(tmp_path)
    meter.start()
    write_zone(tmp_path, "intel-rapl:0", "package-0", 100_000)
    assert meter.stop() == pytest.approx({"cpu": 0.2})


class FakeNvml:
    """The few calls of NVML that the meter makes, over a recorded trace of the counter (mJ)."""

    def __init__(self, trace: list[int]) -> None:
        self.trace = list(trace)
        self.closed = False

    def nvmlInit(self) -> None:
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        return uuid

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        if not self.trace:
            raise RuntimeError("Not Supported")
        return self.trace.pop(0)

    def nvmlShutdown(self) -> None:
        self.closed = True


def test_nvml_gives_the_difference_in_joules() -> None:
    library = FakeNvml([1_000, 2_000, 14_500])
    meter = NvmlMeter(library, "GPU-1")
    meter.start()
    assert meter.stop() == {"gpu": 12.5}
    meter.close()
    assert library.closed


def test_a_counter_that_goes_backwards_is_an_error() -> None:
    meter = NvmlMeter(FakeNvml([1_000, 2_000, 1_500]), "GPU-1")
    meter.start()
    with pytest.raises(MeasurementError, match="backwards"):
        meter.stop()


def test_a_card_without_counter_makes_the_gpu_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml([]))  # type: ignore[arg-type]
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    write_zone(tmp_path, "intel-rapl:0:1", "dram", 0)
    meters, absent = open_meters("GPU-1", rapl_root=tmp_path)
    assert [type(meter) for meter in meters] == [RaplMeter]
    assert "Not Supported" in absent["gpu"]


def test_without_counters_the_model_steps_in_and_never_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"network asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    meters, absent = open_meters(None, rapl_root=tmp_path / "none")
    try:
        (meter,) = meters
        assert isinstance(meter, CodecarbonMeter)
        assert {source.provenance for source in meter.sources.values()} == {"modelled"}
        assert "proportional to time" in meter.sources["ram"].method
        meter.start()
        joules = meter.stop()
    finally:
        for opened in meters:
            opened.close()
    assert set(joules) == {"cpu", "ram"}
    assert all(value >= 0 for value in joules.values())
    assert absent == {"gpu": "the run used no GPU"}
    assert list(tmp_path.iterdir()) == []  # no emissions.csv left behind


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


def test_the_gpu_is_found_by_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from alpine_cli.measure.meters import gpu_uuid_of

    properties = SimpleNamespace(uuid="8e2d-11")
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    assert gpu_uuid_of(0) == "GPU-8e2d-11"
