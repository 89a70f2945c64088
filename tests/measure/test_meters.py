"""RAPL counters in all their shapes, and codecarbon's model without network."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.meters import CodecarbonMeter, RaplMeter, open_meters
from alpine_cli.measure.rapl_meter import RaplZones


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


def test_a_second_view_of_the_packages_is_not_added(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0-die-0", 0)
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    meter = RaplMeter(tmp_path)
    meter.start()
    write_zone(tmp_path, "intel-rapl:0", "package-0-die-0", 1000)
    write_zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1000)
    assert meter.stop() == pytest.approx({"cpu": 0.001})


@pytest.mark.parametrize("zone", ["amd-rapl:0", "intel-rapl-mmio:0"])
def test_other_names_are_read_where_there_are_no_others(tmp_path: Path, zone: str) -> None:
    write_zone(tmp_path, zone, "package-0", 0)
    assert set(RaplMeter(tmp_path).sources) == {"cpu"}


def test_a_counter_that_vanishes_is_an_error(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    meter = RaplMeter(tmp_path)
    meter.start()
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(MeasurementError, match="no longer be read"):
        meter.stop()


def deny(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Let reading files of that name fail as for a user who is not root."""
    read_text = Path.read_text

    def refuse(self: Path, *args: Any, **kwargs: Any) -> str:
        if self.name == name:
            raise PermissionError(13, "Permission denied", str(self))
        return read_text(self, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", refuse)


def test_counters_for_root_only_are_told_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zone(tmp_path, "intel-rapl:0", "package-0", 0)
    deny(monkeypatch, "energy_uj")
    zones = RaplZones.find(tmp_path)
    assert zones.reason == "RAPL counters exist, but only root may read them"
    assert f"sudo chmod a+r {tmp_path}/*/energy_uj" in (zones.remedy or "")
    with pytest.raises(MeasurementError, match="sudo chmod"):
        RaplMeter(tmp_path)
    meters = open_meters((), rapl_root=tmp_path)
    try:
        (caution,) = meters.cautions()
    finally:
        meters.close()
    assert caution.code == "energy-modelled"
    assert "sudo chmod" in (caution.remedy or "")


def test_no_zones_no_remedy(tmp_path: Path) -> None:
    zones = RaplZones.find(tmp_path)
    assert "virtual machines" in (zones.reason or "")
    assert zones.remedy is None


def test_without_counters_the_model_steps_in_and_never_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError(f"network asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CODECARBON_PUE", "3")  # as in a user's ~/.codecarbon.config: not heeded
    meters = open_meters((), rapl_root=tmp_path / "none")
    try:
        (meter,) = meters.meters
        assert isinstance(meter, CodecarbonMeter)
        assert {source.provenance for source in meter.sources.values()} == {"modelled"}
        assert "proportional to time" in meter.sources["ram"].method
        meters.start()
        joules = meters.stop()
    finally:
        meters.close()
    assert set(joules) == {"cpu", "ram"}
    assert all(value >= 0 for value in joules.values())
    assert meters.absent == {"gpu": "the run used no GPU"}
    assert list(tmp_path.iterdir()) == []  # no emissions.csv left behind
