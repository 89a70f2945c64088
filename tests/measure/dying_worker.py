"""A stand-in for the worker that ends in the way its request names. Run by test_isolation."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

ask, answer = map(Path, sys.argv[1:])
how = json.loads(ask.read_text(encoding="utf-8"))["request"]["how"]
print("some library talks on stdout")
print("progress 1 2 half way there", flush=True)
print("last words", file=sys.stderr, flush=True)
if how == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if how == "exit":
    sys.exit(3)
if how == "flood":  # more than a pipe holds
    sys.stderr.write("x" * 1_000_000 + "\nend of flood\n")
    sys.exit(1)
if how == "answer":
    environment = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "HF_HUB_OFFLINE")}
    answer.write_text(json.dumps(environment), encoding="utf-8")
if how in ("DataError", "ConfigError", "NoSuchError"):
    error = {"type": how, "message": "a.jsonl:3: no label"}
    answer.write_text(json.dumps({"error": error}), encoding="utf-8")
