"""Measuring: FLOPs, memory, throughput, energy and accuracy of a checkpoint's variants.

`bench.run_bench` is the front door; each measure runs in a fresh process (`isolation`, `worker`)
and hands back a `results.Part`. Nothing here knows the command line, and nothing is printed.
"""

from __future__ import annotations
