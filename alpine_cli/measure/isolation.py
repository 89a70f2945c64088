"""Run one measure in a fresh process and turn every way it can die into an error with a reason.

    parent                                   child: python -m alpine_cli.measure.worker
    request.json  ─────────────────────────▶ reads it, runs the measure
    stdout lines  ◀───────────────────────── "progress DONE TOTAL TEXT"
    stderr tail   ◀───────────────────────── whatever libraries say
    result.json   ◀───────────────────────── the Part, or the error it stopped with

A fresh process per measure keeps allocator caches, thread pools and compiled kernels of one
measure out of the next. The files live in a temporary folder that is removed at the end. The
worker's stdin is a pipe that nothing is written to: it closes when the parent dies, however it
dies, and the worker then ends itself. Left alone it would load the machine under the next bench.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import alpine_cli.errors as error_classes
from alpine_cli.errors import AlpineError, MeasurementError

__all__ = ["OnProgress", "WorkerDied", "run_isolated", "worker_environment"]

OnProgress = Callable[[int, int, str], None]

_TAIL_LINES = 15
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class WorkerDied(MeasurementError):
    """A worker ended without an answer; `status` as of subprocess: negative for a signal."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def worker_environment(threads: int | None) -> dict[str, str]:
    """The environment of a worker: ours, its thread pools bounded, no hub, no telemetry."""
    environment = dict(os.environ)
    if threads is not None:
        environment.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    environment.update(
        HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", PYTHONUNBUFFERED="1", LC_ALL="C.UTF-8"
    )
    # The worker must import this very package, also when the parent runs from a source tree.
    root = str(Path(__file__).resolve().parents[2])
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = f"{root}{os.pathsep}{path}" if path else root
    return environment


def run_isolated(
    measure: str,
    request: Mapping[str, Any],
    *,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    environment: Mapping[str, str] | None = None,
    module: str = "alpine_cli.measure.worker",
) -> dict[str, Any]:
    """Run `measure` in a fresh process and return its JSON answer.

    Args:
        measure: a name of `worker.MEASURES`.
        request: what the measure needs, JSON-serialisable.
        threads: size of the worker's thread pools; None leaves the libraries' default.
        on_progress: called with (done, total, text) whenever the worker reports.
        environment: variables to add to the worker's.
        module: the module to run (tests put a stand-in here).

    Raises:
        WorkerDied: the worker died; the message holds the signal or exit status and the last
            lines it wrote.
        AlpineError: the worker stopped with an error of alpine; the same class is raised here.
    """
    with tempfile.TemporaryDirectory(prefix="alpine-measure-") as folder:
        ask, answer = Path(folder, "request.json"), Path(folder, "result.json")
        ask.write_text(json.dumps({"measure": measure, "request": dict(request)}), encoding="utf-8")
        status, tail = _run(
            [sys.executable, "-m", module, str(ask), str(answer)],
            {**worker_environment(threads), **(environment or {})},
            on_progress,
        )
        if status == 0 and answer.exists():
            loaded: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
            if "error" in loaded:
                raise _revive(loaded["error"])
            return loaded
    raise WorkerDied(_describe_death(measure, status, tail), status)


def _run(
    command: list[str], environment: Mapping[str, str], on_progress: OnProgress | None
) -> tuple[int, list[str]]:
    """Run to the end; return the exit status and the last lines of stderr."""
    process = subprocess.Popen(
        command,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    assert process.stdout is not None
    assert process.stderr is not None
    assert process.stdin is not None
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    # Both pipes are drained at once; a full stderr pipe would stop the worker otherwise.
    drain = threading.Thread(target=tail.extend, args=(process.stderr,), daemon=True)
    drain.start()
    try:
        for line in process.stdout:
            _report(line, on_progress)
        status = process.wait()
    except BaseException:  # Ctrl-C included: never leave a worker behind
        process.kill()
        process.wait()
        raise
    finally:
        process.stdin.close()
    drain.join(timeout=5)
    return status, [line.rstrip("\n") for line in tail]


def _report(line: str, on_progress: OnProgress | None) -> None:
    kind, _, rest = line.partition(" ")
    if kind != "progress" or on_progress is None:
        return
    done, total, text = rest.rstrip("\n").split(" ", 2)
    on_progress(int(done), int(total), text)


def _revive(error: Mapping[str, str]) -> AlpineError:
    known = getattr(error_classes, error["type"], MeasurementError)
    found: AlpineError = known(error["message"])
    return found


def _describe_death(measure: str, status: int, tail: list[str]) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        how = f"was killed by {name}"
        if -status == signal.SIGKILL:
            how += (
                " (most often: the machine ran out of memory; a smaller --batch-size or --limit"
                " needs less)"
            )
    elif status == 0:
        how = "ended without a result"
    else:
        how = f"ended with exit status {status}"
    said = "\n  ".join(tail) if tail else "(nothing)"
    return f"the worker measuring {measure} {how}. It said last:\n  {said}"
