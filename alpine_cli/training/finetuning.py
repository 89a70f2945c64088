"""`finetune`: a config in, a run directory out.

The order matters: everything that can be wrong with the input is found before the first file is
written; the best weights are chosen on the validation split alone; the test split, if there is
one, is checked and encoded with the others, but no model sees it before the very end, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.distributed import is_torchelastic_launched

from alpine_cli.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from alpine_cli.config import RunConfig
from alpine_cli.devices import resolve_device
from alpine_cli.errors import CheckpointError, ConfigError, DataError
from alpine_cli.files import write_atomic
from alpine_cli.measure.environment import describe_environment
from alpine_cli.training.batches import StepBatches
from alpine_cli.training.callbacks import Clock, LogCallback, ScheduleCallback
from alpine_cli.training.consumption import meter_run
from alpine_cli.training.evaluation import Evaluation, evaluate_split
from alpine_cli.training.failures import advise_on_memory
from alpine_cli.training.inputs import TrainingInput
from alpine_cli.training.kept import TokensKept
from alpine_cli.training.progress import Progress, SilentProgress
from alpine_cli.training.ranks import Ranks
from alpine_cli.training.record import training_result
from alpine_cli.training.rundir import RunDirectory
from alpine_cli.training.trainer import AlpineTrainer, training_arguments

__all__ = ["FinetuneOutcome", "finetune"]


@dataclass(frozen=True)
class FinetuneOutcome:
    """What a run left behind.

    Attributes:
        run_dir: the run directory.
        checkpoint: the best weights, `ckpt.pt`.
        metrics: the "end" line of metrics.jsonl: figures of the best weights on "valid" and, if
            there is a test split, "test"; best_epoch, steps, wall_s.
    """

    run_dir: Path
    checkpoint: Path
    metrics: dict[str, Any]


def finetune(
    config: RunConfig | None = None,
    *,
    resume: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> FinetuneOutcome:
    """Fine-tune a model as `config` says, or go on with the run in `resume`.

    Killed at any instant and resumed, a run ends with the weights of an uninterrupted one: bit
    for bit on the CPU of one machine with the same number of threads. Under `torchrun` all
    processes call this; only rank 0 writes.

    Args:
        config: the run; not together with `resume`.
        resume: a run directory whose run was interrupted. A finished run is returned as it is.
        force: replace an earlier run in the output directory.
        progress: told what happens; None for silence.

    Raises:
        ConfigError: fields that contradict each other, or `resume` is no run directory.
        ModelError: unknown model, or CUDA asked for and absent.
        DataError: data missing, malformed, or without training or validation samples.
        PruningError: the layers asked for do not exist, or the model cannot be pruned.
        OutputExistsError: the output directory is taken. Nothing has been written.
        TrainingError: the loss became NaN or infinite, or memory ran out.
    """
    if (config is None) == (resume is None):
        raise ValueError("give either config or resume")
    if resume is not None:
        run, config = RunDirectory.open(resume)
        finished = next((e for e in run.entries() if e["event"] == "end"), None)
        if finished is not None:
            return FinetuneOutcome(run.path, run.checkpoint, finished)
    else:
        assert config is not None
        config = _with_absolute_paths(config)
        run = RunDirectory(config.run_dir())
    return _Finetuning(config, run, progress or SilentProgress()).run_to_end(
        resuming=resume is not None, force=force
    )


class _Finetuning:
    """One run in progress: what all its phases share."""

    def __init__(self, config: RunConfig, run: RunDirectory, progress: Progress) -> None:
        self.config, self.run, self.train = config, run, config.train
        self.device = resolve_device(config.device)
        self.progress = progress

    def run_to_end(self, *, resuming: bool, force: bool) -> FinetuneOutcome:
        """All phases, in the order that the module's docstring explains."""
        if not resuming and not is_torchelastic_launched():
            self.run.check_free(force)  # before slow work; decided again below
        self._refuse_to_overwrite_sources()
        self.input = TrainingInput.of(self.config)
        self.model = self.input.model
        transformers.set_seed(self.train.seed)
        self.arguments = training_arguments(self.train, self.device, self.run)
        self.ranks = Ranks.current()
        if not self.ranks.is_first:
            self.progress = SilentProgress()
        self.batches = self._plan_batches()
        self.ranks.first_does(
            self._check_resumable if resuming else partial(self._claim_directory, force)
        )
        try:
            self._train_all_epochs(resuming)
            return self._finish()
        except KeyboardInterrupt:
            self.progress.note(f"interrupted; go on with --resume {self.run.path}")
            raise

    def _refuse_to_overwrite_sources(self) -> None:
        """A new run clears its directory: not the checkpoint that it starts or learns from.

        Raises:
            ConfigError: the run's own ckpt.pt is one of them.
        """
        distill, own = self.train.distill, self.run.checkpoint.resolve()
        for path in (self.config.model, distill.teacher if distill else None):
            if path is not None and Path(path).resolve() == own:
                raise ConfigError(
                    f"--output {self.run.path}: holds {path}, which the run starts or learns from;"
                    " choose another directory"
                )

    def _plan_batches(self) -> StepBatches:
        train, encoded = self.train, self.input.splits["train"]
        size = train.batch_size
        if size is not None and size < train.grad_accum * self.ranks.world_size:
            raise ConfigError(
                f"train.batch_size ({size}) must be at least train.grad_accum"
                f" ({train.grad_accum}) × processes ({self.ranks.world_size}): it is the number of"
                " samples per optimiser step over all of them"
            )
        return StepBatches(
            [(encoded.longest_row(i), encoded.length(i)) for i in range(len(encoded))],
            batch_size=size,
            tokens_per_batch=train.tokens_per_batch,
            functions=encoded.functions,
            grad_accum=train.grad_accum,
            rank=self.ranks.rank,
            world_size=self.ranks.world_size,
            seed=train.seed,
            group_by_length=train.group_by_length,
        )

    def _claim_directory(self, force: bool) -> None:
        """Make the directory this run's, and write the opening line of its metrics."""
        self.run.check_free(force)
        self.run.start(self.config)
        self.run.log(self._opening())

    def _opening(self) -> dict[str, Any]:
        return {
            "event": "start",
            "step": 0,
            "epoch": 0.0,
            "train_samples": len(self.input.splits["train"]),
            "train_digest": self.input.digest(),
            **self.input.provenance(),
            "steps": self.total_steps,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "processes": self.ranks.world_size,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "wall_s": 0.0,
        }

    def _check_resumable(self) -> None:
        """Compare with the opening line; a run killed before it was written begins anew.

        Raises:
            ConfigError: the run was begun with another number of processes.
            DataError: the training data are not those the run began with.
            CheckpointError: a checkpoint it rests on is not the file it began with.
        """
        entries = self.run.entries()
        if not entries:
            self.run.start(self.config)
            self.run.log(self._opening())
            return
        began = entries[0]
        if began["processes"] != self.ranks.world_size:
            raise ConfigError(
                f"{self.run.path}: begun with {began['processes']} process(es), resumed with"
                f" {self.ranks.world_size}; resume it with torchrun --nproc-per-node"
                f" {began['processes']}"
            )
        if began["train_digest"] != self.input.digest():
            raise DataError(
                f"{self.config.data}: not the training data (or tokenizer) that {self.run.path}"
                " was begun with; restore them, or begin a new run"
            )

        ours = self.input.provenance()
        for key, name in (("started_from", self.config.model), ("distilled_from", "the teacher")):
            if began.get(key, ours.get(key)) != ours.get(key):
                raise CheckpointError(
                    f"{self.run.path}: {name} is not the file that the run was begun with (sha256"
                    f" {began[key]['sha256'][:12]}…); restore it, or begin a new run"
                )

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.batches.steps_per_epoch * self.train.epochs

    # -- training --------------------------------------------------------------------------

    def _train_all_epochs(self, resuming: bool) -> None:
        self.ranks.first_does(self.run.tidy)
        state = self.ranks.first_does(self.run.latest_state)
        done_steps, folder = state if state is not None else (0, None)
        reached_s = self.ranks.first_does(lambda: self.run.entries()[-1]["wall_s"])
        entries = self.ranks.first_does(partial(self.run.rewind_metrics, done_steps))
        # Sums are split by thread, so their last bits depend on how many there are.
        torch.set_num_threads(entries[0]["threads"])
        saved_s = entries[-1]["wall_s"]
        self.best = max((_rank_of(e) for e in entries if e["event"] == "valid"), default=None)
        kept = TokensKept()
        if self.ranks.is_first:
            self.environment = describe_environment(threads=torch.get_num_threads())
        meter = meter_run(
            self.ranks,
            self.arguments.device,
            state=folder,
            saved_s=saved_s,
            lost_s=reached_s - saved_s if resuming else None,
        )
        self.clock = Clock(saved_s)  # after the meters, whose opening takes a moment
        trainer = AlpineTrainer(
            self.model,
            self.arguments,
            train=self.train,
            encoded=self.input.splits["train"],
            batches=self.batches,
            pad_id=self.input.pad_id,
            run=self.run,
            ranks=self.ranks,
            kept=kept,
            meter=meter,
            teacher=self.input.teacher,
            validate=self._validate,
            callbacks=[
                ScheduleCallback(self.batches, self.train.save_steps),
                LogCallback(self.run, self.ranks, self.progress, kept, self.clock),
            ],
        )
        self.progress.begin(self._title(), total_steps=self.total_steps, done_steps=done_steps)
        try:
            with advise_on_memory(self.train, self.device, evaluating=False):
                trainer.train(resume_from_checkpoint=str(folder) if folder else None)
        finally:
            self.progress.end()
            self.used = meter.close() if meter is not None else None

    def _title(self) -> str:
        config, samples = self.config, len(self.input.splits["train"])
        cut = self.input.splits["train"].truncated
        return (
            f"{config.model} on {config.task}, pruning layers {config.prune.layers}:"
            f" {samples} samples ({cut} functions cut to {self.train.max_length} tokens),"
            f" {self.train.epochs} epoch{'s' * (self.train.epochs > 1)} on {self.device}"
            + (f", {self.ranks.world_size} processes" if self.ranks.world_size > 1 else "")
            + (
                f"\nmind: no layer prunes, so {', '.join(idle)} change nothing; --layers even, for"
                " example, lets layers prune"
                if (idle := config.idle_pruning())
                else ""
            )
            + f"\n{self.model.origin}"
            + (f"; teacher: {teacher.source.path}" if (teacher := self.input.teacher) else "")
        )

    def _evaluate(self, split: str) -> Evaluation:
        with advise_on_memory(self.train, self.device, evaluating=True):
            return evaluate_split(
                self.model,
                self.input.splits[split],
                batch_size=self.train.eval_batch_limit,
                pad_id=self.input.pad_id,
                bf16=self.train.bf16,
                ranks=self.ranks,
            )

    def _validate(self, step: int, epoch: float) -> dict[str, float]:
        """After every epoch: figures on the validation split; rank 0 keeps the best weights."""
        started = self.clock.seconds()
        evaluation = self._evaluate("valid")
        metrics = evaluation.metrics()
        quality = _rank_of({"metric": self.input.task.metric, **metrics})
        is_best = self.best is None or quality > self.best
        if is_best:
            self.best = quality
        entry = {
            "event": "valid",
            "step": step,
            "epoch": round(epoch, 6),
            "metric": self.input.task.metric,
            "best": is_best,
            **metrics,
            "layer_lengths": evaluation.kept.per_layer(),
            "eval_s": round(self.clock.seconds() - started, 3),
            "wall_s": round(self.clock.seconds(), 3),
        }
        if self.ranks.is_first:
            if is_best:
                self._save_best({"valid": metrics, "best_epoch": entry["epoch"]})
            self.run.log(entry)
            self.progress.logged(entry)
        return metrics

    def _save_best(self, metrics: dict[str, Any]) -> None:
        checkpoint = Checkpoint.from_model(
            self.model,
            self.input.tokenizer,
            self.input.encoding,
            pruning=self.config.prune.to_dict(),
            run_config=self.config.to_dict(),
            metrics=metrics,
            model_name=self.input.model_name,
            provenance=self.input.provenance(),
        )
        save_checkpoint(checkpoint, self.run.checkpoint)

    # -- after training --------------------------------------------------------------------

    def _finish(self) -> FinetuneOutcome:
        """Predictions of the best weights on valid and test; the closing line of the metrics."""
        trained_s = self.clock.seconds()
        self.ranks.barrier()
        best = load_checkpoint(self.run.checkpoint)
        self.model.load_state_dict(best.weights)
        figures: dict[str, Any] = {}
        for name in ("valid", "test"):
            if name in self.input.splits:
                evaluation = self._evaluate(name)
                figures[name] = evaluation.metrics()
                if self.ranks.is_first:
                    write_atomic(self.run.predictions(name), evaluation.to_jsonl())
        end = {
            "event": "end",
            "step": self.total_steps,
            "epoch": float(self.train.epochs),
            "metric": self.input.task.metric,
            "best_epoch": best.metrics["best_epoch"],
            **figures,
            "train_s": round(trained_s, 3),
            "wall_s": round(self.clock.seconds(), 3),
        }
        if self.ranks.is_first:
            best.metrics = {**best.metrics, **figures}
            save_checkpoint(best, self.run.checkpoint)
            self._write_record()
            self.run.log(end)
        self.ranks.barrier()
        return FinetuneOutcome(self.run.path, self.run.checkpoint, end)

    def _write_record(self) -> None:
        """Leave the run's result file; a run that succeeded does not fail for want of it."""
        assert self.used is not None
        try:
            result = training_result(
                self.config,
                self.input,
                checkpoint=self.run.checkpoint,
                entries=self.run.entries(),
                used=self.used,
                environment=self.environment,
                device=str(self.arguments.device),
                processes=self.ranks.world_size,
            )
            write_atomic(self.run.record, result.model_dump_json(indent=1) + "\n")
        except Exception as error:
            self.progress.note(f"{self.run.record} was not written: {error}")


def _with_absolute_paths(config: RunConfig) -> RunConfig:
    """Local directories by absolute path: a run may be resumed from another working directory."""
    changes: dict[str, Any] = {"output": str(config.run_dir())}
    if config.data is not None and Path(config.data).exists():
        changes["data"] = str(Path(config.data).resolve())
    if Path(config.model).exists():
        changes["model"] = str(Path(config.model).resolve())
    distill = config.train.distill
    if distill is not None and distill.teacher is not None:
        named = distill.model_copy(update={"teacher": str(Path(distill.teacher).resolve())})
        changes["train"] = config.train.model_copy(update={"distill": named})
    return config.model_copy(update=changes)


def _rank_of(entry: dict[str, Any]) -> tuple[float, float]:
    """What makes one validation better than another: the metric; between equals the lower loss."""
    return entry[entry["metric"]], -entry["loss"]
