"""What an energy meter is: it covers components of the machine and measures windows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from alpine_cli.results import Provenance

__all__ = ["COMPONENTS", "Meter", "Source"]

COMPONENTS = ("gpu", "cpu", "ram")


@dataclass(frozen=True)
class Source:
    """Where a component's figure comes from."""

    provenance: Provenance
    method: str


class Meter(Protocol):
    """Measures windows: `start()`, work, `stop()` -> joules per component. Windows do not nest."""

    @property
    def sources(self) -> Mapping[str, Source]:
        """The components it covers, keys of `COMPONENTS`."""

    @property
    def window_s(self) -> float:
        """Seconds that a window should last at least, for the grain of the meter not to matter."""

    def start(self) -> None:
        """Open a window."""

    def stop(self) -> dict[str, float]:
        """Close it; joules used since `start` for each key of `sources`.

        Raises:
            MeasurementError: the meter lost the window.
        """

    def close(self) -> None:
        """Let go of whatever the meter holds."""
