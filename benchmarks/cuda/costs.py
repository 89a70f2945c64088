"""All costs on one GPU within ten minutes, offline, from the repository alone.

    python -m benchmarks.cuda.costs                                  # within ten minutes on a GPU
    python -m benchmarks.cuda.costs --only inference energy --minutes 4
    python -m benchmarks.cuda.costs --device cpu --small --output trial   # does the script run?

Functions of the running Python's standard library are read by encoders of RoBERTa-base, -large and
ModernBERT-base size with random weights, which prune the shares of tokens that the published runs
pruned (`published_shares`). Accuracy means nothing here; for that there is `learned`.

    inference   engines, stock transformers (SDPA, flash), the published way; batch 1 … 256,
                128 … 8192 tokens; bfloat16, float16, float32 with TF32 off and on
    training    steps under bfloat16 autocast, with and without gradient checkpointing
    memory      peaks: allocator (allocated, reserved), process (NVML)
    energy      NVML's counter, gross and less idle power
    roofline    share of the measured matrix rate
    profile     time by kind of kernel, and gaps
    compile     torch.compile, with recompilations
    graphs      CUDA graphs at batch 1

Writes OUTPUT.json (all raw samples; written anew after every section) and OUTPUT.md. What is not
reached in the time, or cannot run here, stands in both with the reason.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from alpine_cli.errors import AlpineError
from alpine_cli.files import refuse_existing, write_atomic
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.watch import watch_machine
from benchmarks.cuda.budget import Allowance, Budget, reason_of
from benchmarks.cuda.code import LibraryCode
from benchmarks.cuda.compiling import measure_compile
from benchmarks.cuda.energy import measure_energy
from benchmarks.cuda.graphs import measure_graphs
from benchmarks.cuda.inference import measure_inference
from benchmarks.cuda.machine import gpu_state
from benchmarks.cuda.memory import measure_memory
from benchmarks.cuda.profiling import measure_profile
from benchmarks.cuda.roofline import measure_roofline
from benchmarks.cuda.tables import markdown
from benchmarks.cuda.training import measure_training
from benchmarks.cuda.workbench import Workbench

__all__ = ["RESULTS", "describe_device", "find_device", "main", "output_files", "watched"]

Section = Callable[[Workbench, Allowance], dict[str, Any]]

# What may fail in CUDA itself (compiling, capturing) comes last: it can take the context with it.
SECTIONS: dict[str, tuple[Section, float]] = {
    "inference": (measure_inference, 38),
    "training": (measure_training, 14),
    "memory": (measure_memory, 6),
    "energy": (measure_energy, 20),
    "roofline": (measure_roofline, 4),
    "profile": (measure_profile, 5),
    "compile": (measure_compile, 16),
    "graphs": (measure_graphs, 2),
}
"""Each section with its weight in the time."""

RESULTS = Path(__file__).parents[1] / "results"
_FUNCTIONS, _VOCABULARY = 512, 8000
_FEW_FUNCTIONS, _SMALL_VOCABULARY = 8, 400


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the sections and write the result files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"],
                        help="CUDA_VISIBLE_DEVICES picks one of several GPUs")  # fmt: skip
    parser.add_argument("--small", action="store_true", help="tiny sizes: does the script run?")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION",
                        help=f"some of: {', '.join(SECTIONS)}")  # fmt: skip
    parser.add_argument("--minutes", type=float, default=9.0,
                        help="for all but imports and what the last cell overruns")  # fmt: skip
    parser.add_argument("--output", type=Path, default=RESULTS / "cuda-costs",
                        help="of the result files, without suffix")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="replace earlier result files")
    asked = parser.parse_args(arguments)
    chosen = [name for name in SECTIONS if not asked.only or name in asked.only]
    budget = Budget(60 * asked.minutes, {name: SECTIONS[name][1] for name in chosen})
    try:
        _run(asked, chosen, budget)
    except AlpineError as error:
        raise SystemExit(f"error: {error}") from error


def _run(asked: argparse.Namespace, chosen: Sequence[str], budget: Budget) -> None:
    files = output_files(asked.output, asked.force)
    bench = _workbench(asked.device, asked.small)
    document: dict[str, Any] = {
        "benchmark": "cuda-costs",
        "data": bench.code.source,
        "small": asked.small,
        "minutes": asked.minutes,
        "device": describe_device(bench.device),
        "environment": describe_environment(threads=torch.get_num_threads(), seed=0).model_dump(
            mode="json"
        ),
        "not_run": [name for name in SECTIONS if name not in chosen],
        "sections": {},
    }
    for name in chosen:
        allowance = budget.section(name)
        bench.say(f"{name}: {allowance.seconds:.0f} s")
        document["sections"][name] = watched(bench, SECTIONS[name][0], allowance)
        # After every section: what was measured must outlive whatever the next one does.
        write_atomic(files[0], json.dumps(document, indent=1, ensure_ascii=False) + "\n")
        write_atomic(files[1], markdown(document))
    print(f"{files[0]}\n{files[1]}")


def output_files(output: Path, force: bool) -> list[Path]:
    """OUTPUT.json and OUTPUT.md, which may be written.

    Raises:
        OutputExistsError: one of them is there, and `force` is false.
    """
    files = [output.parent / f"{output.name}.{kind}" for kind in ("json", "md")]
    for path in files:
        refuse_existing(path, force, file=True)
    return files


def find_device(device: str, small: bool) -> torch.device:
    """The device asked for.

    Raises:
        SystemExit: CUDA was asked for and is absent, or whole sizes on a CPU.
    """
    where = torch.device(device)
    if where.type == "cuda":
        if not torch.cuda.is_available():
            raise SystemExit(
                "error: no CUDA device: nothing was measured. To try the script on a CPU:"
                " --device cpu --small"
            )
        return torch.device("cuda", torch.cuda.current_device())
    if not small:
        raise SystemExit(f"error: on {device} only --small makes sense")
    return where


def _workbench(device: str, small: bool) -> Workbench:
    where = find_device(device, small)
    code = LibraryCode.read(
        _FEW_FUNCTIONS if small else _FUNCTIONS, _SMALL_VOCABULARY if small else _VOCABULARY
    )
    return Workbench(where, small, code, say=lambda text: print(text, flush=True))


def describe_device(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    cuda = device.type == "cuda"
    return {
        "type": device.type,
        "name": torch.cuda.get_device_name(device) if cuda else "CPU",
        "capability": list(torch.cuda.get_device_capability(device)) if cuda else None,
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if cuda else None,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }


def watched(bench: Workbench, section: Section, allowance: Allowance) -> dict[str, Any]:
    """A section's result, with the GPU's state around it and what was seen meanwhile.

    A section that fails altogether becomes its reason.
    """
    before, began = gpu_state(bench.uuid), time.monotonic()
    with watch_machine(bench.uuid) as watch:
        try:
            found = section(bench, allowance)
        except Exception as error:  # a section must not cost the others
            found = {"reason": reason_of(error)}
    seen = watch.seen()
    return {
        **found,
        "allowed_s": round(allowance.seconds, 1),
        "took_s": round(time.monotonic() - began, 1),
        "gpu_before": before,
        "gpu_after": gpu_state(bench.uuid),
        "watch": {
            "others_cpu_share": seen.others_cpu_share,
            "readings": seen.readings,
            "clock_mhz": seen.clock_mhz,
            "highest_temperature_c": seen.temperature_c,
            "throttled": seen.throttled,
            "other_gpu_processes": seen.gpu_processes,
        },
    }


if __name__ == "__main__":
    main()
