"""Triton kernels for CUDA: what small torch operations would spend on launches and memory traffic.

Each kernel has a file with its plain PyTorch twin, which says what it computes and runs where the
kernel cannot, and a file `*_triton.py` with the kernel itself. Only the latter import Triton, and
they are imported when a kernel is first used: nothing here needs Triton to be installed.

    scores      column sums of the attention matrix, without an attention matrix

Kernels are for CUDA. Triton's interpreter (TRITON_INTERPRET=1, set before Triton is imported) runs
them on a CPU, slowly: tests do that, within `forced`.
"""

from __future__ import annotations
