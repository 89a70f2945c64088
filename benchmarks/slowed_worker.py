"""A measuring worker that delays one variant: a slowdown of known size, to be found.

Started by `benchmarks.aa_test` in the place of `alpine_cli.measure.worker`. A request that holds
`slowdown: {"variant": NAME, "share": S}` makes every forward pass of that variant sleep for the
share S of the time it took; without it, the worker is the ordinary one.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from torch import Tensor

from alpine_cli.measure import worker
from alpine_cli.measure.workload import Batch, LoadedVariant, synchronise


def slow_down(variant: str, share: float) -> None:
    """Make `LoadedVariant.forward` of that variant sleep, from now on."""
    forward = LoadedVariant.forward

    def slowed(self: LoadedVariant, batch: Batch) -> Tensor:
        started = time.perf_counter()
        logits = forward(self, batch)
        if self.name == variant:
            synchronise(self.device)
            time.sleep(share * (time.perf_counter() - started))
        return logits

    LoadedVariant.forward = slowed  # type: ignore[method-assign]


def main(arguments: list[str]) -> int:
    """Run the measure that the request file names, slowed as it says."""
    request = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))["request"]
    if request.get("slowdown"):
        slow_down(**request["slowdown"])
    return worker.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
