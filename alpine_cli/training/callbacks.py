"""When to log, validate and save; and who is told of it."""

from __future__ import annotations

import math
import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from alpine_cli.training.batches import StepBatches
from alpine_cli.training.kept import TokensKept
from alpine_cli.training.progress import Progress
from alpine_cli.training.ranks import Ranks
from alpine_cli.training.rundir import RunDirectory

__all__ = ["Clock", "LogCallback", "ScheduleCallback"]


class Clock:
    """Seconds spent on a run, over all its processes that were killed and resumed."""

    def __init__(self, earlier_s: float = 0.0) -> None:
        self._started = time.monotonic() - earlier_s

    def seconds(self) -> float:
        """Seconds so far."""
        return time.monotonic() - self._started


class ScheduleCallback(TrainerCallback):
    """Sets the epoch of the batches; asks for validation, logging and saving at the right places.

    At the end of an epoch the state is saved after its validation, never before: a run that is
    resumed from a state saved before it would never make that validation up.
    A state also begins a new window of the logged mean loss, so that a resumed run logs what an
    uninterrupted one does.
    """

    def __init__(self, batches: StepBatches, save_steps: int) -> None:
        self._batches, self._save_steps = batches, save_steps

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Choose the epoch's order; on resuming Trainer then skips the steps that are done."""
        self._batches.set_epoch(state.global_step // self._batches.steps_per_epoch)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Save every `save_steps` steps, except at the end of an epoch."""
        ends_epoch = state.global_step % self._batches.steps_per_epoch == 0
        if state.global_step % self._save_steps == 0 and not ends_epoch:
            control.should_log = control.should_save = True
        return control

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Log, validate, save: Trainer does them in this order."""
        control.should_log = control.should_evaluate = control.should_save = True
        return control


class LogCallback(TrainerCallback):
    """Writes training lines to metrics.jsonl and tells the progress display (on rank 0).

    `kept` is where the trainer counts tokens; each line takes what was counted since the last.
    """

    def __init__(
        self,
        run: RunDirectory,
        ranks: Ranks,
        progress: Progress,
        kept: TokensKept,
        clock: Clock,
    ) -> None:
        self._run, self._ranks, self._progress = run, ranks, progress
        self._kept, self._clock = kept, clock

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Move the bar."""
        self._progress.stepped(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write one line; Trainer's closing summary (which has no "loss") is left out."""
        if not logs or "loss" not in logs:
            return
        kept = TokensKept()
        for part in self._ranks.gather(self._kept.take()):
            kept.merge(part)
        entry = {
            "event": "train",
            "step": state.global_step,
            "epoch": round(state.epoch or 0.0, 6),
            "loss": logs["loss"],
            "lr": logs["learning_rate"],
            "grad_norm": _finite_or_none(logs.get("grad_norm")),
            **kept.summary(),
            "wall_s": round(self._clock.seconds(), 3),
        }
        if self._ranks.is_first:
            self._run.log(entry)
            self._progress.logged(entry)


def _finite_or_none(value: float | None) -> float | None:
    # JSON has no NaN; a norm that overflowed is absent, not a number
    return value if value is not None and math.isfinite(value) else None
