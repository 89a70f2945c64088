"""The largest batch: the search finds it, a trial tells fitting from failing, limits hold."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alpine_cli.errors import ConfigError, MeasurementError
from alpine_cli.measure.batch_search import find_batch_sizes, largest_batch
from alpine_cli.measure.batch_size import try_batch
from alpine_cli.measure.isolation import WorkerDied
from alpine_cli.measure.memory_limit import DEFAULT_SHARE, available_bytes, parse_bytes
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.measure.plan import Plan, make_plan
from alpine_cli.results import Figure, Part
from tests.measure.subjects import write_checkpoint

MIB = 2**20


@given(largest=st.integers(0, 5000), start=st.integers(1, 4096), most=st.integers(4096, 8192))
def test_the_search_ends_at_the_largest_size_that_fits(largest: int, start: int, most: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= largest

    found = largest_batch(fits, start=start, most=most)
    assert found.trials == len(tried) == len(set(tried))
    assert all(1 <= size <= most for size in tried)
    assert found.largest <= largest
    if found.fails is None:
        assert found.largest == most
    else:
        assert largest < found.fails
        assert found.fails - found.largest <= max(1, found.largest // 32)
    assert found.largest == 0 or found.largest in tried
    assert found.trials <= 30


def test_small_batches_are_exact() -> None:
    for largest in range(33):
        assert largest_batch(lambda size, n=largest: size <= n, start=8).largest == largest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("4GiB", 4 * 2**30),
        ("1.5 GB", 1_500_000_000),
        ("512mib", 512 * MIB),
        ("1048576", MIB),
        ("2kB", 2000),
    ],
)
def test_amounts_of_memory_are_read(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "GiB", "-4GiB", "4 gigs", "0", "0.1", "nan", "1e9"])
def test_what_is_no_amount_of_memory_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="4GiB"):
        parse_bytes(text)


def test_the_default_leaves_room_for_others() -> None:
    import psutil

    assert 0 < DEFAULT_SHARE * available_bytes() < psutil.virtual_memory().total


BOUNDED = """
import sys, psutil
from alpine_cli.measure.memory_limit import bounded_memory
room, wanted = int(sys.argv[1]), int(sys.argv[2])
rss = psutil.Process().memory_info().rss
try:
    with bounded_memory(rss + room):
        block = bytearray(wanted)
        block[::4096] = b"x" * len(block[::4096])
        print("fits")
    more = bytearray(4 * room)
    print("free again")
except MemoryError:
    print("refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux")
@pytest.mark.parametrize(
    ("wanted", "said"), [(60 * MIB, ["fits", "free again"]), (140 * MIB, ["refused"])]
)
def test_the_kernel_refuses_what_lies_beyond_the_limit(wanted: int, said: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BOUNDED, str(100 * MIB), str(wanted)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.splitlines() == said, done.stderr


def test_the_watch_kills_what_the_kernel_lets_pass() -> None:
    """As on systems whose limits do not count mapped memory."""
    code = BOUNDED.replace(
        "room, wanted",
        "import alpine_cli.measure.memory_limit as m\n"
        "m._refuse_growth = lambda room: (lambda: None)\nroom, wanted",
        1,
    ).replace('print("fits")', "import time; time.sleep(20)")
    done = subprocess.run(
        [sys.executable, "-c", code, str(100 * MIB), str(200 * MIB)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == ""


def request(subject: tuple[Path, Path], **changed: Any) -> dict[str, Any]:
    row = [0, *range(5, 60), 2]
    return {
        "name": "pruned",
        "checkpoint": str(subject[0]),
        "pruning": {"layers": "even"},
        "rows": [[row], [row[:20]]],
        "labels": [0, 1],
        "purpose": "inference",
        "batch_size": 3,
        "limit_bytes": None,
        "precision": "float32",
        "device": "cpu",
        "threads": 1,
        "seed": 0,
        **changed,
    }


def trial(subject: tuple[Path, Path], **changed: Any) -> dict[str, Any]:
    return try_batch(request(subject, **changed))


LIMITED = """
import json, sys, psutil, torch, transformers
from alpine_cli.measure.batch_size import try_batch

request = json.load(sys.stdin)
request["limit_bytes"] += psutil.Process().memory_info().rss
print(json.dumps(try_batch(request)))
"""


def does_not_fit(subject: tuple[Path, Path], room: int, **changed: Any) -> bool:
    """A trial bounded to so many bytes more than its process has; in a process of its own.

    The watch may be quicker than the kernel, and then it kills.
    """
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        input=json.dumps(request(subject, limit_bytes=room, **changed)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == -signal.SIGKILL:
        return True
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["fits"] or answer["said"]
    return not answer["fits"]


@pytest.mark.parametrize("purpose", ["inference", "training"])
def test_a_trial_tells_what_fits(subject: tuple[Path, Path], purpose: str) -> None:
    assert trial(subject, purpose=purpose) == {"fits": True, "said": None}


@pytest.mark.parametrize("purpose", ["inference", "training"])
@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA counts mapped memory on Linux")
def test_a_trial_that_does_not_fit_says_so(subject: tuple[Path, Path], purpose: str) -> None:
    assert does_not_fit(subject, 128 * MIB, purpose=purpose, batch_size=8000)
    assert not does_not_fit(subject, 128 * MIB, purpose=purpose, batch_size=2)


def test_a_process_that_is_too_large_to_begin_with_does_not_fit(
    subject: tuple[Path, Path],
) -> None:
    assert does_not_fit(subject, -64 * MIB)


def test_an_error_that_is_not_about_memory_is_no_answer(
    subject: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*asked: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("alpine_cli.measure.batch_size.infer", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        trial(subject)


@pytest.fixture
def plan(subject: tuple[Path, Path]) -> Plan:
    options = MeasureOptions(checkpoint=subject[0], device="cpu", threads=1, batch_size=8)
    return make_plan(options)


ROOM = {"stock": 100, "unpruned": 150, "pruned": 333}


class Machine:
    """Stands in for fresh processes: so many samples of inference fit, a quarter in training."""

    def __init__(self, died: int | None = None, room: dict[str, int] | None = None) -> None:
        self.requests: list[dict[str, Any]] = []
        self.died = died
        self.room = room or ROOM

    def __call__(self, measure: str, request: dict[str, Any], **_: Any) -> dict[str, Any]:
        assert measure == "batch_size"
        json.dumps(request)  # it travels in a file
        self.requests.append(request)
        share = 4 if request["purpose"] == "training" else 1
        fits = share * request["batch_size"] <= self.room[request["name"]]
        if not fits and self.died is not None:
            raise WorkerDied("it died", self.died)
        return {"fits": fits, "said": None}


def figures_of(part: Part) -> dict[tuple[str, str], Figure]:
    return {(figure.name, figure.variant): figure for figure in part.figures}


@pytest.mark.parametrize("died", [None, -signal.SIGKILL], ids=["says so", "is killed"])
def test_every_variant_is_searched_for_both_purposes(plan: Plan, died: int | None) -> None:
    machine, told = Machine(died), []
    part = find_batch_sizes(plan, lambda *progress: told.append(progress), machine)
    found = figures_of(part)
    assert found["training_largest_batch", "stock"].value == 25
    assert found["training_largest_batch", "pruned"].value == pytest.approx(333 // 4, abs=2)
    for name, room in ROOM.items():
        figure = found["inference_largest_batch", name]
        assert figure.value is not None
        assert figure.value <= room < figure.value * (1 + 1 / 32) + 1
        assert figure.unit == "samples"
        for said in ("what was available", "the 24 longest samples", "sizes tried:", "failed"):
            assert said in figure.method
    comparison = next(
        c
        for c in part.comparisons
        if (c.figure, c.variant, c.baseline) == ("inference_largest_batch", "pruned", "unpruned")
    )
    assert comparison.ratio is not None
    assert comparison.ratio > 2
    assert comparison.verdict == "not judged"
    assert told[0] == (0, 6, "inference of stock: 8 samples")


def test_trials_get_the_longest_samples_first(plan: Plan) -> None:
    machine = Machine()
    find_batch_sizes(plan, lambda *_: None, machine)
    lengths = [len(sample[0]) for sample in machine.requests[0]["rows"]]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] == 64  # the checkpoint's longest input
    assert len(machine.requests[0]["labels"]) == len(lengths)


def test_a_worker_that_dies_of_something_else_ends_the_search(plan: Plan) -> None:
    with pytest.raises(MeasurementError, match="it died"):
        find_batch_sizes(plan, lambda *_: None, Machine(-signal.SIGSEGV))


def test_where_not_one_sample_fits_the_figure_is_absent(plan: Plan) -> None:
    machine = Machine(room={"stock": 0, "unpruned": 1, "pruned": 10**9})
    part = find_batch_sizes(plan, lambda *_: None, machine)
    found = figures_of(part)
    absent = found["inference_largest_batch", "stock"]
    assert absent.value is None
    assert "not even one sample fits" in (absent.reason or "")
    assert found["inference_largest_batch", "unpruned"].value == 1
    assert found["training_largest_batch", "unpruned"].value is None
    assert {caution.code for caution in part.cautions} == {"search-ended"}


def test_the_limit_asked_for_is_handed_on_and_named(
    tmp_path: Path, tiny_model_dir: Path, subject: tuple[Path, Path]
) -> None:
    checkpoint = write_checkpoint(tmp_path / "ckpt.pt", tiny_model_dir, layers="none")
    asked = MeasureOptions(
        checkpoint=checkpoint,
        data=subject[1],
        device="cpu",
        threads=1,
        training_memory=False,
        memory_limit=3 * 2**30,
    )
    machine = Machine()
    part = find_batch_sizes(make_plan(asked), lambda *_: None, machine)
    assert {request["limit_bytes"] for request in machine.requests} == {3 * 2**30}
    assert {figure.name for figure in part.figures} == {"inference_largest_batch"}
    assert "within 3.00 GiB of resident memory of the process, as asked" in part.figures[0].method
