"""Time and energy of a run so far, over all its processes that were killed and resumed.

    train ── 30 s ── 30 s ── state ── 30 s ── kill        resume from the state ── … ── end
             read    read    saved    lost                reads go on from what was saved

Rank 0 meters: the GPUs of every process of this machine, CPU and memory of the machine. A thread
reads the meters every 30 s, because RAPL's counters wrap within minutes; nothing here draws a
random number, so that a metered run ends with the very weights of an unmetered one. A meter that
fails never fails the run: its components become absent, with the reason.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alpine_cli.files import write_atomic
from alpine_cli.measure.meters import Meter, gpu_uuid_of, open_meters
from alpine_cli.results import Provenance
from alpine_cli.training.ranks import Ranks

__all__ = ["CONSUMPTION_FILE", "ComponentUse", "Consumption", "ConsumptionMeter", "meter_run"]

T = TypeVar("T")

CONSUMPTION_FILE = "consumption.json"
_READ_SECONDS = 30.0


class ComponentUse(BaseModel):
    """What one component (gpu, cpu, ram) used, and in how much of the time it was metered."""

    model_config = ConfigDict(extra="forbid")

    joules: float = 0.0
    seconds: float = 0.0
    sources: list[tuple[Provenance, str]] = Field(
        default_factory=list, description="how it was taken, one entry per way"
    )


class Consumption(BaseModel):
    """What a run has used.

    Attributes:
        seconds: wall time of training, validations and saves.
        components: by name, those that were metered at any time.
        absent: reasons for the others, and for those that were lost on the way.
        interruptions: how often the run was resumed.
        lost_seconds: at least so much time went into work that was done again.
        elsewhere: GPUs of other machines, which nobody meters.
    """

    model_config = ConfigDict(extra="forbid")

    seconds: float = 0.0
    components: dict[str, ComponentUse] = Field(default_factory=dict)
    absent: dict[str, str] = Field(default_factory=dict)
    interruptions: int = 0
    lost_seconds: float = 0.0
    elsewhere: int = 0

    @classmethod
    def load(cls, state: Path, *, seconds: float) -> Consumption:
        """What the state of that folder had used.

        Args:
            state: a folder of `RunDirectory`.
            seconds: wall time by metrics.jsonl, for states of versions that metered nothing.
        """
        try:
            return cls.model_validate_json((state / CONSUMPTION_FILE).read_bytes())
        except (OSError, ValidationError):
            return cls(seconds=seconds)

    def save(self, state: Path) -> None:
        """Write it into the folder of a state."""
        write_atomic(state / CONSUMPTION_FILE, self.model_dump_json(indent=1) + "\n")


class ConsumptionMeter:
    """Adds to a `Consumption` while a run goes on. No method raises.

    Args:
        used: what the run had used before; changed by this object alone from here on.
        gpu_uuids: GPUs of the run on this machine, as `gpu_uuid_of` names them.
    """

    def __init__(self, used: Consumption, gpu_uuids: Sequence[str | None]) -> None:
        self._used = used
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._meters: list[Meter] = []
        try:
            opened = open_meters(gpu_uuids)
            self._meters = list(opened.meters)
            used.absent |= opened.absent
        except Exception as error:
            used.absent |= dict.fromkeys(("gpu", "cpu", "ram"), f"meters did not open: {error}")
        for meter in list(self._meters):
            self._attempt(meter, meter.start)
        self._since = time.monotonic()
        self._thread = threading.Thread(target=self._read_on, name="consumption", daemon=True)
        self._thread.start()

    def used(self) -> Consumption:
        """What has been used up to now; a copy."""
        with self._lock:
            self._read()
            return self._used.model_copy(deep=True)

    def close(self) -> Consumption:
        """Stop metering; returns what was used in all."""
        self._stop.set()
        self._thread.join()
        used = self.used()
        for meter in self._meters:
            try:
                meter.close()
            except Exception:  # the figures are in; what a library does at its end is its business
                continue
        self._meters.clear()
        return used

    def _read_on(self) -> None:
        while not self._stop.wait(_READ_SECONDS):
            with self._lock:
                self._read()

    def _read(self) -> None:
        """End the present window of every meter and begin the next."""
        now = time.monotonic()
        seconds, self._since = now - self._since, now
        self._used.seconds += seconds
        for meter in list(self._meters):
            joules = self._attempt(meter, meter.stop)
            for part, amount in (joules or {}).items():
                use = self._used.components.setdefault(part, ComponentUse())
                use.joules += amount
                use.seconds += seconds
                source = meter.sources[part]
                how = (source.provenance, source.method)
                if how not in use.sources:
                    use.sources.append(how)
            if joules is not None:
                self._attempt(meter, meter.start)

    def _attempt(self, meter: Meter, work: Callable[[], T]) -> T | None:
        """Start or stop a window; a meter that fails is taken out, with the reason."""
        try:
            return work()
        except Exception as error:
            self._meters.remove(meter)
            self._used.absent |= dict.fromkeys(meter.sources, str(error))
            return None


def meter_run(
    ranks: Ranks,
    device: torch.device,
    *,
    state: Path | None,
    saved_s: float,
    lost_s: float | None,
) -> ConsumptionMeter | None:
    """Meter a run from here on, on rank 0; None on the other ranks. All of them call it.

    Args:
        ranks: the processes of the run.
        device: of this one.
        state: folder of the state that the run goes on from, if there is one.
        saved_s: wall time that the state stands for, by metrics.jsonl.
        lost_s: wall time of logged work that is done again; None if the run only begins.
    """
    places = ranks.gather((_machine(), _gpu_of(device)))
    if not ranks.is_first:
        return None
    used = Consumption() if state is None else Consumption.load(state, seconds=saved_s)
    if lost_s is not None:
        used.interruptions += 1
        used.lost_seconds += max(0.0, lost_s)
        if state is not None:  # a second kill before the next state must not hide this one
            used.save(state)
    here = [gpus for machine, gpus in places if machine == _machine()]
    used.elsewhere = len(places) - len(here)
    return ConsumptionMeter(used, [uuid for gpus in here for uuid in gpus])


def _machine() -> str:
    """Which machine of a data-parallel run this process is on, as torchrun counts them."""
    return os.environ.get("GROUP_RANK", "0")


def _gpu_of(device: torch.device) -> list[str | None]:
    """NVML's name of the GPU, None where it is unknown; nothing on a CPU."""
    if device.type != "cuda":
        return []
    try:
        return [gpu_uuid_of(torch.cuda.current_device() if device.index is None else device.index)]
    except Exception:  # a driver that does not answer costs the energy figure, never the run
        return [None]
