"""RAPL: the energy counters of CPU packages and memory that Linux shows under powercap.

AMD's counters appear under Intel's name ("intel-rapl:0", Linux 5.8 and later); "intel-rapl-mmio"
shows the same packages a second time and is read only where nothing else is. A package contains
its "core" and "uncore" zones, and "psys" contains the packages: counting those would count twice.

Since Linux 5.10 only root may read the counters (CVE-2020-8694): a program that watches them can
guess what others compute. `RaplZones` says so, with the command that allows it until the next boot.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.meter import Source

__all__ = ["RAPL_ROOT", "RaplMeter", "RaplZones"]

RAPL_ROOT = Path("/sys/class/powercap")

_PATTERNS = ("intel-rapl:*", "amd-rapl:*", "intel-rapl-mmio:*")  # the first that has zones


@dataclass(frozen=True)
class RaplZones:
    """The zones of a machine and whether they can be read.

    Attributes:
        zones: by component ("cpu", "ram") the folders of its zones.
        denied: a zone that exists and may not be read; None where all may.
        reason: why there is nothing to read; None where there is.
        remedy: what to do about it; None where nothing helps.
    """

    zones: Mapping[str, list[Path]] = field(default_factory=dict)
    denied: Path | None = None
    reason: str | None = None
    remedy: str | None = None

    @classmethod
    def find(cls, root: Path = RAPL_ROOT) -> RaplZones:
        """Look below `root`; never raises."""
        found: dict[str, list[Path]] = {}
        for pattern in _PATTERNS:
            for zone in sorted(root.glob(pattern)):
                component = _component_of(zone)
                if component is not None:
                    found.setdefault(component, []).append(zone)
            if found:
                break
        if not found:
            return cls(
                reason="no RAPL counters (they need bare metal, Linux and an Intel or AMD"
                " processor; virtual machines rarely pass them on)"
            )
        for zone in (zone for zones in found.values() for zone in zones):
            try:
                _read_number(zone / "energy_uj")
                _read_number(zone / "max_energy_range_uj")
            except PermissionError:
                return cls(
                    found,
                    zone,
                    reason="RAPL counters exist, but only root may read them",
                    remedy=f"Run as root, or until the next boot: sudo chmod a+r"
                    f" {zone.parent}/*/energy_uj",
                )
            except (OSError, ValueError) as error:
                return cls(found, zone, reason=f"RAPL counters cannot be read: {error}")
        return cls(found)


def _component_of(zone: Path) -> str | None:
    try:
        name = (zone / "name").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None
    if name.startswith("package"):
        return "cpu"
    return "ram" if name == "dram" else None


def _read_number(path: Path) -> int:
    return int(path.read_text(encoding="ascii"))


class RaplMeter:
    """All CPU packages and, where there are counters, memory. See `meter.Meter`.

    A counter that wrapped once within a window is put right; at 300 W a 32-bit counter wraps in
    under four minutes, so longer work is to be cut into windows.

    Raises:
        MeasurementError: there is no counter, or it may not be read; says what to do.
    """

    window_s = 1.0  # the counters move every millisecond

    def __init__(self, root: Path = RAPL_ROOT) -> None:
        found = RaplZones.find(root)
        if found.reason is not None:
            raise MeasurementError(". ".join(filter(None, (found.reason, found.remedy))))
        self._zones = found.zones
        self._range = {
            zone: _read_number(zone / "max_energy_range_uj")
            for zones in found.zones.values()
            for zone in zones
        }
        domains = {"cpu": "package", "ram": "dram"}
        self.sources: Mapping[str, Source] = {
            part: Source("measured", f"RAPL {domains[part]} domain(s), whole machine")
            for part in found.zones
        }

    def _read(self) -> dict[Path, int]:
        try:
            return {zone: _read_number(zone / "energy_uj") for zone in self._range}
        except (OSError, ValueError) as error:
            raise MeasurementError(f"RAPL counters can no longer be read: {error}") from error

    def start(self) -> None:
        """Open a window."""
        self._start = self._read()

    def stop(self) -> dict[str, float]:
        """Close it.

        Raises:
            MeasurementError: the counters can no longer be read.
        """
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
