"""Throughput and speed-up by sequence length, from the times of single batches within the passes.

Nothing is timed twice: each run of `throughput` leaves the time of every batch (see `timing`), and
batches hold samples of like length. A bin is a range of lengths with the timed batches whose median
length lies in it; its rate in one run is its samples over the time of its batches in that run. So
run i of all variants still belongs to the same round, and the bins' times sum to the pass.

Bins end at powers of two and half-way between them (…, 64, 96, 128, 192, 256, 384, 512): few enough
to hold batches, fine enough to show where pruning starts to pay. The length of a sample is that of
its longest function, because that is what batches are sorted and padded by.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from alpine_cli.measure.statistics import aggregate, mean_interval, ratio_interval
from alpine_cli.measure.timing import TimedPass
from alpine_cli.measure.workload import Batch
from alpine_cli.results import Interval, Part, Series
from alpine_cli.tasks.encoding import EncodedSplit

__all__ = ["LengthBin", "length_bins", "throughput_by_length"]

_SMALLEST_EDGE = 16


@dataclass(frozen=True)
class LengthBin:
    """A range of lengths and the batches in it.

    Attributes:
        label: e.g. "65–96 tokens".
        mean_tokens: mean length of its samples.
        samples: how many they are.
        batches: places of its batches in the pass.
    """

    label: str
    mean_tokens: float
    samples: int
    batches: tuple[int, ...]


def length_bins(batches: Sequence[Batch], encoded: EncodedSplit) -> list[LengthBin]:
    """The bins that hold any of `batches`, shortest first; each batch is in exactly one."""
    members: dict[tuple[int, int], list[int]] = {}
    for place, batch in enumerate(batches):
        middle = median(encoded.longest_row(i) for i in batch.indices)
        members.setdefault(_range_of(middle), []).append(place)
    bins = []
    for (low, high), places in sorted(members.items()):
        lengths = [encoded.longest_row(i) for place in places for i in batches[place].indices]
        bins.append(LengthBin(f"{low}–{high} tokens", fmean(lengths), len(lengths), tuple(places)))
    return bins


def _range_of(length: float) -> tuple[int, int]:
    """The bin of a length, as its least and greatest whole number of tokens."""
    low, high = 0, _SMALLEST_EDGE
    while length > high:
        # 16, 24, 32, 48, 64, 96, …: one and a half times a power of two, then the next power.
        low, high = high, high * 3 // 2 if high & (high - 1) == 0 else high * 4 // 3
    return low + 1, high


def throughput_by_length(
    bins: Sequence[LengthBin],
    passes: Mapping[str, Sequence[TimedPass]],
    pairs: Sequence[Sequence[str]],
    *,
    functions: int = 1,
    seed: int = 0,
) -> Part:
    """Curves throughput_by_length of each variant and speedup_by_length of each pair.

    Args:
        bins: of the batches that every pass ran.
        passes: runs of each variant, in the order of the rounds.
        pairs: (variant, baseline).
        functions: per sample; only for the text.
        seed: of the bootstrap.
    """
    rates = {
        name: [
            [found.samples / sum(run.batch_seconds[at] for at in found.batches) for run in runs]
            for found in bins
        ]
        for name, runs in passes.items()
    }
    counts = ", ".join(f"{found.samples}" for found in bins)
    timed = (
        f"times of single batches within the runs of the throughput figure; samples per bin:"
        f" {counts}; a batch belongs to the bin of its median length"
    )
    if functions > 1:
        timed += "; the length of a sample is that of its longest function"
    x_name = "tokens of a sample" if functions == 1 else "tokens of a sample's longest function"
    series = []
    for name, by_bin in rates.items():
        intervals = [mean_interval(values, "harmonic_mean", seed=seed) for values in by_bin]
        series.append(
            _series(
                "throughput_by_length",
                name,
                None,
                bins,
                x_name,
                [float(aggregate(values, "harmonic_mean")) for values in by_bin],
                intervals,
                f"samples over wall time; {timed}",
            )
        )
    for variant, baseline in pairs:
        if variant not in rates or baseline not in rates:
            continue
        both = list(zip(rates[variant], rates[baseline], strict=True))
        ratios = [
            float(aggregate(a, "harmonic_mean") / aggregate(b, "harmonic_mean")) for a, b in both
        ]
        intervals = [ratio_interval(a, b, "harmonic_mean", seed=seed) for a, b in both]
        method = f"ratio of throughputs, paired by run; {timed}"
        series.append(
            _series("speedup_by_length", variant, baseline, bins, x_name, ratios, intervals, method)
        )
    return Part(series=series)


def _series(
    name: str,
    variant: str,
    baseline: str | None,
    bins: Sequence[LengthBin],
    x_name: str,
    y: list[float],
    intervals: Sequence[Interval | None],
    method: str,
) -> Series:
    known = any(interval is not None for interval in intervals)
    return Series(
        name=name,
        variant=variant,
        baseline=baseline,
        unit="samples/s" if baseline is None else "1",
        x_name=x_name,
        x=[found.mean_tokens for found in bins],
        y=list(y),
        low=[interval.low if interval else None for interval in intervals] if known else None,
        high=[interval.high if interval else None for interval in intervals] if known else None,
        labels=[found.label for found in bins],
        method=method,
    )
