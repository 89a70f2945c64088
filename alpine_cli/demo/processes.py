"""Fine-tune several configs at once: one `alpine finetune` process each, their lines interleaved.

A model as small as the demo's gains little from a second thread, so two trainings side by side
take about half the time of one after the other. Each process is exactly what a user would start:
`alpine finetune --config FILE`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from alpine_cli.errors import TrainingError

__all__ = ["Say", "finetune_side_by_side"]

Say = Callable[[str], None]
"""Called with a line for the user."""

_POLL_S = 0.1
_GRACE_S = 10.0
_LINES_OF_AN_ERROR = 20


def finetune_side_by_side(configs: Mapping[str, Path], *, threads: int, say: Say) -> None:
    """Run `alpine finetune` for every config and wait until all are done.

    Args:
        configs: config files by a short name, which opens every line of its process.
        threads: of each process.
        say: gets the lines, from one thread per process.

    Raises:
        TrainingError: a process failed; the others were stopped. The message ends with what it
            said last.
    """
    runs = {}
    try:
        for name, config in configs.items():
            runs[name] = _Run(name, config, threads, say)
        while any(run.process.poll() is None for run in runs.values()):
            for run in runs.values():
                run.raise_if_failed()
            time.sleep(_POLL_S)
        for run in runs.values():
            run.raise_if_failed()
    finally:
        for run in runs.values():
            run.stop()


class _Run:
    """One process and the thread that reads its lines."""

    def __init__(self, name: str, config: Path, threads: int, say: Say) -> None:
        self.name = name
        self._say = say
        self._last: deque[str] = deque(maxlen=_LINES_OF_AN_ERROR)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "alpine_cli.cli", "finetune", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its own result table; the demo prints one of both
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ
            | {
                "OMP_NUM_THREADS": str(threads),
                "HF_HUB_OFFLINE": "1",
                "TOKENIZERS_PARALLELISM": "false",
                "PYTHONIOENCODING": "utf-8",
            },
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            text = line.rstrip()
            if text:
                self._last.append(text)
                self._say(f"{self.name:>5} | {text}")

    def raise_if_failed(self) -> None:
        """Raise if the process ended badly."""
        code = self.process.poll()
        if code:
            self._reader.join()
            said = "\n".join(self._last) or "it said nothing"
            raise TrainingError(f"fine-tuning {self.name} ended with exit code {code}:\n{said}")

    def stop(self) -> None:
        """End the process if it runs, and read what it still has to say."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join()
