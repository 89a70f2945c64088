"""What a run is said to have used: adds up over windows, threads, kills; never fails the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from alpine_cli.config import RunConfig
from alpine_cli.measure.meters import Meters, Source
from alpine_cli.training import consumption, finetune
from alpine_cli.training.consumption import (
    CONSUMPTION_FILE,
    ComponentUse,
    Consumption,
    ConsumptionMeter,
    meter_run,
)
from alpine_cli.training.ranks import Ranks
from tests.measure.nvml_trace import Clock
from tests.training.test_resume import _killed

MakeConfig = Callable[..., RunConfig]


class ScriptedMeter:
    """So many joules per window; an exception in the list is raised instead."""

    window_s = 0.0

    def __init__(self, part: str, *windows: float | Exception) -> None:
        self.sources = {part: Source("measured", f"script of {part}")}
        self._part, self._windows = part, list(windows)
        self.closed = False

    def start(self) -> None:
        pass

    def stop(self) -> dict[str, float]:
        answer = self._windows.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return {self._part: answer}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(consumption, "time", found)
    return found


def opened(monkeypatch: pytest.MonkeyPatch, *meters: ScriptedMeter) -> None:
    monkeypatch.setattr(consumption, "open_meters", lambda uuids: Meters(list(meters), {}))


def test_windows_add_up_to_what_was_used_before(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    meter = ScriptedMeter("cpu", 5.0, 7.0)
    opened(monkeypatch, meter)
    before = Consumption(
        seconds=100.0,
        components={
            "cpu": ComponentUse(joules=50.0, seconds=90.0, sources=[("modelled", "guess")])
        },
    )
    running = ConsumptionMeter(before, ())
    clock.sleep(2.0)
    assert running.used().components["cpu"].joules == 55.0
    clock.sleep(3.0)
    used = running.close()
    assert (used.seconds, used.components["cpu"].seconds) == (105.0, 95.0)
    assert used.components["cpu"].joules == 62.0
    assert used.components["cpu"].sources == [("modelled", "guess"), ("measured", "script of cpu")]
    assert meter.closed


def test_a_meter_that_fails_is_left_out_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    bad = ScriptedMeter("gpu", 5.0, RuntimeError("the driver was reloaded"))
    opened(monkeypatch, bad, ScriptedMeter("cpu", 1.0, 2.0, 3.0))
    running = ConsumptionMeter(Consumption(), ("GPU-1",))
    for _ in range(2):
        clock.sleep(10.0)
        running.used()
    clock.sleep(10.0)
    used = running.close()
    assert used.components["cpu"] == ComponentUse(
        joules=6.0, seconds=30.0, sources=[("measured", "script of cpu")]
    )
    assert used.components["gpu"].seconds == 10.0
    assert used.absent["gpu"] == "the driver was reloaded"


def test_meters_that_do_not_open_cost_only_the_figures(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    def fail(uuids: Any) -> Meters:
        raise OSError("no such device")

    monkeypatch.setattr(consumption, "open_meters", fail)
    running = ConsumptionMeter(Consumption(), ())
    clock.sleep(4.0)
    used = running.close()
    assert used.seconds == 4.0
    assert used.components == {}
    assert set(used.absent) == {"gpu", "cpu", "ram"}


def test_a_thread_reads_between_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """RAPL's counters wrap within minutes, and an epoch may last for hours."""
    read = threading.Event()

    class Meter(ScriptedMeter):
        def stop(self) -> dict[str, float]:
            read.set()
            return {"cpu": 1.0}

    monkeypatch.setattr(consumption, "_READ_SECONDS", 0.01)
    opened(monkeypatch, Meter("cpu"))
    running = ConsumptionMeter(Consumption(), ())
    assert read.wait(10)
    running.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "consumption"]


def test_a_state_without_the_file_counts_its_seconds_only(tmp_path: Path) -> None:
    assert Consumption.load(tmp_path, seconds=12.5) == Consumption(seconds=12.5)
    (tmp_path / CONSUMPTION_FILE).write_text('{"seconds": "many"}')
    assert Consumption.load(tmp_path, seconds=3.0) == Consumption(seconds=3.0)
    used = Consumption(seconds=1.0, absent={"gpu": "none"}, interruptions=2)
    used.save(tmp_path)
    assert Consumption.load(tmp_path, seconds=3.0) == used


def test_the_first_process_meters_the_gpus_of_its_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(consumption, "gpu_uuid_of", lambda index: f"GPU-{index}")
    monkeypatch.setattr(
        consumption, "open_meters", lambda uuids: (asked.append(uuids), Meters())[1]
    )

    class FourRanks(Ranks):
        def gather(self, value: Any) -> list[Any]:
            machine, gpus = value
            assert (machine, gpus) == ("0", [f"GPU-{self.rank}"])
            return [("0", ["GPU-0"]), ("0", ["GPU-1"]), ("1", ["GPU-8"]), ("1", ["GPU-9"])]

    options: dict[str, Any] = {"state": None, "saved_s": 0.0, "lost_s": None}
    meter = meter_run(FourRanks(0, 4), torch.device("cuda:0"), **options)
    assert meter is not None
    assert meter.close().elsewhere == 2
    assert asked == [["GPU-0", "GPU-1"]]
    assert meter_run(FourRanks(1, 4), torch.device("cuda:1"), **options) is None


def test_a_driver_that_does_not_answer_costs_the_gpu_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(index: int) -> str:
        raise RuntimeError("CUDA error")

    asked: list[Any] = []
    monkeypatch.setattr(consumption, "gpu_uuid_of", fail)
    monkeypatch.setattr(
        consumption, "open_meters", lambda uuids: (asked.append(uuids), Meters())[1]
    )
    meter = meter_run(Ranks(), torch.device("cuda:0"), state=None, saved_s=0.0, lost_s=None)
    assert meter is not None
    meter.close()
    assert asked == [[None]]


def _weights(run: Path) -> dict[str, Any]:
    (state,) = (run / "state").iterdir()
    weights: dict[str, Any] = torch.load(state / "weights.pt", weights_only=True)
    return weights


def test_metering_does_not_change_the_weights(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Read a hundred times a second by a thread, or not at all: the same bits."""
    monkeypatch.setattr(consumption, "_READ_SECONDS", 0.01)
    metered = finetune(make_config(output=str(tmp_path / "metered"), train__epochs=1))
    monkeypatch.setattr(consumption, "open_meters", lambda uuids: Meters())
    bare = finetune(make_config(output=str(tmp_path / "bare"), train__epochs=1))
    one, other = _weights(metered.run_dir), _weights(bare.run_dir)
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_killed_twice_and_resumed_it_adds_up(make_config: MakeConfig, tmp_path: Path) -> None:
    """Every second of the states is there with its joules; both kills are told."""
    run = tmp_path / "killed"
    began = time.monotonic()
    _killed(make_config(output=str(run)), None, "before step", 6)
    (state,) = (run / "state").iterdir()
    first = Consumption.load(state, seconds=-1.0)
    assert first.seconds > 0
    assert first.interruptions == 0
    _killed(None, run, "before step", 2)  # no state in between
    finetune(resume=run)
    (state,) = (run / "state").iterdir()
    used = Consumption.load(state, seconds=-1.0)
    assert used.interruptions == 2
    assert first.seconds < used.seconds < time.monotonic() - began
    cpu = used.components["cpu"]
    assert cpu.joules == pytest.approx(10 * used.seconds, rel=0.05)
    assert cpu.seconds == pytest.approx(used.seconds)
    assert len(cpu.sources) == 1
