"""Kernels compile for GPUs: Triton brings the compiler, so no GPU is needed to see that.

In a process of its own, where Triton's interpreter is off. Each is compiled for what real launches
would have it compiled for (`launches`), once whatever the lengths, and traced by torch.compile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMPILES = """
import torch
from alpine_cli.pruning.packed import Ragged
from tests.pruning.kernels import launches

LEAST_SHARED_MEMORY = 99 << 10  # of GPUs of compute capability 8.0 and newer
ragged = Ragged.from_lengths(torch.tensor([70, 5, 300]))
for dim, dtype, products, capability in (
    (72, torch.bfloat16, "ieee", 80),
    (128, torch.float32, "ieee", 80),
    (128, torch.float32, "tf32", 90),  # needs most
):
    torch.backends.cuda.matmul.fp32_precision = products
    with launches.watched() as seen:
        launches.scores(ragged, 12, dim, dtype, biased=True, causal=True)
    for launch in seen:
        compiled = launch.compile(capability)
        shared = compiled.metadata.shared
        assert shared <= LEAST_SHARED_MEMORY, (launch.name, dim, capability, shared)
        if dtype == torch.bfloat16:
            assert "mma.sync" in compiled.asm["ptx"]  # on matrix units
            assert "tt.divisibility" in compiled.asm["ttir"]
with launches.watched() as seen:
    launches.plans(ragged, 768, torch.bfloat16, sized=False, causal=True)
for launch in seen:
    compiled = launch.compile(80)
    assert compiled.metadata.shared <= LEAST_SHARED_MEMORY
    if launch.name == "_keep_by_spread":
        assert "2.000000e-06 : f64" in compiled.asm["ttir"]
assert len(seen) == 5
print("done")
"""

VARIANTS = """
import torch
from alpine_cli.pruning.packed import Ragged
from tests.pruning.kernels import launches

kinds = {}
for lengths in ([2], [4], [5], [16], [17, 3], [8, 8], [1, 2, 3, 7], [16] * 16, [300, 33, 7]):
    ragged = Ragged.from_lengths(torch.tensor(lengths))
    with launches.watched() as seen:
        launches.scores(ragged, 12, 64, torch.bfloat16, biased=True, causal=False)
        launches.plans(ragged, 768, torch.bfloat16, sized=True, causal=False)
    assert len(seen) == len(launches.KERNELS)
    for launch in seen:
        kinds.setdefault(launch.name, {}).setdefault(launch.variant, lengths)
several = {name: list(found.values()) for name, found in kinds.items() if len(found) > 1}
assert not several, several
print("done")
"""

TRACED = """
import torch
import torch.utils._triton
torch.utils._triton.has_triton = lambda: True  # it asks for a GPU, without which none is traced
from alpine_cli.pruning.packed import Ragged
from tests.pruning.kernels import launches

ragged = Ragged.from_lengths(torch.tensor([5, 3]))
ragged.total, ragged.longest
traced = []

def backend(graph, inputs):
    traced.extend(n for n in graph.graph.nodes if "triton_kernel" in str(n.target))
    return lambda *args: tuple(
        x if x is None else torch.zeros(x.meta["example_value"].shape)
        for x in graph.graph.output_node().args[0]
    )

def launched():
    launches.scores(ragged, 2, 16, torch.float32, biased=True, causal=True)
    launches.plans(ragged, 32, torch.float32, sized=False, causal=True)
    return torch.zeros(1)

torch.compile(launched, backend=backend, fullgraph=True)()
assert len(traced) == len(launches.KERNELS), traced
print("done")
"""


@pytest.mark.parametrize("script", [COMPILES, VARIANTS, TRACED], ids=["gpus", "once", "traced"])
def test_kernels_without_a_gpu(tmp_path: Path, script: str) -> None:
    """They compile; for one variant each, whatever the lengths; torch.compile traces launches."""
    pytest.importorskip("triton")
    result = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.stdout == "done\n", result.stderr[-3000:]
