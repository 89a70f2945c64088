"""A result made by hand: known numbers, every kind of figure, nothing measured."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from alpine_cli.measure.statistics import compare_all, mean_interval, spread
from alpine_cli.results import (
    Caution,
    Comparison,
    Environment,
    Figure,
    Interval,
    Result,
    Series,
    Subject,
    Variant,
)

RUNS = {
    "stock": [50.0, 51.0, 49.0, 50.5, 49.5, 50.0],
    "unpruned": [60.0, 61.0, 59.0, 60.5, 59.5, 60.0],
    "pruned": [90.0, 91.5, 88.5, 90.7, 89.3, 90.0],
}
PAIRS = [("pruned", "unpruned"), ("unpruned", "stock"), ("pruned", "stock")]


def make_result(**changes: Any) -> Result:
    """A bench of a four-layer model; `changes` replace fields of the result."""
    figures = []
    for name, rates in RUNS.items():
        figures.append(
            Figure(
                name="throughput",
                variant=name,
                unit="samples/s",
                value=sum(rates) / len(rates),
                provenance="measured",
                method="a clock",
                better="higher",
                n=len(rates),
                aggregate="mean",
                interval=mean_interval(rates),
                spread=spread(rates),
                samples=rates,
            )
        )
        macs = 31.2e9 if name == "pruned" else 48.3e9
        figures.append(
            Figure(
                name="total_macs",
                variant=name,
                unit="MACs",
                value=macs,
                provenance="analytic",
                method="formula",
                per="sample",
                better="lower",
                n=100,
            )
        )
        figures.append(
            Figure(
                name="energy_gross",
                variant=name,
                unit="J",
                value=None,
                reason="no counter",
                provenance="absent",
                method="not taken",
                better="lower",
            )
        )
        figures.append(
            Figure(
                name="accuracy",
                variant=name,
                unit="share",
                value=0.9 if name == "pruned" else 0.92,
                provenance="measured",
                method="count",
                better="higher",
                n=100,
            )
        )
    comparisons = [c for c in compare_all(figures, PAIRS) if c.figure != "accuracy"]
    comparisons.append(
        Comparison(
            figure="accuracy",
            variant="pruned",
            baseline="unpruned",
            better="higher",
            ratio=0.9 / 0.92,
            difference=-0.02,
            difference_interval=Interval(low=-0.08, high=0.03, method="bootstrap"),
            p_value=0.73,
            verdict="no difference shown",
            method="paired",
        )
    )
    series = [
        Series(
            name="mean_length",
            variant=name,
            unit="tokens",
            x_name="after n layers",
            x=[0, 1, 2, 3, 4],
            y=[400, 300, 300, 180, 180] if name == "pruned" else [400] * 5,
            method="mean",
        )
        for name in RUNS
    ]
    series += by_length()
    fields: dict[str, Any] = {
        "id": "0badcafe",
        "created": datetime(2026, 11, 21, 7, 0, tzinfo=UTC),
        "command": ["alpine", "bench"],
        "kind": "bench",
        "subject": Subject(
            model="tiny",
            task="clone-detection",
            head="alpine",
            data="bcb",
            split="test",
            samples=100,
            data_sha256="0" * 64,
        ),
        "variants": {
            name: Variant(
                checkpoint="runs/ckpt.pt",
                checkpoint_sha256="0" * 64,
                engine="packed",
                pruning={"layers": "even", "alpha": 1.0} if name == "pruned" else None,
                description=f"what {name} is",
            )
            for name in RUNS
        },
        "settings": {"device": "cpu", "batch_size": 32},
        "environment": Environment(
            cpu_model="CPU",
            physical_cores=2,
            logical_cores=2,
            usable_cores=2,
            threads=1,
            ram_bytes=1,
            gpu_note="none",
            os="Linux",
            python="3.11",
            versions={"torch": "2.13"},
        ),
        "figures": figures,
        "comparisons": comparisons,
        "series": series,
        "cautions": [Caution(code="busy-machine", text="the machine was busy")],
    }
    return Result(**fields | changes)


def by_length() -> list[Series]:
    """Throughput in two bins of length, and what pruning gains there."""
    axis: dict[str, Any] = {
        "x_name": "tokens",
        "x": [40.0, 100.0],
        "labels": ["1–64 tokens", "65–128 tokens"],
        "method": "made by hand",
    }
    rates = [
        Series(
            name="throughput_by_length",
            variant=name,
            unit="samples/s",
            y=[100.0, rate],
            low=[95.0, 0.95 * rate],
            high=[105.0, 1.05 * rate],
            **axis,
        )
        for name, rate in (("unpruned", 50.0), ("pruned", 80.0))
    ]
    gain = Series(
        name="speedup_by_length",
        variant="pruned",
        baseline="unpruned",
        unit="1",
        y=[1.0, 1.6],
        low=[0.9, 1.5],
        high=[1.1, 1.7],
        **axis,
    )
    return [*rates, gain]


def with_energy(
    result: Result, joules: float, grams: float, provenance: Any = "measured"
) -> Result:
    """The result with energy per sample and CO2 per 1000 samples of every variant."""
    kept = [figure for figure in result.figures if figure.name != "energy_gross"]
    for name in result.variants:
        for figure, value, unit, per in (
            ("energy_gross", joules, "J", "sample"),
            ("co2", grams, "g CO2e", "1000 samples"),
        ):
            kept.append(
                Figure(
                    name=figure,
                    variant=name,
                    unit=unit,
                    per=per,
                    value=value,
                    provenance=provenance,
                    method="a counter",
                    better="lower",
                    n=6,
                    aggregate="mean",
                )
            )
    return result.model_copy(update={"figures": kept})
