"""How a bench goes, on stderr: bars with the time left on a terminal, elsewhere plain lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from alpine_cli.cli._common import error_console

if TYPE_CHECKING:
    from rich.console import Console

    from alpine_cli.errors import MeasurementError
    from alpine_cli.measure.plan import Plan
    from alpine_cli.measure.session import Measured
    from alpine_cli.measure.time_left import TimeLeft

__all__ = ["BenchProgress", "show_progress"]

_HOW = {"measured": "done", "kept": "taken up from before", "failed": "not measured"}


class BenchProgress:
    """Tells how a session goes; a `measure.session.SessionWatcher`. Made by `show_progress`."""

    def __init__(self, terminal: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self._terminal = terminal
        self._bars = Progress(
            TextColumn("{task.fields[name]:<18}"),
            BarColumn(bar_width=24),
            TextColumn("{task.description}"),
            console=terminal,
            transient=True,
            disable=not terminal.is_terminal,
        )
        self._whole = self._bars.add_task("", name="", total=1, visible=False)
        self._current = self._bars.add_task("", name="", total=None, visible=False)
        self._left: TimeLeft | None = None
        self._kinds: Sequence[str] = ()
        self._names: list[str] = []
        self._done = 0

    def planned(
        self,
        plans: Sequence[Plan],
        kinds: Sequence[str],
        kept: Sequence[Sequence[str]] | None = None,
    ) -> None:
        """Say how much there is to do, and what is taken up."""
        from alpine_cli.measure.time_left import TimeLeft

        self._kinds = kinds
        self._names = [cell_name(plan, plans) for plan in plans]
        self._left = TimeLeft([least_seconds(plan, kinds) for plan in plans])
        self._bars.update(self._whole, total=len(plans) * len(kinds), name="all", visible=True)
        answers = sum(map(len, kept or ()))
        if answers:
            several = "s" if answers > 1 else ""
            self._say(f"resumed: {answers} answer{several} of the interrupted bench taken up")
        elif kept is not None:
            self._say("nothing to resume: measuring from the start")

    def cell(self, number: int) -> CellProgress:
        """The watcher of one cell."""
        return CellProgress(self, number)

    def written(self, number: int, measured: Measured) -> None:
        """A cell has its result file."""
        assert self._left is not None
        self._left.cell_ended(number)
        self._done = (number + 1) * len(self._kinds)
        self._bars.update(self._whole, completed=self._done)
        if len(self._names) > 1:
            self._say(f"{self._where(number)}written: {measured.path}")

    def failed(self, number: int, error: MeasurementError) -> None:
        """A cell could not be measured."""
        assert self._left is not None
        self._left.cell_ended(number)
        self._say(f"{self._where(number)}not measured: {error}")

    def tell(self, cell: int, kind: str, done: int, total: int, text: str) -> None:
        """Show the measure that is going on."""
        assert self._left is not None
        self._left.progress(cell, kind, done, total)
        measure, bench = self._left.of_measure(), self._left.of_bench()
        told = ", ".join(filter(None, (text, str(measure or ""))))
        self._bars.update(
            self._current, name=kind, completed=done, total=total, description=told, visible=True
        )
        place = self._where(cell).removesuffix(": ")
        self._bars.update(
            self._whole,
            description=", ".join(filter(None, (place, str(bench or "")))),
            completed=self._done + (done / total if total else 0),
        )

    def ended(self, cell: int, kind: str, seconds: float, how: str) -> None:
        """Say that a measure has ended, and what is left."""
        assert self._left is not None
        self._left.finished(cell, kind, seconds, typical=how != "failed")
        self._done += 1
        self._bars.update(self._whole, completed=self._done)
        self._bars.update(self._current, visible=False)
        ahead = len(self._kinds) * len(self._names) - self._done
        left = str(self._left.of_bench() or f"{ahead} measure{'s' if ahead > 1 else ''} to go")
        line = f"{self._where(cell)}{kind} {_HOW[how]} in {seconds:.0f} s"
        if how == "kept":
            line = f"{self._where(cell)}{kind} {_HOW[how]}"
        self._say(f"{line}; {left}" if left and ahead > 0 else line)

    def _where(self, cell: int) -> str:
        if len(self._names) < 2:
            return ""
        return f"cell {cell + 1} of {len(self._names)} ({self._names[cell]}): "

    def _say(self, line: str) -> None:
        self._terminal.print(line, markup=False, highlight=False, soft_wrap=True, style="dim")

    def __enter__(self) -> BenchProgress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()


class CellProgress:
    """Tells how the measures of one cell go; a `measure.bench.Watcher`."""

    def __init__(self, bench: BenchProgress, number: int) -> None:
        self._bench, self._number = bench, number

    def progress(self, kind: str, done: int, total: int, text: str) -> None:
        """See `bench.Watcher`."""
        self._bench.tell(self._number, kind, done, total, text)

    def finished(self, kind: str, seconds: float, how: str) -> None:
        """See `bench.Watcher`."""
        self._bench.ended(self._number, kind, seconds, how)


@contextmanager
def show_progress() -> Iterator[BenchProgress]:
    """A watcher that tells on stderr how a session goes."""
    with BenchProgress(error_console()) as watcher:
        yield watcher


def cell_name(plan: Plan, plans: Sequence[Plan]) -> str:
    """What tells a cell from the others: "seed-1/ckpt.pt, batch 32"."""
    from alpine_cli.measure.options import short_path

    parts = {
        "checkpoint": lambda p: short_path(p.options.checkpoint),
        "batch": lambda p: f"batch {p.options.batch_limit}",
        "device": lambda p: str(p.options.device),
    }
    words = [show(plan) for show in parts.values() if len({show(other) for other in plans}) > 1]
    return ", ".join(words)


def least_seconds(plan: Plan, kinds: Sequence[str]) -> Mapping[str, float]:
    """Seconds that each measure takes at least: those asked for, of each variant.

    Training steps take half as long again.
    """
    options = plan.options
    asked = options.min_seconds * len(plan.variants)
    training = {"throughput": options.training_throughput, "energy": options.training_energy}
    return {
        kind: asked * (1.5 if training[kind] else 1.0) if kind in training else 0.0
        for kind in kinds
    }
