"""One of several processes whose last one meets a NaN: `spoilt_process.py CONFIG FOLDER`.

Leaves in FOLDER the error that ended the process, and whether its weights are finite.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

from alpine_cli.config import load_config
from alpine_cli.errors import TrainingError
from alpine_cli.models import TaskModel
from alpine_cli.training import finetune


def main() -> None:
    torch.set_num_threads(1)
    config, folder, rank = load_config(Path(sys.argv[1])), Path(sys.argv[2]), os.environ["RANK"]
    original, calls = TaskModel.forward, 0
    model: TaskModel | None = None

    def forward(self: TaskModel, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls, model
        output, model = original(self, *args, **kwargs), self
        calls += self.training
        if self.training and calls == 2 and rank == "1":
            output.loss = output.loss * torch.nan
        return output

    TaskModel.forward = forward  # type: ignore[method-assign]
    try:
        finetune(config, resume=None)
    except TrainingError as error:
        assert model is not None
        finite = all(bool(p.isfinite().all()) for p in model.parameters())
        (folder / f"ended{rank}.json").write_text(json.dumps([str(error), finite]))


main()
