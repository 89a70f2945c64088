"""codecarbon's offline model of CPU and memory power: an estimate where no sensor can be read.

Used through its offline tracker only, with every output, look-up and setting named: no network,
and nothing that a ~/.codecarbon.config could change about a figure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.meter import Source

__all__ = ["CodecarbonMeter"]

# Ways in which codecarbon reads a sensor after all (Windows, or RAPL that we failed to find).
_SENSORS = {
    "intel_rapl": "RAPL",
    "intel_power_gadget": "Intel Power Gadget",
    "windows_emi": "the Windows energy meter interface",
}


class CodecarbonMeter:
    """Components "cpu" and "ram" by codecarbon. See `meter.Meter`.

    Args:
        parts: which of them.
    """

    window_s = 1.0  # it samples the load once a second

    def __init__(self, parts: tuple[str, ...] = ("cpu", "ram")) -> None:
        self._parts = parts
        self._windows = 0
        with _silence():
            self._tracker = _tracker()
            self.start()
            self.stop()  # the hardware is looked up in the first window
        self.sources: Mapping[str, Source] = {part: self._describe(part) for part in parts}

    def _describe(self, part: str) -> Source:
        from codecarbon import __version__

        name = f"codecarbon {__version__} (offline)"
        if part == "ram":
            return Source(
                "modelled",
                f"{name}: constant power for the installed memory modules, so proportional to time",
            )
        cpu = next((item for item in self._tracker._hardware if type(item).__name__ == "CPU"), None)
        mode, watts = getattr(cpu, "_mode", "unknown"), getattr(cpu, "_tdp", None)
        if mode in _SENSORS:
            return Source("measured", f"{name}, which read {_SENSORS[mode]}, whole machine")
        limit = f" and a full-load power of {watts:g} W" if watts else ""
        if mode == "cpu_load":
            return Source(
                "modelled",
                f"{name}: from the whole machine's CPU load{limit}, not a sensor",
            )
        return Source(
            "modelled", f"{name}, mode {mode}{limit}: constant power, so proportional to time"
        )

    def start(self) -> None:
        """Open a window."""
        self._windows += 1
        self._tracker.start_task(f"window {self._windows}")

    def stop(self) -> dict[str, float]:
        """Close it.

        Raises:
            MeasurementError: codecarbon gave no figure.
        """
        name = f"window {self._windows}"
        data = self._tracker.stop_task(name)
        self._tracker._tasks.pop(name, None)  # it would keep every window of a long run
        if data is None:
            raise MeasurementError("codecarbon gave no figure: its tracker did not start")
        return {part: getattr(data, f"{part}_energy") * 3.6e6 for part in self._parts}

    def close(self) -> None:
        """Stop the tracker's thread."""
        self._tracker.stop()


def _tracker() -> Any:
    from codecarbon import OfflineEmissionsTracker

    return OfflineEmissionsTracker(
        country_iso_code="FRA",
        # A forced intensity keeps it from asking for one; its CO2 is not used.
        force_carbon_intensity_g_co2e_kwh=1.0,
        electricitymaps_api_token="",
        output_methods=[],
        save_to_file=False,
        save_to_api=False,
        save_to_logger=False,
        save_to_prometheus=False,
        save_to_logfire=False,
        measure_power_secs=1,
        tracking_mode="machine",
        pue=1.0,  # ours is applied to CO2, once
        log_level="critical",
        allow_multiple_runs=True,
        gpu_ids=[],
    )


@contextmanager
def _silence() -> Iterator[None]:
    """Keep codecarbon's own log off the screen; it logs before it reads its log level."""
    logger = logging.getLogger("codecarbon")
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = False
        logger.setLevel(logging.CRITICAL)
