"""The process in which one measure runs: `python -m alpine_cli.measure.worker REQUEST RESULT`.

Started by `isolation.run_isolated` only. Errors of alpine travel back in the result file;
anything else leaves a traceback on stderr and a non-zero status.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from alpine_cli.errors import AlpineError
from alpine_cli.files import write_atomic
from alpine_cli.pruning.errors import PruningError

__all__ = ["MEASURES", "main", "report_progress"]

# Loaded when asked for, so that a worker imports no more than its measure needs.
MEASURES: dict[str, str] = {
    "accuracy": "alpine_cli.measure.accuracy:measure_accuracy",
    "anatomy": "alpine_cli.measure.anatomy:measure_anatomy",
    "batch_size": "alpine_cli.measure.batch_size:try_batch",
    "budget": "alpine_cli.measure.budget:measure_budget",
    "energy": "alpine_cli.measure.energy:measure_energy",
    "flops": "alpine_cli.measure.flops:measure_flops",
    "memory": "alpine_cli.measure.memory:measure_memory",
    "sweep": "alpine_cli.measure.sweep:measure_sweep",
    "throughput": "alpine_cli.measure.throughput:measure_throughput",
    "tune": "alpine_cli.measure.tune:measure_tune",
}


def report_progress(done: int, total: int, text: str) -> None:
    """Tell the parent how far the measure is; seen by `run_isolated(on_progress=…)`."""
    sys.stdout.write(f"progress {done} {total} {text}\n")
    sys.stdout.flush()


def main(arguments: list[str]) -> int:
    """Run the measure that the request file names and write its answer."""
    ask, answer = map(Path, arguments)
    envelope = json.loads(ask.read_text(encoding="utf-8"))
    try:
        result = _load(envelope["measure"])(envelope["request"])
    except (AlpineError, PruningError) as error:
        kind = type(error).__name__ if isinstance(error, AlpineError) else "ConfigError"
        result = {"error": {"type": kind, "message": str(error)}}
    write_atomic(answer, json.dumps(result, allow_nan=False))
    return 0


def _end_with_parent() -> None:
    """Wait for the pipe from the parent to close, which it does when the parent is gone."""
    # A plain read of the descriptor: a thread inside sys.stdin would block the normal exit.
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os._exit(1)


def _load(measure: str) -> Callable[[Mapping[str, Any]], dict[str, Any]]:
    module, _, function = MEASURES[measure].partition(":")
    found: Callable[[Mapping[str, Any]], dict[str, Any]] = getattr(
        importlib.import_module(module), function
    )
    return found


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.exit(main(sys.argv[1:]))
