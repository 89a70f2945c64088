"""A meter whose figures are known: energy follows the real clock and nothing else."""

from __future__ import annotations

import time

from alpine_cli.measure.meters import Source

__all__ = ["SteadyMeter"]


class SteadyMeter:
    """10 W of CPU on the real clock: joules are ten times the seconds, whatever happens."""

    window_s = 0.0

    def __init__(self) -> None:
        self.sources = {"cpu": Source("measured", "a meter of the tests")}

    def start(self) -> None:
        self._began = time.monotonic()

    def stop(self) -> dict[str, float]:
        return {"cpu": 10.0 * (time.monotonic() - self._began)}

    def close(self) -> None:
        pass
