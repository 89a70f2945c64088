"""The files of a run, and what survives a kill at any instant.

    runs/<name>/
        config.yaml               the resolved config; written first, never changed
        ckpt.pt                   best weights by the validation metric, self-contained
        metrics.jsonl             one line per logged step ("train"), validation ("valid"), "end"
        predictions-valid.jsonl   id, label, prediction, score of the best weights
        predictions-test.jsonl
        training.json             time, energy and curves of the finished run: a result file
        state/step-00000200/      everything needed to go on from step 200; only the newest is kept

Single files are replaced whole (`alpine_cli.files`). A state is many files, so it is written into
a folder with a dot in front, flushed to the disk, and then renamed: a folder called `step-…` is
complete by construction. Lines of metrics.jsonl are appended; those younger than the state that a
run resumes from, and a line cut short by a kill, are dropped when it resumes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpine_cli.config import RunConfig, load_config
from alpine_cli.errors import ConfigError, OutputExistsError
from alpine_cli.files import refuse_existing, write_atomic
from alpine_cli.measure.break_even import TRAINING_RECORD

__all__ = ["RunDirectory"]

_STEP = "step-"
_STAGING = ".writing-"
# what `files.atomic_path` calls a file of ours until it is whole
_TEMPORARY = re.compile(
    r"\.[0-9a-f]{12}\.(config\.yaml|ckpt\.pt|metrics\.jsonl|predictions-\w+\.jsonl|training\.json)"
)


class RunDirectory:
    """Names and life cycle of a run's files. Only rank 0 may call what writes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.yaml"
        self.checkpoint = path / "ckpt.pt"
        self.metrics = path / "metrics.jsonl"
        self.record = path / TRAINING_RECORD
        self.states = path / "state"

    def predictions(self, split: str) -> Path:
        """File of the predictions on a split."""
        return self.path / f"predictions-{split}.jsonl"

    def check_free(self, force: bool) -> None:
        """Stop before any work if the directory may not be used.

        Raises:
            OutputExistsError: it exists and `force` is false; or with `force`, it holds something
                but is no run directory: those are never cleared.
        """
        try:
            refuse_existing(self.path, force)
        except OutputExistsError as error:
            if not self.config.exists():
                raise
            raise OutputExistsError(
                f"{error}; an interrupted run goes on with --resume {self.path}"
            ) from error
        if not self.path.exists():
            return
        if not self.path.is_dir() or (any(self.path.iterdir()) and not self.config.exists()):
            raise OutputExistsError(
                f"{self.path}: not a run directory (it has no config.yaml), so --force does not"
                " clear it; choose another --output"
            )

    def start(self, config: RunConfig) -> None:
        """Clear an earlier run's files (those named above; nothing else) and save the config.

        metrics.jsonl goes before the states: without its opening line nothing resumes from them.
        """
        files = (self.metrics, self.checkpoint, self.record)
        for file in (*files, *self.path.glob("predictions-*.jsonl")):
            file.unlink(missing_ok=True)
        if self.states.exists():
            shutil.rmtree(self.states)
        write_atomic(self.config, config.to_yaml())

    @classmethod
    def open(cls, path: Path) -> tuple[RunDirectory, RunConfig]:
        """An existing run and its config.

        Raises:
            ConfigError: there is no such directory, or it holds no valid config.yaml.
        """
        run = cls(path)
        if not path.is_dir():
            raise ConfigError(f"--resume {path}: no such directory")
        if not run.config.is_file():
            raise ConfigError(f"--resume {path}: not a run directory (it has no config.yaml)")
        return run, load_config(run.config)

    # -- metrics ---------------------------------------------------------------------------

    def log(self, entry: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    def entries(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl, without one that a kill cut short."""
        if not self.metrics.exists():
            return []
        entries = []
        for line in self.metrics.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return entries

    def rewind_metrics(self, step: int) -> list[dict[str, Any]]:
        """Drop the lines younger than optimiser step `step`; return those that stay."""
        entries = [e for e in self.entries() if e["step"] <= step and e["event"] != "end"]
        write_atomic(
            self.metrics, "".join(json.dumps(e, ensure_ascii=False) + "\n" for e in entries)
        )
        return entries

    # -- states ----------------------------------------------------------------------------

    def staging(self, step: int) -> Path:
        """Where the state of `step` is put together before it counts."""
        return self.states / f"{_STAGING}{step:08d}"

    @contextmanager
    def new_state(self, step: int) -> Iterator[Path]:
        """Lend an empty folder that becomes the state of `step` when the block ends well."""
        staging, final = self.staging(step), self.states / f"{_STEP}{step:08d}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        _flush_tree(staging)
        if not final.exists():
            os.rename(staging, final)
        self.tidy()

    def tidy(self) -> None:
        """Remove what a kill left behind: older and half-written states, temporary files."""
        latest = self.latest_state()
        for entry in list(self.states.iterdir()) if self.states.exists() else ():
            # A kill in here can leave half an older state; the newest has the highest number, so
            # that half is never picked up.
            if latest is None or entry != latest[1]:
                shutil.rmtree(entry)
        for entry in list(self.path.iterdir()):
            if _TEMPORARY.fullmatch(entry.name):
                entry.unlink()

    def latest_state(self) -> tuple[int, Path] | None:
        """Step and folder of the newest complete state; None before the first."""
        steps = sorted(self.states.glob(f"{_STEP}*"))
        return (int(steps[-1].name.removeprefix(_STEP)), steps[-1]) if steps else None


def _flush_tree(folder: Path) -> None:
    # A rename can reach the disk before the contents do; after a power cut that would be a
    # complete name with empty files.
    for file in folder.rglob("*"):
        if file.is_file():
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
