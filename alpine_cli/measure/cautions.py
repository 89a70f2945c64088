"""What a reader of run times must mind, each with its effect on the figures and a remedy.

    before(environment)    the machine as it was found      busy-machine, gpu-throttled, gpu-shared
    of_watch(seen)         while blocks were timed          the same, and gpu-clock-moved
    after(environment)     once all workers have ended      busy-machine, gpu-throttled, gpu-shared
    of_figures(figures)    what the samples themselves say  outliers, few-runs

Outliers. Run times have a hard lower end and a long upper tail, so the usual fence of 1.5 IQR would
cry wolf. A run counts as an outlier if its time lies beyond q3 + 3 IQR (Tukey's outer fence), and
is told only if leaving all of them out would move the figure by more than 1 %. By simulation of 8
to 50 runs that is told of 0.1 % of figures with normal noise and of up to 5 % with gamma
noise, and of 39 to 77 % where one run in ten is struck by a disturbance of 20 % on average.
Outliers are never removed: they are part of the time that was measured.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

import numpy as np

from alpine_cli.measure import environment as machine
from alpine_cli.measure.statistics import MIN_RUNS_FOR_INTERVAL, aggregate
from alpine_cli.measure.watch import Seen
from alpine_cli.results import Caution, Environment, Figure

__all__ = ["after", "before", "of_figures", "of_watch"]

BUSY_SHARE = 0.15
"""Share of the machine's CPU time, or of a GPU's, that others may use without a caution."""

_THROTTLED_SHARE = 0.05  # of the looks at the GPU
_CLOCK_MOVED = 0.05  # of the higher clock
_FENCE_IQRS = 3.0
_MOVED = 0.01  # of the figure's value
_MIN_FOR_QUARTILES = 8

# Figures whose samples repeat the same work, so that they should not differ. The samples of a
# latency or of MACs are different programs, and differ rightly.
_REPEATED = (
    "throughput",
    "training_throughput",
    "energy_gross",
    "training_energy_gross",
)
_WORDS = {
    "throughput": "throughput",
    "training_throughput": "throughput of training steps",
    "energy_gross": "energy per sample",
    "training_energy_gross": "energy per sample of training",
}
_WIDER = "times spread more and intervals widen"
_SLOWER = "run times depend on the GPU's temperature and power as well as on the model"
_IDLE = "Measure on an idle machine to cite the figures"


def before(environment: Environment, *, device: str | None = None) -> list[Caution]:
    """Cautions of the machine as it was found, with nothing of ours running.

    Args:
        environment: as described just before.
        device: "cpu" says nothing of GPUs; None or "cuda" looks at all of them.
    """
    found = _busy(environment.busy_share, environment.logical_cores, "before measuring")
    if device != "cpu":
        reasons = sorted({reason for gpu in environment.gpus for reason in gpu.throttle_reasons})
        found += _throttled(reasons, "before measuring")
        found += _shared("before measuring")
    return found


def after(environment: Environment, *, device: str | None = None) -> list[Caution]:
    """Cautions of the machine as it was left; looks at it for half a second.

    Args:
        environment: as described before measuring.
        device: as in `before`.
    """
    found = _busy(machine.busy_share(), environment.logical_cores, "after measuring")
    if device != "cpu":
        found += _throttled(machine.gpu_throttling(), "after measuring")
        found += _shared("after measuring")
    return found


def of_watch(seen: Seen, what: str = "measuring") -> list[Caution]:
    """Cautions of what a `MachineWatch` saw while blocks ran; `what` names them."""
    found = []
    share = seen.others_cpu_share
    if share is not None and share >= BUSY_SHARE:
        text = f"other processes used {share:.0%} of the machine's CPU time during {what}"
        found.append(Caution(code="busy-machine", text=text, effect=_WIDER, remedy=_IDLE))
    held = {r: s for r, s in (seen.throttled or {}).items() if s >= _THROTTLED_SHARE}
    if held:
        reasons = ", ".join(f"{reason} {share:.0%}" for reason, share in sorted(held.items()))
        hottest = "" if seen.temperature_c is None else f"; up to {seen.temperature_c} °C"
        found.append(
            Caution(
                code="gpu-throttled",
                text=f"the GPU was held below its clocks during {what}: {reasons} of the time"
                f"{hottest}",
                effect=_SLOWER,
                remedy="Cool it, or lock a clock it can hold (nvidia-smi --lock-gpu-clocks)",
            )
        )
    if seen.clock_mhz is not None:
        low, high = seen.clock_mhz
        if high > 0 and (high - low) / high > _CLOCK_MOVED:
            found.append(
                Caution(
                    code="gpu-clock-moved",
                    text=f"the GPU's clock moved between {low:,.0f} and {high:,.0f} MHz during"
                    f" {what}",
                    effect="a variant that draws less power may have run at a higher clock",
                    remedy=f"Lock it (nvidia-smi --lock-gpu-clocks={low:.0f}) and measure again",
                )
            )
    if seen.gpu_processes:
        found.append(_sharing(f"{_processes(seen.gpu_processes)} on the GPU during {what}"))
    return found


def of_figures(figures: Iterable[Figure]) -> list[Caution]:
    """Cautions that follow from the samples of figures: outliers, and too few runs."""
    found = []
    few: dict[str, int] = {}
    for figure in figures:
        if figure.name not in _REPEATED or figure.value is None or not figure.samples:
            continue
        if len(figure.samples) < MIN_RUNS_FOR_INTERVAL:
            few[figure.name] = len(figure.samples)
        else:
            found += _outliers(figure, figure.samples)
    for name, runs in few.items():
        found.append(
            Caution(
                code="few-runs",
                text=f"{_WORDS[name]}: {runs} run{'s' if runs > 1 else ''} only",
                effect="there is no interval and no verdict",
                remedy=f"Pass --runs {MIN_RUNS_FOR_INTERVAL} or more",
            )
        )
    return found


def _outliers(figure: Figure, samples: Sequence[float]) -> list[Caution]:
    values = np.asarray(samples, dtype=np.float64)
    if len(values) < _MIN_FOR_QUARTILES or (values <= 0).any():
        return []
    # Costs have the long tail; a rate is turned into the time it stands for.
    costs = 1 / values if figure.better == "higher" else values
    q1, median, q3 = np.percentile(costs, [25, 50, 75])
    far = costs > q3 + _FENCE_IQRS * (q3 - q1)
    if not far.any():
        return []
    with_all = float(aggregate(values, figure.aggregate))
    moved = abs(with_all / float(aggregate(values[~far], figure.aggregate)) - 1)
    if moved <= _MOVED:
        return []
    count, first = int(far.sum()), bool(far[0])
    only_first = first and count == 1
    which = "the first run lies" if only_first else f"{count} of {len(values)} runs lie"
    if count == 1 and not first:
        which = f"1 of {len(values)} runs lies"
    return [
        Caution(
            code="outliers",
            text=f"{_WORDS[figure.name]} of {figure.variant}: {which} far beyond the others (up to"
            f" {costs.max() / median:.2g} times the median {_cost_word(figure)})",
            effect=f"this moves the figure by {moved:.1%} and widens its interval",
            remedy="Warm up longer: something was still being set up"
            if only_first
            else "Close other programs and measure again; more --runs lessen their weight",
        )
    ]


def _cost_word(figure: Figure) -> str:
    return "time" if figure.better == "higher" else "energy"


def _busy(share: float | None, cores: int, when: str) -> list[Caution]:
    if share is None or share < BUSY_SHARE:
        return []
    text = f"the machine was busy {when} ({share:.0%} of {cores} cores in use)"
    return [Caution(code="busy-machine", text=text, effect=_WIDER, remedy=_IDLE)]


def _throttled(reasons: Sequence[str], when: str) -> list[Caution]:
    if not reasons:
        return []
    return [
        Caution(
            code="gpu-throttled",
            text=f"the GPU ran below its clocks {when} ({', '.join(reasons)})",
            effect=_SLOWER,
            remedy="Wait until it is cool, or lock a clock it can hold"
            " (nvidia-smi --lock-gpu-clocks)",
        )
    ]


def _shared(when: str) -> list[Caution]:
    """Processes on any GPU while nothing of ours runs there, or a GPU that is busy all the same."""
    found = []
    for gpu in machine.gpu_use():
        others = [pid for pid in gpu.processes if pid != os.getpid()]
        if others:
            told = f"{_processes(len(others))} on GPU {gpu.index} ({gpu.name}) {when}"
            found.append(_sharing(told))
        elif when.startswith("before") and (gpu.busy_share or 0) >= BUSY_SHARE:
            # After measuring our own kernels still count. A container hides other processes.
            told = f"GPU {gpu.index} ({gpu.name}) was {gpu.busy_share:.0%} busy {when}"
            found.append(_sharing(told))
    return found


def _processes(count: int) -> str:
    return "another process was" if count == 1 else f"{count} other processes were"


def _sharing(text: str) -> Caution:
    return Caution(
        code="gpu-shared",
        text=text,
        effect="it takes time, memory and power of the GPU, so every figure of it may be off",
        remedy="Measure on a GPU of your own (CUDA_VISIBLE_DEVICES), or when it is free",
    )
