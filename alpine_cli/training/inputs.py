"""What a run needs before its first step: data read, model built and pruned, splits encoded.

Everything that can be wrong with the input is found here, before a file is written; so the test
split is read and encoded with the others, though no model sees it before the run's end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import RunConfig
from alpine_cli.errors import ConfigError
from alpine_cli.models import TaskModel, build_model
from alpine_cli.pruning.apply import prune
from alpine_cli.tasks.data import load_splits
from alpine_cli.tasks.encoding import EncodedSplit, EncodingSpec, encode
from alpine_cli.tasks.registry import TaskSpec, resolve_task
from alpine_cli.training.distillation import Teacher
from alpine_cli.training.start import Source

__all__ = ["TrainingInput"]


@dataclass(frozen=True)
class TrainingInput:
    """The input of a run.

    Attributes:
        task: the task.
        model: in training mode, pruned as the config says ("none" included), on the CPU.
        tokenizer: the model's.
        encoding: how text became tokens.
        splits: the encoded splits: "train", "valid" and, where the data has one, "test".
        model_name: what the encoder is called, also after several runs on end.
        started_from: the checkpoint that `config.model` names; None if it names none.
        teacher: whose answers it learns from, too; on the CPU. None for labels alone.
    """

    task: TaskSpec
    model: TaskModel
    tokenizer: PreTrainedTokenizerFast
    encoding: EncodingSpec
    splits: dict[str, EncodedSplit]
    model_name: str
    started_from: Source | None = None
    teacher: Teacher | None = None

    @classmethod
    def of(cls, config: RunConfig) -> TrainingInput:
        """Read, build and encode what `config` names.

        Raises:
            ConfigError: no data is named, fields do not fit the model, or the teacher does not.
            CheckpointError: the checkpoint to start from, or the teacher's, is missing or damaged.
            DataError: data missing, malformed, without training or validation samples, or a
                split is empty.
            ModelError: unknown model.
            PruningError: the layers asked for do not exist, or the model cannot be pruned.
        """
        if config.data is None:
            raise ConfigError("data: is required; give --data DIR or the field 'data' of a config")
        task = resolve_task(config.task)
        data = load_splits(
            task,
            config.data,
            columns=config.columns.to_columns(),
            limit=config.limit.to_limits(),
        )
        samples = {name: data.require(name).samples for name in ("train", "valid")}
        if data.test is not None:  # it may be left out; an empty file is a mistake
            samples["test"] = data.require("test").samples
        model, tokenizer, encoding = build_model(
            config.model,
            task,
            config.head,
            seed=config.train.seed,
            max_length=config.train.max_length,
            mode_prefix=config.mode_prefix,
            data_flow=config.data_flow,
            data_flow_length=config.data_flow_length,
        )
        teacher = Teacher.of(config, model, tokenizer, encoding)
        prune(model, config.prune)
        if config.train.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        splits = {name: encode(part, tokenizer, encoding) for name, part in samples.items()}
        started_from, model_name = None, config.model
        if Path(config.model).is_file():
            started_from = Source.of(config.model)
            model_name = load_checkpoint(config.model).model_name or config.model
        return cls(task, model, tokenizer, encoding, splits, model_name, started_from, teacher)

    @property
    def pad_id(self) -> int:
        """The tokenizer's padding token."""
        return int(self.tokenizer.pad_token_id)

    def provenance(self) -> dict[str, Any]:
        """The checkpoints that the run rests on; empty where there are none."""
        found: dict[str, Any] = {}
        if self.started_from is not None:
            found["started_from"] = self.started_from.told()
        if self.teacher is not None:
            settings = self.teacher.config.model_dump(include={"weight", "temperature"})
            found["distilled_from"] = {**self.teacher.source.told(), **settings}
        return found

    def digest(self) -> str:
        """Of the training split's tokens and labels: a resumed run must meet the same ones."""
        sha = hashlib.sha256()
        train = self.splits["train"]
        for rows, label in zip(train.rows, train.labels, strict=True):
            for row in rows:
                sha.update(np.array([len(row), *row, label], dtype=np.int64).tobytes())
        for graph in (graph for graphs in train.graphs or () for graph in graphs):
            sha.update(repr(graph).encode("ascii"))
        return sha.hexdigest()[:16]
