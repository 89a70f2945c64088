"""Learning from a teacher's answers, not from labels alone (Hinton, Vinyals & Dean 2015).

    loss = (1 − w) · cross-entropy(labels) + w · T² · KL(teacher ‖ student), both softened by T

The factor T² keeps the size of the gradient when T changes (§2 there). The teacher is a fine-tuned
checkpoint, run unpruned on the student's engine, in evaluation mode and without gradients; it draws
no random number, so that a resumed run meets the same answers. It reads the student's token ids:
tokenizer and encoding must therefore be the student's own.

Shape letters: B samples, R = B × functions per sample (rows), L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import DistillConfig, RunConfig
from alpine_cli.encoders import max_tokens
from alpine_cli.errors import ConfigError
from alpine_cli.measure.workload import build_from
from alpine_cli.models import TaskModel
from alpine_cli.pruning.apply import prune
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.tasks.encoding import EncodingSpec
from alpine_cli.tokenizer_record import describe_tokenizer
from alpine_cli.training.start import Source

__all__ = ["Teacher", "distillation_loss"]


def distillation_loss(
    label_loss: Tensor, student_BC: Tensor, teacher_BC: Tensor, *, weight: float, temperature: float
) -> Tensor:
    """The loss of a batch, a mean over its samples.

    Args:
        label_loss: (), mean cross-entropy against the labels.
        student_BC, teacher_BC: logits; gradients flow to the student's and `label_loss` alone.
        weight: of the teacher's term, 0 to 1.
        temperature: above 0.
    """
    student = (student_BC.float() / temperature).log_softmax(dim=-1)
    teacher = (teacher_BC.detach().float() / temperature).log_softmax(dim=-1)
    divergence = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return (1 - weight) * label_loss + weight * temperature**2 * divergence


@dataclass(frozen=True)
class Teacher:
    """An unpruned model that answers.

    Attributes:
        model: in evaluation mode, without gradients.
        source: the file it was read from.
        config: how much its answers count.
    """

    model: TaskModel
    source: Source
    config: DistillConfig

    @classmethod
    def of(
        cls,
        config: RunConfig,
        student: TaskModel,
        tokenizer: PreTrainedTokenizerFast,
        encoding: EncodingSpec,
    ) -> Teacher | None:
        """The teacher that a run asks for; None where it learns from labels alone.

        Raises:
            ConfigError: no teacher is named and the run starts from no checkpoint; or the teacher
                is of another task, other classes, another tokenizer or encoding, or reads less.
            CheckpointError: the file is missing or damaged.
        """
        distill = config.train.distill
        if distill is None:
            return None
        named = distill.teacher or config.model
        if distill.teacher is None and not Path(config.model).is_file():
            raise ConfigError(
                "train.distill.teacher: is required, because the run does not start from a ckpt.pt"
                f" but from {config.model}; give --distill-from FILE, or start with --from FILE"
            )
        checkpoint = load_checkpoint(named)
        where = f"train.distill.teacher: {named}"
        if checkpoint.task != student.task.name:
            raise ConfigError(f"{where} is for {checkpoint.task}, the run for {student.task.name}")
        if checkpoint.tokenizer != describe_tokenizer(tokenizer):
            raise ConfigError(
                f"{where} has another tokenizer than {config.model}, so that it cannot read the"
                " same tokens; choose a teacher that was made of the same model"
            )
        theirs = checkpoint.encoding_spec
        for name in ("mode_prefix", "collapse_whitespace", "data_flow", "data_flow_length"):
            if getattr(theirs, name) != getattr(encoding, name):
                raise ConfigError(
                    f"{where} was trained with {name} {getattr(theirs, name)}, the run has"
                    f" {getattr(encoding, name)}"
                )
        model, _ = build_from(checkpoint, named)
        if (reads := max_tokens(model.encoder)) < encoding.max_length:
            raise ConfigError(
                f"{where} reads at most {reads} tokens, train.max_length is {encoding.max_length}"
            )
        prune(model, PruningConfig(layers="none", engine=config.prune.engine))
        model.requires_grad_(False)
        return cls(model, Source.of(named), distill)

    def loss(self, label_loss: Tensor, student_BC: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
        """The loss of a batch: labels and the teacher's answer; see `distillation_loss`.

        Args:
            label_loss, student_BC: of the student.
            inputs: what the student read; see `loading.model_inputs`.
        """
        with torch.no_grad():
            teacher_BC = self.model(**inputs).logits
        return distillation_loss(
            label_loss,
            student_BC,
            teacher_BC,
            weight=self.config.weight,
            temperature=self.config.temperature,
        )
