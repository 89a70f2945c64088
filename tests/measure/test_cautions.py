"""What is said of a busy machine, a throttled or shared GPU, outliers and too few runs."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

from alpine_cli.measure import cautions, environment
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.statistics import aggregate
from alpine_cli.measure.watch import Seen
from alpine_cli.results import Caution, Environment, Figure
from tests.measure.fake_nvml import FakeNvml


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    fake = FakeNvml()
    monkeypatch.setattr(environment, "nvml", fake.opened)
    monkeypatch.setattr(environment, "busy_share", lambda: 0.01)
    return fake


@pytest.fixture
def quiet(nvml: FakeNvml) -> Environment:
    return describe_environment()


def codes(found: list[Caution]) -> list[str]:
    for caution in found:
        assert caution.effect, caution
        assert caution.remedy, caution
        assert not caution.text.endswith(".")
    return [caution.code for caution in found]


def figure(samples: list[float], name: str = "throughput") -> Figure:
    higher = name.endswith("throughput")
    how = "harmonic_mean" if higher else "mean"
    return Figure(
        name=name,
        variant="pruned",
        unit="samples/s" if higher else "J",
        value=float(aggregate(samples, how)),
        provenance="measured",
        method="a clock",
        better="higher" if higher else "lower",
        aggregate=how,
        samples=samples,
    )


def test_a_quiet_machine_gets_no_caution(quiet: Environment) -> None:
    assert cautions.before(quiet) == []
    assert cautions.after(quiet) == []
    assert cautions.of_watch(Seen()) == []


def test_a_busy_machine_is_told_before_during_and_after(
    quiet: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = quiet.model_copy(update={"busy_share": 0.9})
    (found,) = cautions.before(busy)
    assert "90%" in found.text
    assert "before" in found.text
    assert codes(cautions.of_watch(Seen(others_cpu_share=0.5), "training steps")) == [
        "busy-machine"
    ]
    monkeypatch.setattr(environment, "busy_share", lambda: 0.4)
    assert codes(cautions.after(quiet)) == ["busy-machine"]


def test_an_unknown_load_is_not_a_quiet_one_nor_a_busy_one(quiet: Environment) -> None:
    assert cautions.before(quiet.model_copy(update={"busy_share": None})) == []


def test_throttling_is_told_with_its_reason(nvml: FakeNvml) -> None:
    nvml.answers["nvmlDeviceGetCurrentClocksThrottleReasons"] = 4 | 0x20
    hot = describe_environment()
    (found,) = cautions.before(hot)
    assert found.code == "gpu-throttled"
    assert "software power cap, software thermal slowdown" in found.text
    assert codes(cautions.after(hot)) == ["gpu-throttled"]
    assert cautions.before(hot, device="cpu") == []
    assert cautions.after(hot, device="cpu") == []


def test_another_process_on_the_gpu_is_told_and_our_own_is_not(
    nvml: FakeNvml, quiet: Environment
) -> None:
    nvml.processes(os.getpid())
    assert cautions.before(quiet) == []
    nvml.processes(os.getpid(), 1)
    (found,) = cautions.before(quiet)
    assert (found.code, found.text[:19]) == ("gpu-shared", "another process was")
    nvml.processes(1, 2, 3)
    assert "3 other processes were on GPU 0 (H200)" in cautions.after(quiet)[0].text


def test_a_gpu_busy_with_hidden_processes_is_told(nvml: FakeNvml, quiet: Environment) -> None:
    """In a container the driver hides other people's processes; their work shows all the same."""
    nvml.answers["nvmlDeviceGetUtilizationRates"] = SimpleNamespace(gpu=60)
    assert "60% busy" in cautions.before(quiet)[0].text
    assert cautions.after(quiet) == []  # what we ran ourselves a moment ago still counts there


def test_a_card_that_answers_nothing_gets_no_gpu_caution(
    nvml: FakeNvml, quiet: Environment
) -> None:
    for name in ("ComputeRunningProcesses", "UtilizationRates", "CurrentClocksThrottleReasons"):
        nvml.answers[f"nvmlDeviceGet{name}"] = None
    assert cautions.before(quiet) == []


def test_what_the_gpu_did_during_the_blocks() -> None:
    throttled = Seen(
        readings=100,
        clock_mhz=(1410, 1980),
        temperature_c=88,
        throttled={"software power cap": 0.34, "hardware slowdown": 0.01},
        gpu_processes=1,
    )
    found = cautions.of_watch(throttled)
    assert codes(found) == ["gpu-throttled", "gpu-clock-moved", "gpu-shared"]
    assert "software power cap 34%" in found[0].text
    assert "hardware slowdown" not in found[0].text  # once in a hundred looks is no effect
    assert "88 °C" in found[0].text
    assert "1,410 and 1,980 MHz" in found[1].text
    assert "--lock-gpu-clocks=1410" in str(found[1])
    assert cautions.of_watch(Seen(readings=100, clock_mhz=(1965, 1980))) == []


def test_an_outlier_that_matters_is_told_in_time_not_in_rate() -> None:
    steady = [10.0, 10.1, 9.9, 10.0, 10.05, 9.95, 10.0, 10.02, 9.98]
    assert cautions.of_figures([figure(steady)]) == []
    (found,) = cautions.of_figures([figure([*steady, 2.0])])  # one run took five times as long
    assert found.code == "outliers"
    assert "1 of 10 runs lies" in found.text
    assert "5 times the median time" in found.text
    # Work over time: 10 runs took 9 + 5 units instead of 10.
    assert "moves the figure by 28" in (found.effect or "")
    # An unusually high rate is a short time: that tail is not the one that strays.
    assert cautions.of_figures([figure([*steady, 20.0])]) == []
    (energy,) = cautions.of_figures([figure([*steady, 50.0], "energy_gross")])
    assert "median energy" in energy.text


def test_the_first_run_as_outlier_points_to_the_warm_up() -> None:
    (found,) = cautions.of_figures([figure([2.0, 10.0, 10.1, 9.9, 10.0, 10.05, 9.95, 10.0])])
    assert "the first run" in found.text
    assert "Warm up" in (found.remedy or "")


def test_an_outlier_without_effect_is_not_told() -> None:
    """On a machine steady to 0.1 %, a run slower by 2 % lies beyond the fence and moves little."""
    steady = [10.0, 10.01, 9.99, 10.0, 10.005, 9.995, 10.0, 10.002, 9.998, 10.0, 10.0, 9.8]
    assert cautions.of_figures([figure(steady)]) == []


@pytest.mark.parametrize(("noise", "most"), [("normal", 0.005), ("gamma", 0.07)])
def test_false_alarms_are_as_rare_as_the_module_says(noise: str, most: float) -> None:
    draw = np.random.default_rng(0)
    alarms = 0
    for _ in range(400):
        values = {"normal": draw.normal(0, 0.02, 10), "gamma": draw.gamma(2, 0.02, 10)}[noise]
        alarms += bool(cautions.of_figures([figure(list(1 / (1 + values)))]))
    assert alarms / 400 <= most


def test_few_runs_are_told_once_for_all_variants() -> None:
    one = figure([10.0])
    other = one.model_copy(update={"variant": "unpruned"})
    (found,) = cautions.of_figures([one, other])
    assert found.code == "few-runs"
    assert "1 run only" in found.text
    assert "no interval" in (found.effect or "")


def test_figures_of_different_work_are_not_searched_for_outliers() -> None:
    assert cautions.of_figures([figure([1.0] * 20 + [100.0], "latency")]) == []
    absent = Figure(
        name="throughput",
        variant="pruned",
        unit="samples/s",
        value=None,
        reason="the worker died",
        provenance="absent",
        method="not taken",
    )
    assert cautions.of_figures([absent]) == []
