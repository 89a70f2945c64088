"""Kernels compile for GPUs: Triton brings the compiler, so no GPU is needed to see that.

In a process of its own, where Triton's interpreter is off.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import triton.language as tl
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from alpine_cli.pruning.kernels import carry_triton, layout_triton, repack_triton
from alpine_cli.pruning.kernels import scores_triton, selection_triton

LEAST_SHARED_MEMORY = 99 << 10  # of GPUs of compute capability 8.0 and newer
TYPES = {
    "q": "*bf16", "k": "*bf16", "hidden": "*bf16", "grad": "*bf16", "scaling": "fp32",
    "lse": "*fp32", "bias": "*fp32", "scores": "*fp32", "weight": "*fp32",
    "alpha": "fp32", "alpha_rest": "fp32", "protected": "*u8", "keep": "*u8",
    "order": "*i32", "first_member": "*i32", "member_count": "*i32",
    "cu_seqlens": "*i64", "cu_before": "*i64", "cu_after": "*i64", "segment": "*i64",
    "kept": "*i64", "slot": "*i64", "merged_row": "*i64", "removed": "*i64",
    "source": "*i64", "source_out": "*i64", "special": "*u8", "special_out": "*u8",
}  # everything else is a number


def compiles(kernel, out=None, warps=4, **constants):
    types = TYPES | {"out": out}
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in kernel.arg_names
    }
    source = ASTSource(kernel, signature, constants)
    options = {"num_warps": warps, "num_stages": 2}
    compiled = compile(source, target=GPUTarget("cuda", 80, 32), options=options)
    assert compiled.metadata.shared <= LEAST_SHARED_MEMORY
    return compiled.asm


tile = {"HEADS": 12, "DIM": 72, "BLOCK_D": 128, "BLOCK_Q": 64, "BLOCK_K": 64, "WIDEN": False}
tile |= {"BIASED": True, "CAUSAL": True, "PRECISION": "ieee"}
for kernel in (scores_triton._received, scores_triton._log_sum_exp):
    assert "mma.sync" in compiles(kernel, "*fp32", **tile)["ptx"]  # on matrix units
rule = {"TOLERANCE": 2e-6, "TWO_SIDED": True, "BLOCK": 1024}
assert "2.000000e-06 : f64" in compiles(selection_triton._keep_by_spread, **rule)["ttir"]
compiles(layout_triton._lay_out, MERGES=True, CAUSAL=True, BLOCK=1024, SEQUENCES=128)
compiles(carry_triton._carry, SIZED=True, BLOCK=1024)
row = {"WIDTH": 768, "WIDE": tl.float32, "BLOCK_D": 256}
merge = {"WEIGHTED": False, "weight": None}
compiles(repack_triton._gather, "*bf16", warps=1, BLOCK_M=16, **row, **merge)
compiles(repack_triton._spread, "*bf16", BLOCK_T=8, **row, **merge)
print("compiled")
"""


def test_every_kernel_compiles_for_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.stdout == "compiled\n", result.stderr[-3000:]
