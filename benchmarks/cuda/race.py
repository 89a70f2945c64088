"""A race: variants against each other on the same functions, in turns, as often as time allows.

Two warm-up passes each (allocator, kernels, α), then rounds in an order drawn anew each time. A
variant that cannot run says why. Where five rounds of all would not fit, the dearest variants that
no other one is judged by are left out, and say so. All samples are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from alpine_cli.measure.blocks import run_blocks
from benchmarks.cuda.budget import Allowance, reason_of
from benchmarks.cuda.workbench import Workbench
from benchmarks.variants import Contestant, Mode, Round, Variant, compare

__all__ = ["Entrants", "affordable", "enter", "race"]

BASELINES = (
    "stock padded",
    "stock bucketed",
    "stock flash bucketed",
    "stock flash packed",
    "published way, all",
)
_JUDGES = ("packed, none", "packed, all", "stock bucketed")
_LEAST_ROUNDS, _MOST_ROUNDS = 5, 30  # an interval needs five
_WARM_UPS = 2


@dataclass
class Entrants:
    """Variants that ran their warm-up, and reasons for those that did not.

    Attributes:
        ready: by name.
        seconds: of the last warm-up pass.
        absent: by name, why.
    """

    ready: dict[str, Contestant] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def leave_out(self, names: Sequence[str], reason: str) -> None:
        """Drop these; their memory is given back."""
        for name in names:
            del self.ready[name], self.seconds[name]
            self.absent[name] = reason


@contextmanager
def enter(
    bench: Workbench,
    variants: Sequence[Variant],
    encoder_of: Callable[[Variant], Any],
    rows: list[list[int]],
    size: int,
    mode: Mode,
    absent: Mapping[str, str] = {},
) -> Iterator[Entrants]:
    """Make variants ready and warm them up; memory is given back at the end.

    Args:
        encoder_of: the encoder that a variant runs on; it is left as it is.
        rows: the functions of a round.
        size: of a batch.
        mode: what is done with a batch.
        absent: variants that are known to be missing, and why.
    """
    entrants = Entrants(absent=dict(absent))
    try:
        for variant in variants:
            try:
                contestant = Contestant(variant, encoder_of(variant), [rows], size, mode)
                entrants.seconds[variant.name] = contestant.warm_up(_WARM_UPS).seconds
                entrants.ready[variant.name] = contestant
            except Exception as error:  # out of memory, a kernel that is missing
                entrants.absent[variant.name] = reason_of(error)
                bench.release()
        yield entrants
    finally:
        entrants.ready.clear()
        bench.release()


def affordable(seconds: Mapping[str, float], left: float, judges: Sequence[str]) -> list[str]:
    """The variants of which five rounds fit into what is left; `judges` always stay."""
    staying = dict(seconds)
    for name in sorted(seconds, key=lambda name: -seconds[name]):
        if _LEAST_ROUNDS * sum(staying.values()) <= left:
            break
        if name not in judges:
            del staying[name]
    return list(staying)


def race(
    bench: Workbench,
    entrants: Entrants,
    allowance: Allowance,
    judges: Sequence[str] = _JUDGES,
    baselines: Sequence[str] = BASELINES,
) -> dict[str, Any]:
    """Time them; rows as `variants.compare` makes them, with device seconds and rates.

    Raises:
        RuntimeError: no variant is left that could run.
    """
    staying = affordable(entrants.seconds, allowance.left(), judges)
    slow = [name for name in entrants.ready if name not in staying]
    for name in slow:
        entrants.leave_out(
            [name],
            f"{_LEAST_ROUNDS} rounds of {entrants.seconds[name]:.1f} s would not fit the"
            f" {allowance.left():.0f} s left for this cell",
        )
    bench.release()
    if not entrants.ready:
        raise RuntimeError(f"no variant could run: {entrants.absent}")
    fitting = int(allowance.left() / max(sum(entrants.seconds.values()), 1e-9))
    rounds = max(_LEAST_ROUNDS, min(_LEAST_ROUNDS if bench.small else _MOST_ROUNDS, fitting))
    blocks = run_blocks(
        list(entrants.ready),
        lambda name: entrants.ready[name].round(),
        runs=rounds,
        min_seconds=0,
        seed=0,
    )
    samples = {name: [block.seconds for block in found] for name, found in blocks.items()}
    told = {name: contestant.tell() for name, contestant in entrants.ready.items()}
    rows = []
    for name, contestant in entrants.ready.items():
        row = compare(samples, told, name, baselines)
        row["samples_per_s"] = contestant.samples * rounds / sum(samples[name])
        row["batches_per_s"] = len(contestant.prepared[0]) * rounds / sum(samples[name])
        row["device_seconds"] = _device_seconds(blocks[name])
        if contestant.band is not None:
            row["plans_at_lengths_not_warmed_up"] = contestant.band.unseen
        rows.append(row)
    return {"rounds": rounds, "variants": rows, "absent": entrants.absent}


def _device_seconds(blocks: Sequence[Round]) -> list[float] | None:
    found = [block.device_seconds for block in blocks if block.device_seconds is not None]
    return found if len(found) == len(blocks) else None
