"""Every error that alpine raises on purpose, drawn as a tree.

    AlpineError                 something failed                              exit code 1
    ├── MeasurementError        a measure could not be taken
    ├── TrainingError           training had to stop (NaN loss, out of memory)
    └── BadInput                the caller must change something             exit code 2
        ├── ConfigError         a config file, option or --set override
        ├── DataError           a data file; names the file and the line
        ├── CheckpointError     a checkpoint: truncated, foreign, of another version
        ├── ModelError          an unknown or unreachable model, a device that is absent
        └── OutputError         an output cannot be written: no permission, no such device
            └── OutputExistsError   it is in the way and --force was not given

A message says what is wrong, where, and what to do. `alpine_cli.pruning` stays free of this
module: its `PruningError` is a ValueError, which the command line treats as bad input.
"""

from __future__ import annotations

__all__ = [
    "AlpineError",
    "BadInput",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "MeasurementError",
    "ModelError",
    "OutputError",
    "OutputExistsError",
    "TrainingError",
]


class AlpineError(Exception):
    """Root of the tree: work failed. `exit_code` is what the command line exits with."""

    exit_code = 1


class MeasurementError(AlpineError):
    """A measure could not be taken, or its worker process died."""


class TrainingError(AlpineError):
    """Training had to stop: the loss is NaN, memory ran out, a worker died."""


class BadInput(AlpineError):
    """What the caller gave is wrong; nothing was written."""

    exit_code = 2


class ConfigError(BadInput):
    """A config file, an option or a --set override is invalid. Lists every invalid field."""


class DataError(BadInput):
    """A data file is missing, malformed or inconsistent. Names the file and the line."""


class CheckpointError(BadInput):
    """A checkpoint is truncated, of another format or version, or refused as unsafe."""


class ModelError(BadInput):
    """A model is unknown, unreachable or unsupported, or the device asked for is absent."""


class OutputError(BadInput):
    """An output cannot be written where it was asked for."""


class OutputExistsError(OutputError):
    """An output file or directory already exists and --force was not given."""
