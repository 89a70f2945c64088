"""Memory over fresh processes: which run, how many at once, and what becomes of those that die."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.errors import MeasurementError
from alpine_cli.measure import memory_trials
from alpine_cli.measure.memory_trials import measure_memory_trials, memory_figures, side_by_side
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.partial import KeptParts
from alpine_cli.measure.plan import Plan, make_plan
from alpine_cli.results import Part
from alpine_cli.tasks.batching import BatchLimit

GIB = 2**30


@pytest.fixture(scope="module")
def plan(subject: tuple[Path, Path]) -> Plan:
    options = MeasureOptions(checkpoint=subject[0], device="cpu", threads=1, memory_runs=3)
    return make_plan(options)


class Workers:
    """Notes who runs beside whom; the trials named in `dying` fail as often as it says."""

    def __init__(self, dying: Mapping[tuple[str, str], int] | None = None) -> None:
        self.dying = dict(dying or {})
        self.requests: list[tuple[str, str]] = []
        self.most = self.running = 0
        self.lock = threading.Lock()

    def __call__(self, kind: str, request: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
        (variant,) = request["workload"]["variants"]
        key = (request["purpose"], variant["name"])
        with self.lock:
            self.requests.append(key)
            self.running += 1
            self.most = max(self.most, self.running)
            dies = self.dying.get(key, 0)
            self.dying[key] = dies - 1
        threading.Event().wait(0.01)
        with self.lock:
            self.running -= 1
        if dies > 0:
            raise MeasurementError("was killed by SIGKILL")
        return {"bytes": {"run": 10, "process": 100}, "peak_was_reset": True}


def measure(plan: Plan, workers: Workers) -> Part:
    return measure_memory_trials(plan, lambda *_: None, KeptParts(), workers)


def test_the_first_of_each_purpose_runs_alone_the_rest_beside_each_other(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_trials, "usable_cores", lambda: 3)
    workers = Workers()
    part = measure(plan, workers)
    assert len(workers.requests) == 3 * 2 * 3  # variants x purposes x repetitions
    assert set(workers.requests[:2]) == {("inference", "stock"), ("training", "stock")}
    assert len(set(workers.requests[:6])) == 6  # one of every variant before any repetition
    assert 1 < workers.most <= 3
    assert {figure.n for figure in part.figures} == {3}
    assert len(part.figures) == 3 * 2 * 2  # run and process


def test_one_core_runs_one_at_a_time(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_trials, "usable_cores", lambda: 1)
    workers = Workers()
    measure(plan, workers)
    assert workers.most == 1


def test_a_process_that_dies_beside_others_gets_a_second_chance_alone(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_trials, "usable_cores", lambda: 3)
    workers = Workers()
    dying = iter([0, 1])  # the second process of its kind, then no more

    def falter(kind: str, request: Mapping[str, Any], **extra: Any) -> dict[str, Any]:
        answer = workers(kind, request, **extra)
        if workers.requests[-1] == ("training", "pruned") and next(dying, 0):
            raise MeasurementError("was killed by SIGKILL")
        return answer

    part = measure_memory_trials(plan, lambda *_: None, KeptParts(), falter)
    assert {figure.n for figure in part.figures} == {3}
    assert part.cautions == []


def test_what_never_fits_is_lost_and_not_tried_on_and_on(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory_trials, "usable_cores", lambda: 3)
    workers = Workers({("training", "stock"): 99})
    part = measure(plan, workers)
    assert workers.requests.count(("training", "stock")) == 1
    (lost,) = [figure for figure in part.figures if figure.value is None]
    assert (lost.name, lost.variant) == ("training_memory_run", "stock")
    assert lost.reason == "was killed by SIGKILL"


@pytest.mark.parametrize(
    ("peaks", "free", "expected"),
    [
        ([], 100 * GIB, 1),
        ([{"process": 1 * GIB}], 100 * GIB, 4),
        ([{"process": 1 * GIB}, {"process": 4 * GIB}], 16 * GIB, 2),
        ([{"process": 9 * GIB}], 16 * GIB, 1),
        ([{"cuda_run": 1, "cuda_allocated": 1, "cuda_reserved": 1}], 100 * GIB, 1),
    ],
    ids=["nothing known", "plenty", "two fit", "one fits", "on a GPU"],
)
def test_side_by_side_only_where_it_is_known_to_fit(
    monkeypatch: pytest.MonkeyPatch, peaks: list[dict[str, int]], free: int, expected: int
) -> None:
    monkeypatch.setattr(memory_trials, "usable_cores", lambda: 64)
    assert side_by_side([{"bytes": peak} for peak in peaks], free) == expected


def test_five_processes_give_an_interval_and_fewer_do_not() -> None:
    def answers(n: int) -> list[dict[str, Any]]:
        return [{"bytes": {"run": 10 + k}, "peak_was_reset": True} for k in range(n)]

    (few,) = memory_figures("inference", "pruned", answers(4), BatchLimit(8))
    (enough,) = memory_figures("inference", "pruned", answers(5), BatchLimit(8))
    assert few.interval is None
    assert enough.interval is not None
