"""Whether a batch of a given size fits into memory: one trial, in a process of its own.

The trial runs inference once, or two training steps (the first makes gradients and optimiser
state, the second stands on them), on a batch of the longest samples. Out of memory is an answer,
not an error; where the process dies of it, `batch_search` takes the death for the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.devices import resolve_device
from alpine_cli.measure.memory import infer, train
from alpine_cli.measure.memory_limit import bounded_memory
from alpine_cli.measure.options import Precision
from alpine_cli.measure.training_step import is_out_of_memory
from alpine_cli.measure.worker import report_progress
from alpine_cli.measure.workload import Batch, LoadedVariant, synchronise
from alpine_cli.pruning.apply import prune
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.tasks.encoding import EncodedSplit
from alpine_cli.tasks.graph import RowGraph

__all__ = ["try_batch"]


def try_batch(request: Mapping[str, Any]) -> dict[str, Any]:
    """Worker entry; see `worker.MEASURES`.

    Reads `name`, `checkpoint`, `pruning`, `rows`, `labels` and, where data flow is read, `graphs`
    (encoded samples, longest first),
    `purpose` ("inference" or "training"), `batch_size`, `limit_bytes` (None on CUDA: the whole
    GPU), `device`, `threads` and `seed`.

    Returns:
        {"fits": bool, "said": the allocator's words where it does not}
    """
    if request["threads"] is not None:
        torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    report_progress(0, 1, f"{request['name']}, {request['batch_size']} samples")
    limit = request["limit_bytes"]
    try:
        variant = _load(request)
        wanted, available = request["batch_size"], len(variant.encoded)
        # One sample first: thread pools and libraries take their memory before it is bounded.
        infer(variant, [variant.batch_of([0])])
        batch = variant.batch_of([i % available for i in range(wanted)])
        with _bound(variant.device, limit):
            _run(variant, batch, request["purpose"])
    except MemoryError as error:
        return {"fits": False, "said": str(error)}
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        if not is_out_of_memory(error):
            raise
        return {"fits": False, "said": str(error).splitlines()[0]}
    return {"fits": True, "said": None}


def _load(request: Mapping[str, Any]) -> LoadedVariant:
    """The variant and the samples handed over: no data set is read."""
    device = resolve_device(request["device"])
    checkpoint = load_checkpoint(request["checkpoint"])
    model, tokenizer = checkpoint.build(device)
    precision: Precision = request["precision"]
    if request["purpose"] == "inference":
        model.to(getattr(torch, precision))
    pruning = None
    if request["pruning"] is not None:
        pruning = PruningConfig.from_dict(request["pruning"])
        prune(model, pruning)
    rows = [tuple(sample) for sample in request["rows"]]
    graphs = request.get("graphs")
    encoded = EncodedSplit(
        rows,
        request["labels"],
        [str(i) for i in range(len(rows))],
        graphs=graphs and [tuple(map(RowGraph.from_dict, sample)) for sample in graphs],
    )
    spec = checkpoint.encoding_spec
    return LoadedVariant(
        request["name"], model.eval(), tokenizer, spec, encoded, pruning, device, precision
    )


def _bound(device: torch.device, limit: int | None) -> Any:
    """Hold to the limit for the time of a run: of the process, or of the GPU's allocator."""
    if device.type != "cuda":
        return bounded_memory(limit) if limit is not None else nullcontext()
    if limit is not None:
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, limit / total), device)
    return nullcontext()


def _run(variant: LoadedVariant, batch: Batch, purpose: str) -> None:
    (train if purpose == "training" else infer)(variant, [batch])
    synchronise(variant.device)
