"""What a run needs before its first step: data read, model built and pruned, splits encoded.

Everything that can be wrong with the input is found here, before a file is written; so the test
split is read and encoded with the others, though no model sees it before the run's end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerFast

from alpine_cli.config import RunConfig
from alpine_cli.errors import ConfigError
from alpine_cli.models import TaskModel, build_model
from alpine_cli.pruning.apply import prune
from alpine_cli.tasks.data import load_splits
from alpine_cli.tasks.encoding import EncodedSplit, EncodingSpec, encode
from alpine_cli.tasks.registry import TaskSpec, resolve_task

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
    """

    task: TaskSpec
    model: TaskModel
    tokenizer: PreTrainedTokenizerFast
    encoding: EncodingSpec
    splits: dict[str, EncodedSplit]

    @classmethod
    def of(cls, config: RunConfig) -> TrainingInput:
        """Read, build and encode what `config` names.

        Raises:
            ConfigError: no data is named, or fields do not fit the model.
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
        prune(model, config.prune)
        if config.train.gradient_checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        splits = {name: encode(part, tokenizer, encoding) for name, part in samples.items()}
        return cls(task, model, tokenizer, encoding, splits)

    @property
    def pad_id(self) -> int:
        """The tokenizer's padding token."""
        return int(self.tokenizer.pad_token_id)

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
