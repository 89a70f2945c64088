"""What this machine can measure, what it can only model, and how to enable the rest. No network.

    energy      GPU, CPU, memory: measured, modelled or absent, and with what
    machine     processor, memory, clocks, load: what moves a time from run to run
    software    versions against what the package asks for (`software`)

A finding is told in words; its `state` is one of five, and only "broken" means that alpine does
not work here. A part of the examination that fails is itself a finding: nothing raises.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

__all__ = ["Finding", "Sources", "State", "examine"]

State = Literal["good", "modelled", "absent", "mind", "broken"]
Topic = Literal["energy", "machine", "software"]

_POWER_SAVING = ("powersave", "conservative", "ondemand", "schedutil")
_LOW_MEMORY_BYTES = 4 << 30


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        topic: the heading it stands under.
        name: what was looked at.
        state: good | modelled (works, estimated) | absent (not here, nothing needs it) | mind
            (works, but moves figures) | broken (alpine needs it).
        text: what was found.
        remedy: what to do about it, where something can be done.
    """

    topic: Topic
    name: str
    state: State
    text: str
    remedy: str | None = None


@dataclass(frozen=True)
class Sources:
    """Where the kernel tells about itself."""

    powercap: Path = Path("/sys/class/powercap")
    cpu: Path = Path("/sys/devices/system/cpu")
    cpuinfo: Path = Path("/proc/cpuinfo")


def examine(sources: Sources | None = None) -> list[Finding]:
    """Look at everything; takes a few seconds. Never raises.

    Args:
        sources: other places to read from (tests).
    """
    at = sources or Sources()
    sections: Sequence[tuple[Topic, str, Callable[[], list[Finding]]]] = (
        ("software", "packages", _packages),
        ("software", "PyTorch", _torch),
        ("energy", "meters", lambda: _energy(at.powercap)),
        ("energy", "grid", _grid),
        ("machine", "processor", lambda: _processor(at.cpuinfo)),
        ("machine", "memory", _memory),
        ("machine", "GPU", _gpus),
        ("machine", "clocks", lambda: _clocks(at.cpu)),
    )
    findings: list[Finding] = []
    for topic, name, look in sections:
        try:
            findings += look()
        except Exception as error:
            text = f"could not be examined: {type(error).__name__}: {error}"
            findings.append(Finding(topic, name, "broken", text))
    findings.append(_citable(findings))
    return findings


def _packages() -> list[Finding]:
    from alpine_cli.measure.software import examine_software

    return [
        Finding("software", note.name, note.state, note.text, note.remedy)
        for note in examine_software()
    ]


def _torch() -> list[Finding]:
    import torch

    from alpine_cli.pruning.attention import Request, choose_backend
    from alpine_cli.pruning.attention.availability import availability

    served = [f"cpu: {_function(choose_backend(Request(torch.device('cpu'))))}"]
    state: State = "good"
    remedy = None
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        text = f"CUDA {torch.version.cuda}, {count} GPU(s) visible"
        device = torch.device("cuda")
        requests = {
            "cuda, bfloat16": Request(device, torch.bfloat16, score="received"),
            "cuda, bfloat16, training with dropout": Request(
                device, torch.bfloat16, dropout=True, trains=True
            ),
            "cuda, float32": Request(device, score="received"),
        }
        served += [f"{what}: {_function(choose_backend(r))}" for what, r in requests.items()]
        there = availability(device)
        served += [f"without {name}: {reason}" for name, reason in there.reasons.items()]
    else:
        build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        text, state = f"no GPU to compute on ({build})", "absent"
        if _gpu_names():
            state = "mind"
            remedy = (
                "The driver lists GPUs: install PyTorch for CUDA (pytorch.org), and see that"
                " CUDA_VISIBLE_DEVICES hides none"
            )
    return [
        Finding("software", "CUDA in PyTorch", state, text, remedy),
        Finding("software", "packed attention", "good", "; ".join(served)),
    ]


def _function(attend: Any) -> str:
    return getattr(attend, "__name__", type(attend).__name__)


# -- energy ------------------------------------------------------------------------------------


def _energy(powercap: Path) -> list[Finding]:
    """One finding per component, by opening the very meters that a measurement would."""
    from alpine_cli.measure.meters import open_meters

    names = {"gpu": "energy of GPUs", "cpu": "energy of the CPU", "ram": "energy of memory"}
    uuids = _gpu_uuids()
    meters = open_meters(uuids, rapl_root=powercap)
    meters.close()
    remedies: dict[str, str | None] = {}
    if meters.rapl_denied is not None:
        told = f"{meters.rapl_denied.reason}. {meters.rapl_denied.remedy}"
        remedies = {"cpu": told, "ram": None}
    elif any(source.provenance == "modelled" for source in meters.sources.values()):
        remedies = {"cpu": "A bare-metal Linux machine with RAPL would measure it", "ram": None}
    found = []
    for part, name in names.items():
        source = meters.sources.get(part)
        if source is not None and source.provenance == "measured":
            found.append(Finding("energy", name, "good", f"measured: {source.method}"))
        elif source is not None:
            text = f"modelled: {source.method}"
            found.append(Finding("energy", name, "modelled", text, remedies.get(part)))
        elif part == "gpu" and not uuids:
            text = "no NVIDIA GPU that its driver lists"
            found.append(Finding("energy", name, "absent", text))
        else:
            found.append(Finding("energy", name, "mind", f"absent: {meters.absent.get(part)}"))
    return found


def _grid() -> list[Finding]:
    from alpine_cli.measure.carbon import grid_intensity

    return [
        Finding(
            "energy",
            "grid for CO2",
            "good",
            f"without --country or --carbon-intensity: {grid_intensity().describe()}",
        )
    ]


def _gpu_uuids() -> list[str]:
    from alpine_cli.measure.environment import describe_gpus
    from alpine_cli.measure.environment import nvml as open_nvml
    from alpine_cli.measure.gpu_uuid import visible_uuids

    with open_nvml() as library:
        if library is None:
            return []
        visible = visible_uuids(library, os.environ)
    return visible if visible is not None else [gpu.uuid for gpu in describe_gpus()[0]]


def _gpu_names() -> list[str]:
    from alpine_cli.measure.environment import describe_gpus

    return [gpu.name for gpu in describe_gpus()[0]]


# -- machine -----------------------------------------------------------------------------------


def _processor(cpuinfo: Path) -> list[Finding]:
    from alpine_cli.measure.environment import describe_environment

    here = describe_environment()
    cores = f"{here.physical_cores or '?'} cores, {here.logical_cores} threads"
    if here.usable_cores < here.logical_cores:
        cores += f", {here.usable_cores} usable by this process"
    flags = _flags(cpuinfo)
    found = [
        Finding("machine", "processor", "good", f"{here.cpu_model}, {cores}"),
        Finding("machine", "vector units", "good", _vector_units(flags)),
        _load(here.busy_share),
    ]
    if "hypervisor" in flags:
        found.append(
            Finding(
                "machine",
                "virtual machine",
                "mind",
                "neighbours on the same hardware cannot be seen, and move times",
                "Cite ratios of interleaved runs with their intervals; absolute times from bare"
                " metal",
            )
        )
    return found


def _flags(cpuinfo: Path) -> set[str]:
    with suppress(OSError):
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip().lower() in ("flags", "features"):  # x86, Arm
                return set(value.split())
    return set()


def _vector_units(flags: set[str]) -> str:
    if not flags:
        return "not told by this system"
    units = {
        "avx2": "AVX2",
        "avx512f": "AVX-512",
        "avx512_bf16": "AVX-512 bf16",
        "amx_bf16": "AMX bf16",
        "sve": "SVE",
        "bf16": "Arm bf16",
    }
    known = [name for flag, name in units.items() if flag in flags]
    matrix = {"avx512_bf16", "amx_bf16", "bf16"} & flags
    return ", ".join(known or ["none that PyTorch has kernels for"]) + (
        "" if matrix else "; no bf16 arithmetic"
    )


def _memory() -> list[Finding]:
    memory = psutil.virtual_memory()
    text = f"{memory.total / 2**30:.1f} GiB, {memory.available / 2**30:.1f} GiB of it free"
    if memory.available < _LOW_MEMORY_BYTES:
        remedy = "A smaller --batch-size or --limit; `alpine measure-memory` tells what fits"
        return [Finding("machine", "memory", "mind", text, remedy)]
    return [Finding("machine", "memory", "good", text)]


def _gpus() -> list[Finding]:
    from alpine_cli.measure.environment import describe_gpus

    gpus, note = describe_gpus()
    if not gpus:
        return [Finding("machine", "GPU", "absent", note or "none")]
    found = []
    for number, gpu in enumerate(gpus):
        memory = f", {gpu.memory_bytes / 2**30:.0f} GiB" if gpu.memory_bytes else ""
        text = f"{gpu.name}{memory}, driver {gpu.driver}, {gpu.uuid}"
        if gpu.throttle_reasons:
            text += f"; held below its clocks just now: {', '.join(gpu.throttle_reasons)}"
        state: State = "mind" if gpu.throttle_reasons else "good"
        found.append(Finding("machine", f"GPU {number}", state, text))
    return found


def _clocks(cpu: Path) -> list[Finding]:
    """Frequency governor and turbo, as far as the kernel tells."""
    governors = {
        text for path in cpu.glob("cpu[0-9]*/cpufreq/scaling_governor") if (text := _read(path))
    }
    found = []
    if not governors:
        text = "not told by this system (common in virtual machines and containers)"
        found.append(Finding("machine", "frequency governor", "absent", text))
    elif governors & set(_POWER_SAVING):
        found.append(
            Finding(
                "machine",
                "frequency governor",
                "mind",
                f"{', '.join(sorted(governors))}: the clock follows the load",
                "sudo cpupower frequency-set -g performance",
            )
        )
    else:
        found.append(Finding("machine", "frequency governor", "good", ", ".join(sorted(governors))))
    turbo = _turbo(cpu)
    if turbo is not None:
        found.append(
            Finding(
                "machine",
                "turbo",
                "mind" if turbo else "good",
                "on: the clock depends on temperature and on how many cores work"
                if turbo
                else "off",
                "Interleaved runs share its effect; switch it off in the BIOS for absolute times"
                if turbo
                else None,
            )
        )
    return found


def _turbo(cpu: Path) -> bool | None:
    no_turbo, boost = _read(cpu / "intel_pstate" / "no_turbo"), _read(cpu / "cpufreq" / "boost")
    if no_turbo is not None:
        return no_turbo == "0"
    return None if boost is None else boost == "1"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _load(share: float | None) -> Finding:
    from alpine_cli.measure.cautions import BUSY_SHARE

    if share is None:
        return Finding("machine", "load", "absent", "not told by this system")
    text = f"{share:.0%} of the CPU time is in use just now"
    if share >= BUSY_SHARE:
        return Finding("machine", "load", "mind", text, "Wait until the machine is idle")
    return Finding("machine", "load", "good", text)


def _citable(findings: Sequence[Finding]) -> Finding:
    """Whether figures from here may be cited; what is in the way."""
    broken = [found.name for found in findings if found.state == "broken"]
    if broken:
        text = f"none before these work: {', '.join(broken)}"
        return Finding("machine", "figures to cite", "broken", text)
    minds = [found.name for found in findings if found.state == "mind" and found.topic == "machine"]
    modelled = [found.name for found in findings if found.state == "modelled"]
    parts = []
    if minds:
        parts.append(f"times with these in mind: {', '.join(minds)}")
    if modelled:
        parts.append(f"no saving of energy beyond run time ({', '.join(modelled)}: modelled)")
    if not parts:
        return Finding("machine", "figures to cite", "good", "times, memory, accuracy and energy")
    text = f"counts, accuracy and memory without more; {'; '.join(parts)}"
    return Finding("machine", "figures to cite", "mind", text)
