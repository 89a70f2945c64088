"""What a showing is about: a checkpoint, its pruning overridden, and a split of its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpine_cli.checkpoint import Checkpoint, load_checkpoint
from alpine_cli.errors import ConfigError
from alpine_cli.files import sha256_of
from alpine_cli.measure.plan import short_path
from alpine_cli.pruning.config import PruningConfig, laid_over
from alpine_cli.tasks.data import SPLIT_NAMES, Columns, Sample, load_splits

__all__ = ["ShowSubject", "load_subject"]


@dataclass(frozen=True)
class ShowSubject:
    """A checkpoint and how it prunes here.

    Attributes:
        path: of the ckpt.pt.
        checkpoint: its contents.
        pruning: the checkpoint's own, with the command line's options laid over it.
    """

    path: Path
    checkpoint: Checkpoint
    pruning: PruningConfig

    def about(self) -> dict[str, str]:
        """What to cite, without anything about the machine."""
        from alpine_cli import __version__

        return {
            "checkpoint": short_path(self.path),
            "checkpoint SHA-256": sha256_of(self.path),
            "model": Path(self.checkpoint.model_name).name or "unknown",
            "task": self.checkpoint.task,
            "pruning": ", ".join(f"{name} {value}" for name, value in vars(self.pruning).items()),
            "alpine": __version__,
        }

    def samples(
        self, data: Path | None, split: str, limit: int | None = None
    ) -> tuple[list[Sample], str]:
        """The samples of a split, and what to call it.

        Args:
            data: directory; None takes the one the checkpoint was trained on.
            split: train, valid or test.
            limit: at most so many samples, drawn as everywhere.

        Raises:
            ConfigError: no such split name, or no data is known.
            DataError: the data is malformed or lacks the split.
        """
        if split not in SPLIT_NAMES:
            raise ConfigError(f"--split: must be {', '.join(SPLIT_NAMES)} (got {split!r})")
        root = data or self.checkpoint.run_config.get("data")
        if root is None:
            raise ConfigError(
                f"{self.path}: does not name the data it was trained on; pass --data DIR or a"
                " source file"
            )
        named = self.checkpoint.run_config.get("columns") or {}
        columns = {name: value for name, value in named.items() if value is not None}
        found = load_splits(
            self.checkpoint.task,
            root,
            columns=Columns.from_mapping(columns) if columns else None,
            limit={split: limit} if limit else None,
            splits=(split,),
        )
        return found.require(split).samples, f"{Path(root).resolve().name}, {split}"


def load_subject(
    path: Path, *, prune: Mapping[str, Any] | None = None, **overrides: str | float | None
) -> ShowSubject:
    """Open a checkpoint; `overrides` and `prune` are fields of `PruningConfig`.

    Overrides that are None were not given.

    Raises:
        CheckpointError: not a usable checkpoint.
        PruningError: a value out of range.
        ConfigError: nothing would be pruned.
    """
    checkpoint = load_checkpoint(path)
    asked = {name: value for name, value in overrides.items() if value is not None}
    # A head may read one token only; what is shown is what all layers make of all tokens.
    given = {**(prune or {}), **asked, "output": "tokens"}
    pruning = PruningConfig.from_dict(laid_over(checkpoint.pruning, given))
    if pruning.layers == "none":
        raise ConfigError(
            f"{path}: prunes no layer, so every token stays; pass --layers even, for example"
        )
    return ShowSubject(path, checkpoint, pruning)
