"""What a run is made of, and how it is read.

    config = load_config(Path("configs/alpine/codebert-defect-detection-even.yaml"),
                         ["train.lr=1e-5"], {"data": "data/devign"})

Later sources win: defaults < YAML file < `--set` < options. Every invalid field is reported at
once, with its source.

    schema      the fields, their defaults, ranges and meaning
    pruning     the `prune` section
    source      YAML files and `--set`, with the place each value came from
    loading     merges and validates
    errors      what is wrong, where, and what it may be
    reference   descriptions for people, and the option of each field

Free of torch, so that a bad config is answered at once.
"""

from __future__ import annotations

from alpine_cli.config.loading import load_config
from alpine_cli.config.reference import describe_fields, option_flag
from alpine_cli.config.schema import (
    ColumnsConfig,
    DistillConfig,
    LimitConfig,
    RunConfig,
    TrainConfig,
)

__all__ = [
    "ColumnsConfig",
    "DistillConfig",
    "LimitConfig",
    "RunConfig",
    "TrainConfig",
    "describe_fields",
    "load_config",
    "option_flag",
]
