"""The one table of a result: a row per question, a column per variant, the ratio with its interval.

Printed by `alpine bench`, and the first thing in every report.
"""

from __future__ import annotations

from dataclasses import dataclass

from alpine_cli.report.formatting import Scale, format_ratio, scale_for
from alpine_cli.report.sentence import sentence
from alpine_cli.results import Comparison, Figure, Result

__all__ = ["ROWS", "SummaryRow", "describe_method", "headlines", "summarise", "title_of"]

# figure name -> what a reader calls it; the order is the table's.
ROWS: dict[str, str] = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "agreement": "same prediction",
    "total_macs": "multiply-adds",
    "throughput": "throughput",
    "latency": "latency at batch 1",
    "latency_p95": "  95th percentile",
    "training_throughput": "training steps",
    "inference_memory_run": "memory, inference",
    "training_memory_run": "memory, training step",
    "inference_memory_cuda_run": "GPU memory, inference",
    "training_memory_cuda_run": "GPU memory, training",
    "energy_gross": "energy per sample",
    "energy_net": "energy, less idle",
    "training_energy_gross": "energy, training step",
    "co2": "CO2 per 1000",
    "training_co2": "CO2 per 1000, training",
    "break_even_samples": "paid back, energy",
    "break_even_samples_by_time": "paid back, time",
}
# Two similar figures in one table confuse: these are shown only where they are the topic.
_ONLY_IN = {
    "precision": ("accuracy", "precision"),
    "recall": ("accuracy", "recall"),
    "total_flops": ("flops", "floating-point operations"),
    "attention_macs": ("flops", "  of it attention"),
    "feed_forward_macs": ("flops", "  of it feed-forward"),
    "pruning_overhead_flops": ("flops", "pruning overhead"),
    "head_macs": ("flops", "  of it head"),
    "dispatcher_macs": ("flops", "counted by torch"),
    "fvcore_macs": ("flops", "counted by fvcore"),
    "token_throughput": ("throughput", "throughput in tokens"),
    "tokenisation_throughput": ("throughput", "tokenisation alone"),
    "latency_p50": ("throughput", "  latency, median"),
    "latency_p90": ("throughput", "  latency, 90th percentile"),
    "latency_p99": ("throughput", "  latency, 99th percentile"),
    "inference_largest_batch": ("memory", "largest batch, inference"),
    "training_largest_batch": ("memory", "largest batch, training"),
    "inference_memory_process": ("memory", "whole process, inference"),
    "training_memory_process": ("memory", "whole process, training step"),
    "inference_memory_cuda_allocated": ("memory", "GPU memory with weights, inference"),
    "training_memory_cuda_allocated": ("memory", "GPU memory with weights, training step"),
    "inference_memory_cuda_reserved": ("memory", "GPU memory reserved, inference"),
    "training_memory_cuda_reserved": ("memory", "GPU memory reserved, training step"),
    "energy_gpu": ("energy", "  of it GPU"),
    "energy_cpu": ("energy", "  of it CPU"),
    "energy_ram": ("energy", "  of it memory"),
    "training_energy_net": ("energy", "energy of training, less idle"),
    "finetuning_seconds": ("training", "fine-tuning"),
    "finetuning_energy": ("training", "energy of fine-tuning"),
    "finetuning_co2": ("training", "CO2 of fine-tuning"),
}
# Left out where no variant has a value: the cautions say why, and one row of them is enough.
_QUIET_IF_ABSENT = ("energy_net", "energy_gpu", "training_energy_net")
# What is told in a sentence below the table; of several that mean the same, the first there is.
_HEADLINES = (
    ("accuracy",),
    ("total_macs",),
    ("throughput",),
    ("latency",),
    ("training_throughput",),
    ("inference_memory_cuda_run", "inference_memory_run"),
    ("energy_gross",),
)


@dataclass(frozen=True)
class SummaryRow:
    """One row.

    Attributes:
        figure: its name in the result file.
        label: what a reader calls it.
        scale: of all cells; `scale.unit` stands beside the label.
        figures: by variant; a variant without the figure is missing.
        pruning: pruned against unpruned; None where there is no such comparison.
        engine: unpruned against stock.
        method: how it was taken, in a few words.
        mcnemar: p-value of the exact test, pruned against unpruned.
    """

    figure: str
    label: str
    scale: Scale
    figures: dict[str, Figure]
    pruning: Comparison | None
    engine: Comparison | None
    method: str
    mcnemar: float | None

    def cell(self, variant: str) -> str:
        """The text of one variant's cell; "n/a" where the figure could not be taken."""
        figure = self.figures.get(variant)
        if figure is None:
            return ""
        return "n/a" if figure.value is None else self.scale.text(figure.value)

    @property
    def reasons(self) -> list[str]:
        """Why figures of this row could not be taken, each reason once."""
        found = (figure.reason for figure in self.figures.values())
        return list(dict.fromkeys(reason for reason in found if reason is not None))

    @property
    def ratio(self) -> str:
        """Pruned against unpruned, with interval; McNemar's test beside the agreement."""
        if self.figure == "agreement" and self.mcnemar is not None:
            return f"McNemar p = {self.mcnemar:.2g}"
        return "" if self.pruning is None else format_ratio(self.pruning, self.scale)

    @property
    def engine_ratio(self) -> str:
        """Unpruned against stock, with interval."""
        return "" if self.engine is None else format_ratio(self.engine, self.scale)

    @property
    def verdict(self) -> str:
        """What the interval allows to say of pruning; a figure that cannot move has none."""
        return "" if self.pruning is None else self.pruning.verdict


def summarise(result: Result) -> list[SummaryRow]:
    """The rows a result has figures for, in the table's order."""
    labels = dict(ROWS)
    if result.kind != "bench":
        labels |= {name: label for name, (kind, label) in _ONLY_IN.items() if kind == result.kind}
    rows = []
    accuracy = result.comparison("accuracy", "pruned", "unpruned")
    for name, label in labels.items():
        figures = {figure.variant: figure for figure in result.figures if figure.name == name}
        if name == "agreement":
            figures.pop("unpruned", None)  # there it is agreement with stock: 100 %, by promise
        known = [figure for figure in figures.values() if figure.value is not None]
        if not known and (not figures or name in _QUIET_IF_ABSENT):
            continue  # nothing was asked, or its absence is told by the cautions
        any_figure = (known or list(figures.values()))[0]
        rows.append(
            SummaryRow(
                figure=name,
                label=label,
                scale=scale_for(any_figure.unit, [figure.value for figure in known]),
                figures=figures,
                pruning=result.comparison(name, "pruned", "unpruned"),
                engine=result.comparison(name, "unpruned", "stock"),
                method=describe_method(any_figure),
                mcnemar=None if accuracy is None else accuracy.p_value,
            )
        )
    return rows


def headlines(result: Result) -> list[tuple[str, str]]:
    """What pruning does, a clause per headline figure: (what, "1.42× faster (95 % CI …)")."""
    told = []
    for names in _HEADLINES:
        for name in names:
            found = result.comparison(name, "pruned", "unpruned")
            if found is None or (found.ratio is None and found.difference is None):
                continue
            figure = result.figure(name, "pruned")
            words = sentence(found)
            if figure is not None and figure.provenance == "modelled" and "modelled" not in words:
                words += ", modelled"
            told.append((ROWS[name], words))
            break
    return told


def describe_method(figure: Figure) -> str:
    """Provenance and number of values: "measured, n=10"."""
    if figure.value is None:
        return "not taken"
    return figure.provenance if figure.n is None else f"{figure.provenance}, n={figure.n:,}"


def title_of(result: Result) -> str:
    """Model, task, data and split of a result, in one line."""
    subject = result.subject
    return (
        f"{subject.model}, {subject.task}, {subject.data} {subject.split}"
        f" ({subject.samples:,} samples)"
    )
