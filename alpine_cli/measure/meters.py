"""The best energy meter for each component of this machine.

    component   measured                                   modelled                    absent
    gpu         NVML energy counter, else power integrated -                           no GPU in use
    cpu         RAPL package domains                       codecarbon (load and TDP)   -
    ram         RAPL dram domains                          codecarbon (per module)     -

A component is measured where a counter is readable, else modelled, else absent: `open_meters`
decides, each meter says which, and nothing is ever filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from alpine_cli.measure.codecarbon_meter import CodecarbonMeter
from alpine_cli.measure.gpu_uuid import gpu_uuid_of
from alpine_cli.measure.meter import COMPONENTS, Meter, Source
from alpine_cli.measure.nvml_meter import NvmlMeter
from alpine_cli.measure.rapl_meter import RAPL_ROOT, RaplMeter, RaplZones
from alpine_cli.results import Caution

__all__ = [
    "COMPONENTS",
    "CodecarbonMeter",
    "Meter",
    "Meters",
    "NvmlMeter",
    "RaplMeter",
    "Source",
    "gpu_uuid_of",
    "open_meters",
]


@dataclass
class Meters:
    """Opened meters, and what none of them covers. Windows as in `meter.Meter`.

    Attributes:
        meters: no two cover the same component.
        absent: for every other component the reason.
        rapl_denied: why the counters of CPU and memory could not be read, with the remedy; None
            where they could, or where there are none.
    """

    meters: list[Meter] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)
    rapl_denied: RaplZones | None = None

    @property
    def sources(self) -> dict[str, Source]:
        """Where each covered component comes from, in the order of `COMPONENTS`."""
        found = {part: source for meter in self.meters for part, source in meter.sources.items()}
        return {part: found[part] for part in COMPONENTS if part in found}

    @property
    def window_s(self) -> float:
        """Seconds that a window should last at least; see `Meter.window_s`."""
        return max((meter.window_s for meter in self.meters), default=1.0)

    def start(self) -> None:
        """Open a window of every meter."""
        for meter in self.meters:
            meter.start()

    def stop(self) -> dict[str, float]:
        """Close them; joules by component.

        Raises:
            MeasurementError: a meter lost the window.
        """
        joules: dict[str, float] = {}
        for meter in self.meters:
            joules |= meter.stop()
        return joules

    def close(self) -> None:
        """Close every meter; a library that fails at its own shutdown is not our business."""
        for meter in self.meters:
            with suppress(Exception):
                meter.close()

    def cautions(self) -> list[Caution]:
        """What a reader of figures from these meters must mind."""
        modelled = [part for part, found in self.sources.items() if found.provenance == "modelled"]
        if not modelled:
            return []
        remedy = "Readable RAPL counters (bare metal, Linux) would measure it"
        if self.rapl_denied is not None:
            remedy = f"{self.rapl_denied.reason}. {self.rapl_denied.remedy}"
        return [
            Caution(
                code="energy-modelled",
                text=f"energy of {', '.join(modelled)} is modelled, not measured",
                effect="it follows run time and CPU load and shows no saving beyond them",
                remedy=remedy,
            )
        ]


def open_meters(gpu_uuids: Sequence[str | None], *, rapl_root: Path = RAPL_ROOT) -> Meters:
    """The best meter for each component of this machine; never raises.

    Args:
        gpu_uuids: the GPUs that the work runs on, as `gpu_uuid_of` names them; empty on a CPU.
        rapl_root: where RAPL's zones are.
    """
    opened = Meters()
    _open_gpus(opened, gpu_uuids)
    missing = ["cpu", "ram"]
    zones = RaplZones.find(rapl_root)
    if zones.reason is None:
        rapl = RaplMeter(rapl_root)
        opened.meters.append(rapl)
        missing = [part for part in missing if part not in rapl.sources]
    elif zones.remedy is not None:
        opened.rapl_denied = zones
    if missing:
        try:
            opened.meters.append(CodecarbonMeter(tuple(missing)))
        except Exception as error:
            reason = f"{zones.reason or 'no counter'}; and codecarbon failed: {error}"
            opened.absent |= dict.fromkeys(missing, reason)
    return opened


def _open_gpus(opened: Meters, uuids: Sequence[str | None]) -> None:
    known = [uuid for uuid in uuids if uuid is not None]
    if not uuids:
        opened.absent["gpu"] = "the run used no GPU"
        return
    if len(known) < len(uuids):
        opened.absent["gpu"] = (
            "NVML's name of the GPU is unknown (no NVIDIA driver, or CUDA_VISIBLE_DEVICES picks"
            " among different GPUs by index: set CUDA_DEVICE_ORDER=PCI_BUS_ID)"
        )
        return
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception as error:
        opened.absent["gpu"] = f"NVML is not available: {error}"
        return
    try:
        opened.meters.append(NvmlMeter(pynvml, known))
    except Exception as error:
        with suppress(Exception):
            pynvml.nvmlShutdown()
        opened.absent["gpu"] = str(error)
