"""transformers.Trainer with our batches, our evaluation, and saves that are whole or not at all.

What is Trainer's: the loop, the optimiser and its schedule, clipping, mixed precision, DDP, the
contents of a resumable state and how it is read back. What is changed, and why:

    get_train_dataloader  batches are dealt out by `StepBatches`, so that the gradient does not
                          depend on processes or accumulation; accelerate must not shard again
    compute_loss          adds the teacher's term, applies the batch's weight; keeps the loss to be
                          judged
    training_step         the last before an optimiser step stops all processes at a loss of any
                          that is NaN or infinite
    evaluate              predictions of the task, not of padded logit arrays; picks the best
    _save_checkpoint      Trainer writes its files one by one under their final name; here they
                          appear under it all at once
    _save, _load_from_checkpoint
                          weights as a state_dict: a task model is no PreTrainedModel
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import is_torchelastic_launched
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from alpine_cli.config import TrainConfig
from alpine_cli.errors import TrainingError
from alpine_cli.models import TaskModel
from alpine_cli.pruning.apply import trace
from alpine_cli.tasks.encoding import EncodedSplit
from alpine_cli.tasks.loading import model_inputs
from alpine_cli.training.batches import LOSS_WEIGHT, StepBatches, make_train_loader
from alpine_cli.training.consumption import ConsumptionMeter
from alpine_cli.training.distillation import Teacher
from alpine_cli.training.failures import loss_not_finite
from alpine_cli.training.kept import TokensKept
from alpine_cli.training.ranks import Ranks
from alpine_cli.training.rundir import RunDirectory

__all__ = ["AlpineTrainer", "training_arguments"]

_WEIGHTS = "weights.pt"


def training_arguments(
    train: TrainConfig, device: torch.device, run: RunDirectory
) -> TrainingArguments:
    """Trainer's settings. Sets up the process group under `torchrun` (gloo on CPU)."""
    arguments = TrainingArguments(
        output_dir=str(run.states),
        use_cpu=device.type == "cpu",
        # Named only where there is a group: accelerate takes a named backend for a promise of one.
        ddp_backend="gloo" if device.type == "cpu" and is_torchelastic_launched() else None,
        ddp_find_unused_parameters=False,
        per_device_train_batch_size=train.batch_size or 1,  # for its log only: see StepBatches
        gradient_accumulation_steps=train.grad_accum,
        num_train_epochs=train.epochs,
        learning_rate=train.lr,
        lr_scheduler_type="linear",
        weight_decay=train.weight_decay,
        adam_epsilon=train.adam_epsilon,
        # The fused kernel differs from the plain one in rounding; on CPU nothing is gained by it.
        optim="adamw_torch_fused" if device.type == "cuda" else "adamw_torch",
        max_grad_norm=train.grad_norm,
        bf16=train.bf16,
        seed=train.seed,
        logging_strategy="steps",
        logging_steps=train.log_steps,
        logging_nan_inf_filter=False,
        # `ScheduleCallback` decides when: a state must be saved after the epoch's validation.
        save_strategy="no",
        eval_strategy="no",
        average_tokens_across_devices=False,
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        disable_tqdm=True,
        report_to=[],
        log_level="error",
        log_level_replica="error",
    )
    # Asking for the device also starts the process group. With several GPUs and one process,
    # Trainer would wrap the model in DataParallel, which hooks of pruning do not survive;
    # several GPUs are used through torchrun.
    if arguments.device.type == "cuda":
        arguments._n_gpu = 1
    return arguments


class AlpineTrainer(Trainer):
    """See the module's docstring.

    Args:
        model: a task model that `prune` has been called on.
        args: what `training_arguments` returned.
        train: the run's training settings.
        encoded: the training split.
        batches: who computes what.
        pad_id: the tokenizer's padding token.
        run: where the states go.
        ranks: the processes.
        kept: where the tokens left in training are counted.
        meter: of time and energy, on rank 0; its sums go into every state.
        teacher: whose answers count in the loss, too; moved to the model's device. None: labels
            alone.
        validate: called on all processes after every epoch; returns metrics and, on rank 0,
            writes what it wants to keep.
        callbacks: when to log, validate and save; who is told.
    """

    def __init__(
        self,
        model: TaskModel,
        args: TrainingArguments,
        *,
        train: TrainConfig,
        encoded: EncodedSplit,
        batches: StepBatches,
        pad_id: int,
        run: RunDirectory,
        ranks: Ranks,
        kept: TokensKept,
        meter: ConsumptionMeter | None,
        teacher: Teacher | None = None,
        validate: Callable[[int, float], dict[str, float]],
        callbacks: list[TrainerCallback],
    ) -> None:
        self._task_model = model
        self._train, self._run, self._ranks = train, run, ranks
        self._encoded, self._batches, self._pad_id = encoded, batches, pad_id
        self._kept, self._meter, self._validate = kept, meter, validate
        self._teacher = teacher
        self._unjudged: list[Tensor] = []
        if teacher is not None:
            teacher.model.to(args.device)
        steps = batches.steps_per_epoch * train.epochs
        # The first step of a warm-up has a rate of 0: it must not be the only one.
        args.warmup_steps = min(math.ceil(steps * train.warmup), max(steps - 1, 0))
        super().__init__(model=model, args=args, callbacks=callbacks)
        self.remove_callback(PrinterCallback)
        # "The loss is scaled for accumulation already": by `loss_weight`. The second name is what
        # older versions of transformers ask for.
        self.loss_is_scaled_for_ga = True
        self.model_accepts_loss_kwargs = True
        if ranks.world_size > 1:
            # Every process was seeded alike, for equal heads; dropout has to differ from here on.
            torch.manual_seed(train.seed + ranks.rank)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of this process; not handed to accelerate, which would shard them again."""
        return make_train_loader(self._encoded, self._batches, self._pad_id)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This slot's share of the loss of the whole batch."""
        weight: float = inputs[LOSS_WEIGHT]
        with trace(self._task_model) as traced:
            read = model_inputs(inputs, inputs["input_ids"].device)
            outputs = model(**read, labels=inputs["labels"])
        if weight:  # else the slot is a filler
            for call in traced.calls:
                self._kept.add(call)
        loss = outputs.loss
        if self._teacher is not None:
            loss = self._teacher.loss(loss, outputs.logits, read)
        self._unjudged.append(loss.detach())
        loss = loss * weight
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Forward and backward of one slot; after the last of a step, its losses are judged.

        Not one by one in the forward pass: a GPU would run dry while the host waits for a number
        that nobody needs before the weights change. All processes stop at the loss of one, whose
        gradient is in the mean of all by then.

        Raises:
            TrainingError: a loss is NaN or infinite on any process; the weights have not been
                changed by it.
        """
        loss: Tensor = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:
            losses, self._unjudged = torch.stack(self._unjudged), []
            worst = _NOT_FINITE[int(self._ranks.largest(_badness(losses)))]
            if worst is not None:
                epoch, step = self.state.epoch or 0.0, self.state.global_step
                raise loss_not_finite(worst, step, epoch, self._train)
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Validate; the best weights are kept by the function given at construction."""
        metrics = self._validate(self.state.global_step, self.state.epoch or 0.0)
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    # -- resumable states ------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        # Trainer appends its own "checkpoint-N" to this; see `_save_checkpoint`.
        return str(self._run.staging(self.state.global_step))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Let Trainer write a state into a staging folder, then make it count in one step."""
        if self._ranks.is_first:
            _require_finite(self._task_model)
            with self._run.new_state(self.state.global_step) as staging:
                self._ranks.barrier()  # the others may write into it now
                super()._save_checkpoint(model, trial)
                self._ranks.barrier()  # … and have done so
                for inner in staging.iterdir():
                    for file in inner.iterdir():
                        file.rename(staging / file.name)
                    inner.rmdir()
                if self._meter is not None:
                    self._meter.used().save(staging)
        else:
            self._ranks.barrier()
            super()._save_checkpoint(model, trial)
            self._ranks.barrier()
        self._ranks.barrier()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self._task_model.state_dict(), folder / _WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        path = Path(resume_from_checkpoint) / _WEIGHTS
        weights = torch.load(path, map_location="cpu", weights_only=True)
        self._task_model.load_state_dict(weights)


_NOT_FINITE = (None, -math.inf, math.inf, math.nan)
"""What a loss may have become, by `_badness`."""


def _badness(losses: Tensor) -> Tensor:
    """() int64, in whose order processes agree on one of their losses: see `_NOT_FINITE`."""
    return torch.stack((losses.isneginf(), losses.isposinf() * 2, losses.isnan() * 3)).max()


def _require_finite(model: nn.Module) -> None:
    """Refuse to save weights that are lost already: the last state on disk is better.

    Raises:
        TrainingError: a parameter holds NaN or infinity.
    """
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise TrainingError(
                f"the weights of {name} became NaN or infinite; training was stopped."
                " Lower --lr or clip gradients (--grad-norm 1.0), then start again with --force"
            )
