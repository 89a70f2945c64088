"""Stand-ins for worker processes: quick, no two answers alike, and able to be interrupted.

Run as a module it is a bench that hangs in a measure, for a test to kill:
    python -m tests.measure.fake_workers CHECKPOINT OUTPUT LOG HANG_AT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from alpine_cli.measure import cautions, measures, partial, session
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.results import Figure, Part

KINDS = ("accuracy", "flops", "memory", "throughput")


class FakeWorkers:
    """Stands in for `run_isolated`. Every call adds a line to `log`; its number is its answer."""

    def __init__(self, log: Path, at: Mapping[str, Callable[[], None]] | None = None) -> None:
        self.log = log
        self.at = dict(at or {})

    @property
    def calls(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").split() if self.log.exists() else []

    def __call__(self, kind: str, request: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        variants = [variant["name"] for variant in request["workload"]["variants"]]
        name = kind if kind != "memory" else f"memory.{request['purpose']}.{variants[0]}"
        with self.log.open("a", encoding="utf-8") as file:
            file.write(f"{name}\n")
        if name in self.at:
            self.at[name]()
        number = float(len(self.calls))
        if kind == "memory":
            return {"bytes": {"run": number, "process": 100.0}, "peak_was_reset": True}
        figures = [
            Figure(
                name=f"{kind}_figure",
                variant=variant,
                unit="1",
                value=number,
                provenance="measured",
                method="made up",
            )
            for variant in variants
        ]
        return Part(figures=figures).model_dump(mode="json")


class Silent:
    """A `SessionWatcher` that remembers what it was told."""

    def __init__(self) -> None:
        self.kept: list[list[str]] = []
        self.ended: list[tuple[int, str, str]] = []
        self.failures: list[int] = []

    def planned(self, plans: Any, kinds: Any, kept: Any) -> None:
        self.kept = [list(names) for names in kept or ()]

    def cell(self, number: int) -> Any:
        outer = self

        class Cell:
            def progress(self, kind: str, done: int, total: int, text: str) -> None:
                pass

            def finished(self, kind: str, seconds: float, how: str) -> None:
                outer.ended.append((number, kind, how))

        return Cell()

    def written(self, number: int, measured: Any) -> None:
        pass

    def failed(self, number: int, error: Exception) -> None:
        self.failures.append(number)


def options_for(checkpoint: Path) -> MeasureOptions:
    return MeasureOptions(
        checkpoint=checkpoint, device="cpu", threads=1, memory_runs=2, training_memory=False
    )


def main(checkpoint: str, output: str, log: str, hang_at: str) -> None:
    measures.run_isolated = FakeWorkers(  # type: ignore[assignment]
        Path(log), {hang_at: lambda: time.sleep(600)}
    )
    cautions.after = lambda *_, **__: []  # type: ignore[assignment]
    # The package may be edited while a test runs; test_session fixes it in the same way.
    partial._source_digest = lambda: "source"  # type: ignore[assignment]
    session.run_session([options_for(Path(checkpoint))], Path(output), Silent(), kinds=KINDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
