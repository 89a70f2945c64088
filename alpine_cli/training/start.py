"""Runs that start from a checkpoint: what they take over from it, and how it is told afterwards.

`alpine finetune --from ckpt.pt` lays options over a fine-tuned checkpoint: a short recovery after
training-free pruning, or more of the same. Weights, head and tokenizer are the checkpoint's; its
task, encoding, pruning and data are what a run has where nothing else is said. A config that names
a ckpt.pt as its `model` starts from it, too, but may give it another task, and then a new head.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.config import RunConfig
from alpine_cli.errors import ConfigError
from alpine_cli.files import sha256_of
from alpine_cli.pruning.config import PruningConfig

__all__ = ["Source", "check_continues", "fields_of"]


@dataclass(frozen=True)
class Source:
    """A checkpoint that a run rests on.

    Attributes:
        path: of the file; for this run only, it goes into no result.
        sha256: of its bytes.
    """

    path: Path
    sha256: str

    @classmethod
    def of(cls, path: Path | str) -> Source:
        """The file as it is now."""
        return cls(Path(path), sha256_of(Path(path)))

    def told(self) -> dict[str, str]:
        """For checkpoints and results: folder and file name, never an absolute path."""
        return {
            "checkpoint": f"{self.path.resolve().parent.name}/{self.path.name}",
            "sha256": self.sha256,
        }


def fields_of(path: Path) -> dict[str, Any]:
    """Config fields by dotted name that a checkpoint answers for, where nobody else does.

    Raises:
        CheckpointError: missing or damaged.
        PruningError: its pruning is none.
    """
    checkpoint = load_checkpoint(path)
    encoding = checkpoint.encoding_spec
    run, pruning = checkpoint.run_config, PruningConfig.from_dict(checkpoint.pruning)
    return {
        "task": checkpoint.task,
        "head": checkpoint.head,
        "mode_prefix": encoding.mode_prefix,
        "data_flow": encoding.data_flow,
        "data_flow_length": encoding.data_flow_length,
        "train.max_length": encoding.max_length,
        **{f"prune.{name}": value for name, value in pruning.to_dict().items()},
        **({"data": run["data"]} if run.get("data") else {}),
        **{
            f"columns.{name}": value
            for name, value in (run.get("columns") or {}).items()
            if value is not None
        },
    }


def check_continues(config: RunConfig, path: Path, beneath: dict[str, Any]) -> None:
    """Stop where a run that goes on from a checkpoint would do something else with it.

    Args:
        config: of the run.
        path: the checkpoint.
        beneath: what `fields_of` said of it.

    Raises:
        ConfigError: another task, or another head.
    """
    for name, value in (("task", config.task), ("head", config.head)):
        if value != beneath[name]:
            raise ConfigError(
                f"--from {path}: its {name} is {beneath[name]}, the run's {value}; leave {name}"
                " out, or pass the file as --model to put a new head on its encoder"
            )
