"""What the doctor finds on machines made of files and a replayed driver."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from alpine_cli.measure import doctor, environment, meters, nvml_meter, software
from alpine_cli.measure.doctor import Finding, Sources, examine
from alpine_cli.measure.meters import Source
from alpine_cli.measure.software import examine_software
from alpine_cli.pruning.attention import availability, choice
from alpine_cli.pruning.attention.availability import Availability
from tests.measure.nvml_trace import Clock, ReplayedNvml, read_trace
from tests.measure.test_meters import deny, write_zone


class Model:
    """codecarbon, without its import."""

    window_s = 1.0

    def __init__(self, parts: tuple[str, ...]) -> None:
        self.sources = {part: Source("modelled", f"a model of {part}") for part in parts}

    def close(self) -> None:
        pass


class Machine:
    """A machine to examine: `write` its files, then look."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources = Sources(folder / "powercap", folder / "cpu", folder / "cpuinfo")

    def write(self, path: str, text: str) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")

    def findings(self) -> dict[str, Finding]:
        return {found.name: found for found in examine(self.sources)}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Bare metal, idle, no GPU, nothing to measure energy with."""
    made = Machine(tmp_path)
    made.write("cpuinfo", "processor : 0\nflags\t\t: fpu avx2 avx512f amx_bf16")
    monkeypatch.setattr(meters, "CodecarbonMeter", Model)
    monkeypatch.setattr(environment, "BUSY_WINDOW_S", 0.01)
    monkeypatch.setattr(environment, "busy_share", lambda: 0.02)
    memory = SimpleNamespace(total=64 << 30, available=48 << 30)
    monkeypatch.setattr(doctor, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    return made


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> ReplayedNvml:
    clock = Clock()
    found = ReplayedNvml(read_trace(), clock)
    monkeypatch.setitem(sys.modules, "pynvml", found)  # type: ignore[arg-type]
    monkeypatch.setattr(nvml_meter, "time", clock)
    return found


def test_a_machine_for_citable_figures(machine: Machine, driver: ReplayedNvml) -> None:
    """RAPL, energy counters, a fixed clock, no load."""
    driver.boards = driver.boards[:2]
    write_zone(machine.folder / "powercap", "intel-rapl:0", "package-0", 0)
    write_zone(machine.folder / "powercap", "intel-rapl:0:0", "dram", 0)
    machine.write("cpu/cpu0/cpufreq/scaling_governor", "performance")
    machine.write("cpu/intel_pstate/no_turbo", "1")
    found = machine.findings()
    for part in ("GPUs", "the CPU", "memory"):
        assert found[f"energy of {part}"].state == "good"
        assert found[f"energy of {part}"].text.startswith("measured: ")
    assert "NVML energy counter" in found["energy of GPUs"].text
    assert found["GPU 1"].text.startswith("NVIDIA H200, driver 580.1, GPU-b86e01d7")
    assert found["vector units"].text == "AVX2, AVX-512, AMX bf16"
    assert found["frequency governor"].text == "performance"
    assert found["turbo"].state == "good"
    assert found["figures to cite"] == Finding(
        "machine", "figures to cite", "good", "times, memory, accuracy and energy"
    )
    # The driver lists GPUs that this build of PyTorch cannot use.
    assert found["CUDA in PyTorch"].state == "mind"
    assert "pytorch.org" in (found["CUDA in PyTorch"].remedy or "")


def test_what_moves_times_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.write("cpuinfo", "flags : avx2 hypervisor")
    machine.write("cpu/cpu0/cpufreq/scaling_governor", "powersave")
    machine.write("cpu/cpu1/cpufreq/scaling_governor", "powersave")
    machine.write("cpu/cpufreq/boost", "1")
    monkeypatch.setattr(environment, "busy_share", lambda: 0.5)
    memory = SimpleNamespace(total=4 << 30, available=1 << 30)
    monkeypatch.setattr(doctor, "psutil", SimpleNamespace(virtual_memory=lambda: memory))
    found = machine.findings()
    minds = ("virtual machine", "memory", "frequency governor", "turbo", "load")
    for name in minds:
        assert found[name].state == "mind"
        assert found[name].remedy
    assert found["vector units"].text == "AVX2; no bf16 arithmetic"
    assert found["figures to cite"].state == "mind"
    for name in (*minds, "energy of the CPU"):
        assert name in found["figures to cite"].text


def test_without_counters_energy_is_modelled_and_the_gpu_absent(machine: Machine) -> None:
    found = machine.findings()
    assert found["energy of GPUs"].state == "absent"
    assert found["energy of memory"].state == "modelled"
    assert found["energy of the CPU"].text == "modelled: a model of cpu"
    assert "bare-metal" in (found["energy of the CPU"].remedy or "")
    assert found["frequency governor"].state == "absent"
    assert "turbo" not in found
    assert found["packed attention"].text == "cpu: attend_per_sequence"


def test_back_ends_of_attention_are_named_and_what_is_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = Availability({"flash_attn": "the package flash-attn is not installed"}, kernels=True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for module in (availability, choice):
        monkeypatch.setattr(module, "availability", lambda device: there)
    assert machine.findings()["packed attention"].text.split("; ") == [
        "cpu: attend_per_sequence",
        "cuda, bfloat16: attend_varlen",
        "cuda, bfloat16, training with dropout: attend_nested",
        "cuda, float32: attend_nested",
        "without flash_attn: the package flash-attn is not installed",
    ]


def test_counters_for_root_come_with_the_command(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_zone(machine.folder / "powercap", "intel-rapl:0", "package-0", 0)
    deny(monkeypatch, "energy_uj")
    cpu = machine.findings()["energy of the CPU"]
    assert cpu.state == "modelled"
    assert "sudo chmod a+r" in (cpu.remedy or "")


def test_a_gpu_that_tells_nothing_is_absent_with_the_reason(
    machine: Machine, driver: ReplayedNvml, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.boards = driver.boards[2:]  # without a counter

    def refuse(board: Any) -> int:
        raise driver.NVMLError("Not Supported")

    monkeypatch.setattr(driver, "nvmlDeviceGetPowerUsage", refuse)
    gpu = machine.findings()["energy of GPUs"]
    assert gpu.state == "mind"
    assert "no energy counter" in gpu.text


def test_a_part_that_fails_is_a_finding(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> float:
        raise OSError("no /proc here")

    monkeypatch.setattr(environment, "busy_share", fail)
    found = machine.findings()
    assert found["processor"].state == "broken"
    assert found["processor"].text == "could not be examined: OSError: no /proc here"
    assert found["memory"].state == "good"
    assert found["figures to cite"].text == "none before these work: processor"


def notes() -> dict[str, software.SoftwareNote]:
    return {note.name: note for note in examine_software()}


def test_this_very_installation_is_in_order() -> None:
    found = notes()
    assert {note.state for note in found.values()} <= {"good", "absent", "mind"}
    assert found["torch"].text.startswith(sys.modules["torch"].__version__)
    assert found["other packages"].state == "good"


@pytest.mark.parametrize(
    ("package", "installed", "state", "text"),
    [
        ("torch", "2.1.0", "broken", "2.1.0; alpine needs >="),
        ("torch", "9.0.1+cu190", "mind", "newer than what alpine has been tried with"),
        ("numpy", "1.26.2", "broken", "1.26.2; alpine needs >="),
        ("scipy", None, "broken", "not installed"),
        ("datasets", None, "absent", "optional"),
        ("datasets", "4.1", "good", "4.1: data sets by hub id"),
    ],
)
def test_versions_out_of_range(
    monkeypatch: pytest.MonkeyPatch, package: str, installed: str | None, state: str, text: str
) -> None:
    original = software.version

    def version(name: str) -> str:
        if name != package:
            return original(name)
        if installed is None:
            raise software.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(software, "version", version)
    note = notes()[package]
    assert note.state == state
    assert text in note.text
    if state == "broken":
        assert f"pip install '{package}" in (note.remedy or "")


def test_a_package_that_does_not_load_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    original = software.importlib.import_module

    def load(name: str) -> Any:
        if name == "transformers":
            raise OSError("undefined symbol")
        return original(name)

    monkeypatch.setattr(software, "importlib", SimpleNamespace(import_module=load))
    note = notes()["transformers"]
    assert note.state == "broken"
    assert "does not load: OSError: undefined symbol" in note.text


def test_a_source_tree_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> list[str]:
        raise software.PackageNotFoundError(name)

    monkeypatch.setattr(software, "requires", absent)
    assert notes()["packages"].state == "mind"
