"""What the user sees while a model trains: a live bar on a terminal, plain lines in a pipe.

Everything goes to stderr; stdout belongs to the result. Entries are the lines of metrics.jsonl.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichBar

__all__ = ["LineProgress", "Progress", "RichProgress", "SilentProgress", "make_progress"]


class Progress(Protocol):
    """What training tells whoever is watching."""

    def begin(self, title: str, *, total_steps: int, done_steps: int) -> None:
        """Training starts, or goes on at `done_steps`."""

    def stepped(self, step: int) -> None:
        """An optimiser step is done."""

    def logged(self, entry: Mapping[str, Any]) -> None:
        """A line was written to metrics.jsonl: loss while training, or a validation."""

    def note(self, text: str) -> None:
        """Something worth knowing."""

    def end(self) -> None:
        """Training is over, well or not."""


class SilentProgress:
    """Says nothing: library use, and all processes but the first."""

    def begin(self, title: str, *, total_steps: int, done_steps: int) -> None:
        """Say nothing."""

    def stepped(self, step: int) -> None:
        """Say nothing."""

    def logged(self, entry: Mapping[str, Any]) -> None:
        """Say nothing."""

    def note(self, text: str) -> None:
        """Say nothing."""

    def end(self) -> None:
        """Say nothing."""


class LineProgress:
    """One plain line per logged entry, with the time left; for pipes, files and CI logs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._total = self._first = 0
        self._started = 0.0

    def begin(self, title: str, *, total_steps: int, done_steps: int) -> None:
        """Print the title and start the clock."""
        self._total, self._first, self._started = total_steps, done_steps, time.monotonic()
        self.note(title)

    def stepped(self, step: int) -> None:
        """Nothing: lines come with entries."""

    def logged(self, entry: Mapping[str, Any]) -> None:
        """Print the entry on one line."""
        step = int(entry["step"])
        if entry["event"] == "train":
            left = _clock(self._seconds_left(step))
            self.note(f"step {step}/{self._total}  {describe(entry)}  left {left}")
        elif entry["event"] == "valid":
            self.note(f"validation after step {step}  {describe(entry)}")

    def note(self, text: str) -> None:
        """Print a line as it is."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def end(self) -> None:
        """Nothing to close."""

    def _seconds_left(self, step: int) -> float | None:
        done = step - self._first
        if done < 1:
            return None
        return (time.monotonic() - self._started) / done * (self._total - step)


class RichProgress:
    """A live bar: steps, loss, tokens kept, the latest validation metric and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = RichBar(
            BarColumn(bar_width=16),
            MofNCompleteColumn(),
            TextColumn("{task.fields[loss]}"),
            TextColumn("[green]{task.fields[metric]}"),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def begin(self, title: str, *, total_steps: int, done_steps: int) -> None:
        """Print the title and show the bar."""
        self.note(title)
        self._bar.start()
        self._task = self._bar.add_task(
            "training", total=total_steps, completed=done_steps, loss="", metric=""
        )

    def stepped(self, step: int) -> None:
        """Move the bar."""
        if self._task is not None:
            self._bar.update(self._task, completed=step)

    def logged(self, entry: Mapping[str, Any]) -> None:
        """Show the figures in the bar; leave a line per validation above it."""
        if self._task is None:
            return
        if entry["event"] == "train":
            kept = f"  kept {entry['tokens_kept']:.0%}" if "tokens_kept" in entry else ""
            self._bar.update(self._task, loss=f"loss {entry['loss']:.4f}{kept}")
        elif entry["event"] == "valid":
            self._bar.update(self._task, metric=f"{entry['metric']} {percent(entry)}")
            self.note(f"validation after step {entry['step']}  {describe(entry)}")

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._console.print(text, markup=False, highlight=False)

    def end(self) -> None:
        """Take the bar down."""
        self._bar.stop()


def make_progress(console: Console) -> Progress:
    """A bar where the console is a terminal, lines elsewhere."""
    return RichProgress(console) if console.is_terminal else LineProgress(console)


def percent(entry: Mapping[str, Any]) -> str:
    """The validation metric of an entry in percent."""
    return f"{100 * entry[entry['metric']]:.2f} %"


def describe(entry: Mapping[str, Any]) -> str:
    """The figures of an entry in words."""
    parts = [f"epoch {entry['epoch']:.2f}", f"loss {entry['loss']:.4f}"]
    if "metric" in entry:
        parts.append(f"{entry['metric']} {percent(entry)}{' (best)' if entry['best'] else ''}")
    if "lr" in entry:
        parts.append(f"lr {entry['lr']:.2e}")
    if "tokens_kept" in entry:
        parts.append(f"tokens kept {100 * entry['tokens_kept']:.1f} %")
    return "  ".join(parts)


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
