"""Fine-tuning: from a run config to a run directory with a checkpoint and its figures.

`finetune` is the entry. The pieces below it each do one thing:

    inputs      data read, model built and pruned, splits encoded
    start       a run that starts from a checkpoint: what it takes over
    distillation
                a teacher's answers in the loss
    batches     which samples make a step, and with which weight
    trainer     transformers.Trainer with our batches, our evaluation and atomic saves
    callbacks   when to log, validate and save
    evaluation  predictions and metrics of a split
    kept        how many tokens were left, per layer
    rundir      the files of a run, and what survives a kill
    consumption time and energy of a run, over kills and resumptions
    record      the finished run as a result file
    progress    what the user sees meanwhile
    failures    NaN and memory errors turned into advice
    ranks       data-parallel processes

Names load when first used, so `import alpine_cli.training` costs no torch import.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alpine_cli.training.finetuning import FinetuneOutcome, finetune
    from alpine_cli.training.progress import Progress

__all__ = ["FinetuneOutcome", "Progress", "finetune"]

_HOME = {"FinetuneOutcome": "finetuning", "finetune": "finetuning", "Progress": "progress"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
