"""Sources of energy figures: NVML's counter, RAPL's counters, and codecarbon's model.

    component   measured                       modelled                    absent
    gpu         NVML total energy counter      -                           no GPU in use
    cpu         RAPL package domains           codecarbon (load and TDP)   -
    ram         RAPL dram domains              codecarbon (per module)     -

A component is measured where a counter is readable, else modelled, else absent: `open_meters`
decides, each meter says which, and nothing is ever filled in. codecarbon is used through its
offline tracker only, with every output and look-up of it switched off: no network.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.environment import nvml
from alpine_cli.results import Provenance

__all__ = ["CodecarbonMeter", "Meter", "NvmlMeter", "RaplMeter", "Source", "open_meters"]

RAPL_ROOT = Path("/sys/class/powercap")


@dataclass(frozen=True)
class Source:
    """Where a component's figure comes from."""

    provenance: Provenance
    method: str


class Meter(Protocol):
    """Measures windows: `start()`, work, `stop()` -> joules per component. Windows do not nest."""

    @property
    def sources(self) -> Mapping[str, Source]:
        """The components it covers."""

    def start(self) -> None:
        """Open a window."""

    def stop(self) -> dict[str, float]:
        """Close it; joules used since `start` for each key of `sources`."""

    def close(self) -> None:
        """Let go of whatever the meter holds."""


class NvmlMeter:
    """The energy counter of one GPU (Volta and later), in steps of about 20 to 100 ms."""

    def __init__(self, library: Any, uuid: str) -> None:
        self._library = library
        self._handle = library.nvmlDeviceGetHandleByUUID(uuid)
        self._read()  # an older card says here that it has no counter
        self.sources = {
            "gpu": Source("measured", f"NVML total energy counter of {uuid}, the whole board")
        }

    def _read(self) -> float:
        millijoules: int = self._library.nvmlDeviceGetTotalEnergyConsumption(self._handle)
        return millijoules / 1000

    def start(self) -> None:
        """Open a window."""
        self._start = self._read()

    def stop(self) -> dict[str, float]:
        """Close it.

        Raises:
            MeasurementError: the counter went backwards (the driver was reloaded).
        """
        joules = self._read() - self._start
        if joules < 0:
            raise MeasurementError("NVML's energy counter went backwards: was the driver reloaded?")
        return {"gpu": joules}

    def close(self) -> None:
        """Shut NVML down."""
        self._library.nvmlShutdown()


class RaplMeter:
    """Intel and AMD energy counters of all CPU packages and, where there are any, of memory."""

    def __init__(self, root: Path = RAPL_ROOT) -> None:
        self._zones: dict[str, list[Path]] = {"cpu": [], "ram": []}
        for zone in sorted(root.glob("intel-rapl:*")):
            name = (zone / "name").read_text().strip()
            # "psys" covers the packages as well; counting both would count twice.
            if name.startswith("package"):
                self._zones["cpu"].append(zone)
            elif name == "dram":
                self._zones["ram"].append(zone)
        self._zones = {part: zones for part, zones in self._zones.items() if zones}
        self._range = {
            zone: int((zone / "max_energy_range_uj").read_text())
            for zones in self._zones.values()
            for zone in zones
        }
        self._read()
        domains = {"cpu": "package", "ram": "dram"}
        self.sources = {
            part: Source("measured", f"RAPL {domains[part]} domain(s), whole machine")
            for part in self._zones
        }

    def _read(self) -> dict[Path, int]:
        return {zone: int((zone / "energy_uj").read_text()) for zone in self._range}

    def start(self) -> None:
        """Open a window."""
        self._start = self._read()

    def stop(self) -> dict[str, float]:
        """Close it. A counter that wrapped once within the window is put right."""
        now = self._read()
        joules = {}
        for part, zones in self._zones.items():
            micro = 0
            for zone in zones:
                step = now[zone] - self._start[zone]
                micro += step if step >= 0 else step + self._range[zone]
            joules[part] = micro / 1e6
        return joules

    def close(self) -> None:
        """Nothing is held open."""


class CodecarbonMeter:
    """codecarbon's offline model of CPU and memory power. An estimate, not a sensor."""

    def __init__(self, parts: tuple[str, ...] = ("cpu", "ram")) -> None:
        logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
        from codecarbon import OfflineEmissionsTracker

        self._parts = parts
        self._windows = 0
        # Every output and look-up is named, because a user's ~/.codecarbon.config could switch
        # them on; a forced intensity keeps it from asking for one.
        self._tracker = OfflineEmissionsTracker(
            country_iso_code="FRA",
            force_carbon_intensity_g_co2e_kwh=1.0,
            electricitymaps_api_token="",
            output_methods=[],
            save_to_file=False,
            save_to_api=False,
            save_to_logger=False,
            save_to_prometheus=False,
            save_to_logfire=False,
            measure_power_secs=1,
            log_level="critical",
            allow_multiple_runs=True,
            gpu_ids=[],
        )
        self.start()
        self.stop()  # the hardware is looked up in the first window
        self.sources = {part: Source("modelled", self._describe(part)) for part in parts}

    def _describe(self, part: str) -> str:
        from codecarbon import __version__

        name = f"codecarbon {__version__} (offline)"
        if part == "ram":
            return (
                f"{name}: constant power for the installed memory modules, so proportional to time"
            )
        cpu = next((item for item in self._tracker._hardware if type(item).__name__ == "CPU"), None)
        mode, watts = getattr(cpu, "_mode", "unknown"), getattr(cpu, "_tdp", None)
        limit = f" and a full-load power of {watts:g} W" if watts else ""
        if mode == "cpu_load":
            return f"{name}: from the whole machine's CPU load{limit}, not a sensor"
        return f"{name}, mode {mode}{limit}: constant power, so proportional to time"

    def start(self) -> None:
        """Open a window."""
        self._windows += 1
        self._tracker.start_task(f"window {self._windows}")

    def stop(self) -> dict[str, float]:
        """Close it.

        Raises:
            MeasurementError: codecarbon gave no figure.
        """
        data = self._tracker.stop_task(f"window {self._windows}")
        if data is None:
            raise MeasurementError("codecarbon gave no figure: its tracker did not start")
        return {part: getattr(data, f"{part}_energy") * 3.6e6 for part in self._parts}

    def close(self) -> None:
        """Stop the tracker's thread."""
        self._tracker.stop()


def open_meters(
    gpu_uuid: str | None, *, rapl_root: Path = RAPL_ROOT
) -> tuple[list[Meter], dict[str, str]]:
    """The best meter for each component of this machine.

    Args:
        gpu_uuid: the GPU that the work runs on, as NVML names it ("GPU-..."); None on CPU.
        rapl_root: where RAPL's zones are.

    Returns:
        The meters, and for each component that none of them covers the reason.
    """
    meters: list[Meter] = []
    absent: dict[str, str] = {}
    if gpu_uuid is None:
        absent["gpu"] = "the run used no GPU"
    else:
        try:
            import pynvml

            pynvml.nvmlInit()
            meters.append(NvmlMeter(pynvml, gpu_uuid))
        except Exception as error:
            absent["gpu"] = f"NVML has no energy counter for it: {error}"
    parts = {"cpu", "ram"}
    try:
        rapl = RaplMeter(rapl_root)
        if rapl.sources:
            meters.append(rapl)
            parts -= set(rapl.sources)
    except (OSError, ValueError):
        pass  # usual without root: energy_uj is readable by root only; the model takes over
    if parts:
        try:
            meters.append(CodecarbonMeter(tuple(sorted(parts))))
        except Exception as error:
            absent.update(dict.fromkeys(parts, f"no counter, and codecarbon failed: {error}"))
    return meters, absent


def gpu_uuid_of(index: int) -> str | None:
    """NVML's UUID of CUDA device `index`, found by torch so that CUDA_VISIBLE_DEVICES counts."""
    import torch

    uuid = getattr(torch.cuda.get_device_properties(index), "uuid", None)
    if uuid is not None:
        return f"GPU-{uuid}"
    with nvml() as library:
        if library is None:
            return None
        found = library.nvmlDeviceGetUUID(library.nvmlDeviceGetHandleByIndex(index))
        return found.decode() if isinstance(found, bytes) else str(found)
