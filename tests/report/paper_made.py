"""Results made by hand in the shape of the paper's runs: known numbers, nothing measured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from alpine_cli.results import (
    Comparison,
    Environment,
    Figure,
    Gpu,
    Interval,
    Kind,
    Provenance,
    Result,
    Series,
    Subject,
    Variant,
)

UNITS = {
    "accuracy": "share",
    "f1": "share",
    "total_macs": "MACs",
    "total_flops": "FLOPs",
    "throughput": "samples/s",
    "energy_gross": "J",
    "energy_gpu": "J",
    "inference_memory_run": "bytes",
    "inference_memory_cuda_run": "bytes",
    "finetuning_seconds": "s",
    "finetuning_co2": "g CO2e",
}
HIGHER = ("accuracy", "f1", "throughput")
START = datetime(2026, 11, 21, 7, 0, tzinfo=UTC)


def figure(
    name: str, variant: str, value: float | None, provenance: Provenance = "measured"
) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=UNITS[name],
        value=value,
        reason=None if value is not None else "no counter",
        provenance="absent" if value is None else provenance,
        method="made by hand",
        better="higher" if name in HIGHER else "lower",
    )


def pruning(layers: str = "all", **changes: Any) -> dict[str, Any]:
    settings = {"layers": layers, "alpha": 1.0, "merge": "mean", "protect": "ends"}
    return {**settings, "engine": "packed", **changes}


def variant(
    settings: dict[str, Any] | None, checkpoint: str = "a", seed: int | None = 123456
) -> Variant:
    return Variant(
        checkpoint="run/ckpt.pt",
        checkpoint_sha256=checkpoint * 64,
        engine="transformers (sdpa)" if settings is None else settings["engine"],
        pruning=settings,
        training_seed=seed,
        description="made by hand",
    )


def bench(
    number: int = 1,
    *,
    model: str = "codebert",
    task: str = "defect-detection",
    samples: int | None = None,
    split: str = "test",
    data: str | None = None,
    values: dict[str, dict[str, float | None]] | None = None,
    settings: dict[str, Any] | None = None,
    variants: dict[str, Variant] | None = None,
    kind: Kind = "bench",
    gpu: str | None = None,
    curves: dict[str, list[float]] | None = None,
    provenance: Provenance = "measured",
    comparisons: list[Comparison] | None = None,
) -> Result:
    """A result of one model; by default stock, unpruned and pruned (all) with no figure."""
    defect = task == "defect-detection"
    variants = variants or {
        "stock": variant(None),
        "unpruned": variant(pruning("none")),
        "pruned": variant(pruning("all"), "b"),
    }
    gpus = [Gpu(name=gpu, uuid="GPU-0")] if gpu else []
    return Result(
        id=f"{number:08x}",
        created=START + timedelta(minutes=number),
        command=["alpine", "bench"],
        kind=kind,
        subject=Subject(
            model=model,
            task=task,
            head="alpine",
            data=data or ("devign" if defect else "bcb"),
            split=split,
            samples=samples or (2732 if defect else 4154),
            data_sha256="0" * 64,
        ),
        variants=variants,
        settings={
            "device": "cuda:0" if gpu else "cpu",
            "batch_size": 32,
            "flops_batch_size": 1,
            "max_length": 512,
            **(settings or {}),
        },
        environment=Environment(
            cpu_model="Test CPU",
            physical_cores=2,
            logical_cores=2,
            usable_cores=2,
            threads=1,
            ram_bytes=1,
            gpus=gpus,
            gpu_note=None if gpu else "none",
            os="Linux",
            python="3.11",
            versions={"torch": "2.13"},
        ),
        figures=[
            figure(name, of, value, provenance)
            for of, found in (values or {}).items()
            for name, value in found.items()
        ],
        comparisons=comparisons or [],
        series=[
            Series(
                name="mean_length",
                variant=of,
                unit="tokens",
                x_name="after n layers",
                x=list(range(len(lengths))),
                y=lengths,
                method="mean",
            )
            for of, lengths in (curves or {}).items()
        ],
    )


def faster(ratio: float, low: float, high: float, name: str = "throughput") -> Comparison:
    return Comparison(
        figure=name,
        variant="pruned",
        baseline="unpruned",
        better="higher",
        ratio=ratio,
        interval=Interval(low=low, high=high, method="made"),
        verdict="better",
        method="made",
    )


def training(
    number: int,
    layers: str,
    seconds: float,
    *,
    model: str = "codebert",
    task: str = "defect-detection",
    gpu: str | None = "NVIDIA A100-SXM4-80GB",
    co2: float = 100.0,
    **train: Any,
) -> Result:
    """What a fine-tuning run writes: one variant, its time and CO2."""
    name = "unpruned" if layers == "none" else "pruned"
    config = {"train": {"epochs": 5, "batch_size": 32, "max_length": 512, **train}}
    return bench(
        number,
        model=model,
        task=task,
        kind="training",
        split="train",
        samples=21854 if task == "defect-detection" else 90102,
        variants={name: variant(pruning(layers))},
        values={name: {"finetuning_seconds": seconds, "finetuning_co2": co2}},
        settings={"config": config},
        gpu=gpu,
    )
