"""Where the time of a profiled run goes: kernels by kind, and the gaps between them.

    wall = kernels (matrix products, attention, scores, …) + gaps (the device waits for the host)

Reads the events of a torch.profiler trace in Chrome's format. A kernel belongs to the part of the
engine that launched it: the launch has the kernel's correlation id and lies within a named range of
its thread (`ENGINE_RANGES`); within a part, and outside of all, its name decides. On a CPU the
operators themselves are the kernels, each with the time that its callees do not take.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["ENGINE_RANGES", "KINDS", "anatomy", "kind_of"]

ENGINE_RANGES = {
    "alpine.attend": "attention",
    "alpine.plan": "selection",
    "alpine.shorten": "repacking",
    "alpine.enter": "layout",
    "alpine.leave": "layout",
}
"""Name of the range → kind of what it launches, unless `_SCORES` says otherwise."""

KINDS = (
    "matrix products",
    "attention",
    "scores",
    "selection",
    "repacking",
    "layout",
    "norms and elementwise",
    "copies",
    "other",
)

_SCORES = re.compile(r"score|received|column_?sum|log_?sum_?exp", re.IGNORECASE)
# In this order; names as Triton (ours), cuBLAS, CUTLASS, flash attention and ATen give them.
_BY_NAME = (
    ("scores", _SCORES),
    ("selection", re.compile(r"^_(keep_by_spread|lay_out)")),
    ("repacking", re.compile(r"^_(gather|spread|carry)")),
    ("attention", re.compile(r"flash|fmha|attention|attn|sdpa", re.IGNORECASE)),
    (
        "matrix products",
        re.compile(
            r"gemm|gemv|cutlass|xmma|wgmma|nvjet|cublas|splitk|\baten::(addmm|mm|bmm|linear|matmul)",
            re.IGNORECASE,
        ),
    ),
    ("copies", re.compile(r"memcpy|memset|copy|\baten::(to|_to_copy|clone|fill_|zero_)\b", re.I)),
    (
        "norms and elementwise",
        re.compile(
            r"norm|elementwise|gelu|softmax|dropout|vectorized|reduce|embedding|"
            r"\baten::(add|mul|sub|div|sum|mean|where|gelu|cat|embedding)\w*",
            re.IGNORECASE,
        ),
    ),
)
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
_LAUNCHES = ("cuda_runtime", "cuda_driver")
_MICRO = 1e-6
Event = Mapping[str, Any]


def kind_of(name: str, launched_in: str | None) -> str:
    """The kind of a kernel by its name and the range that launched it."""
    part = ENGINE_RANGES.get(launched_in or "")
    if part is not None and not (part == "attention" and _SCORES.search(name)):
        return part
    return next((kind for kind, pattern in _BY_NAME if pattern.search(name)), "other")


def anatomy(events: Sequence[Event], wall_seconds: float, passes: int = 1) -> dict[str, Any]:
    """Seconds per pass by kind, and the longest kernels.

    Args:
        events: "traceEvents" of the trace.
        wall_seconds: of all profiled passes.
        passes: how many there were.
    """
    spans = [e for e in events if e.get("ph") == "X" and "dur" in e]
    ranges = _Ranges(e for e in spans if e["name"] in ENGINE_RANGES)
    kernels = [e for e in spans if e.get("cat") in _ON_DEVICE]
    on_device = bool(kernels)
    launches = {}
    if on_device:
        for e in spans:
            if e.get("cat") in _LAUNCHES and (at := _correlation(e)) is not None:
                launches[at] = e
        seconds = [e["dur"] * _MICRO for e in kernels]
        busy = _covered([(e["ts"], e["ts"] + e["dur"]) for e in kernels]) * _MICRO
    else:
        kernels = [e for e in spans if e.get("cat") == "cpu_op"]
        seconds = _own_seconds(kernels)
        busy = sum(seconds)
    by_kind: dict[str, float] = dict.fromkeys(KINDS, 0.0)
    by_name: dict[tuple[str, str], list[float]] = defaultdict(list)
    for event, taken in zip(kernels, seconds, strict=True):
        launch = launches.get(_correlation(event)) if on_device else event
        kind = kind_of(event["name"], ranges.around(launch) if launch is not None else None)
        by_kind[kind] += taken
        by_name[event["name"], kind].append(taken)
    longest = sorted(by_name.items(), key=lambda item: -sum(item[1]))[:12]
    return {
        "measured_on": "device kernels" if on_device else "operators of the CPU",
        "wall_seconds": wall_seconds / passes,
        "kernels": len(kernels) / passes,
        "busy_seconds": busy / passes,
        "gap_seconds": max(0.0, wall_seconds - busy) / passes,
        "seconds_by_kind": {kind: taken / passes for kind, taken in by_kind.items()},
        "longest": [
            {
                "name": name[:160],
                "kind": kind,
                "calls": len(taken) / passes,
                "seconds": sum(taken) / passes,
            }
            for (name, kind), taken in longest
        ],
    }


def _correlation(event: Event) -> Any:
    return event.get("args", {}).get("correlation")


def _covered(spans: list[tuple[float, float]]) -> float:
    """Length of the union: kernels of several streams may overlap."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def _own_seconds(events: Sequence[Event]) -> list[float]:
    """Of nested operators, the time of each that those within it do not take."""
    own = [e["dur"] * _MICRO for e in events]
    by_thread: dict[Any, list[int]] = defaultdict(list)
    for at, e in enumerate(events):
        by_thread[e.get("tid")].append(at)
    for places in by_thread.values():
        places.sort(key=lambda at: (events[at]["ts"], -events[at]["dur"]))
        open_: list[int] = []
        for at in places:
            while open_ and _end(events[open_[-1]]) <= events[at]["ts"]:
                open_.pop()
            if open_:
                own[open_[-1]] -= events[at]["dur"] * _MICRO
            open_.append(at)
    return [max(0.0, taken) for taken in own]


def _end(event: Event) -> float:
    return float(event["ts"] + event["dur"])


class _Ranges:
    """Finds the named range that an event lies in. Ranges of a thread do not nest."""

    def __init__(self, events: Iterable[Event]) -> None:
        by_thread: dict[Any, list[Event]] = defaultdict(list)
        for event in events:
            # the same range is also drawn on the device's own track, which launches nothing
            if event.get("cat") == "user_annotation":
                by_thread[event.get("tid")].append(event)
        self._by_thread = {
            thread: sorted(found, key=lambda e: e["ts"]) for thread, found in by_thread.items()
        }
        self._starts = {
            thread: [e["ts"] for e in found] for thread, found in self._by_thread.items()
        }

    def around(self, event: Event) -> str | None:
        """Name of the range that was open when the event began, on its thread."""
        thread = event.get("tid")
        place = bisect_right(self._starts.get(thread, []), event["ts"]) - 1
        if place < 0:
            return None
        found = self._by_thread[thread][place]
        return str(found["name"]) if event["ts"] < _end(found) else None
