"""One process of a data-parallel run, started by torchrun: `rank_process.py CONFIG FOLDER`.

Leaves in FOLDER the process's final weights, before the best ones are loaded, the names of the
files it opened for writing below the run directory, and what processes talked over.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch

from alpine_cli.config import load_config
from alpine_cli.training import finetune, finetuning


def main() -> None:
    torch.set_num_threads(1)
    config, folder, rank = load_config(Path(sys.argv[1])), Path(sys.argv[2]), os.environ["RANK"]
    run = str(config.run_dir())
    written: set[str] = set()

    def note_writes(event: str, details: tuple[object, ...]) -> None:
        if event != "open":
            return
        path, _, flags = details
        writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)
        if writes and isinstance(path, str | os.PathLike) and os.fspath(path).startswith(run):
            written.add(Path(path).name)

    sys.addaudithook(note_writes)
    original = finetuning._Finetuning._finish

    def save_weights_first(self: finetuning._Finetuning) -> finetuning.FinetuneOutcome:
        (folder / f"backend{rank}").write_text(torch.distributed.get_backend())
        torch.save(self.model.state_dict(), folder / f"rank{rank}.pt")
        return original(self)

    finetuning._Finetuning._finish = save_weights_first  # type: ignore[method-assign]
    finetune(config, resume=None)
    (folder / f"written{rank}.json").write_text(json.dumps(sorted(written)))


main()
