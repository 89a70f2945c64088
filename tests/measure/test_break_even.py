"""When fine-tuning has paid itself back: the quotient, its interval, and when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from alpine_cli.files import sha256_of
from alpine_cli.measure.break_even import TRAINING_RECORD, break_even, find_training_record
from alpine_cli.results import Environment, Figure, Part, Provenance, Result, Subject, Variant

HERE = Environment(
    cpu_model="a CPU",
    physical_cores=1,
    logical_cores=1,
    usable_cores=1,
    ram_bytes=1,
    os="an OS",
    python="3.11",
    versions={},
)


def figure(
    name: str,
    variant: str,
    samples: list[float],
    provenance: Provenance = "measured",
    unit: str = "J",
) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=float(np.mean(samples)),
        provenance=provenance,
        method="m",
        n=len(samples),
        aggregate="mean",
        samples=samples,
    )


def training(checkpoint: str = "0", **components: tuple[float, Provenance]) -> Result:
    """A fine-tuning of 1000 s whose components used so many joules."""
    amounts = {"finetuning_seconds": (1000.0, "measured", "s")}
    for part, (joules, provenance) in components.items():
        amounts[f"finetuning_energy_{part}"] = (joules, provenance, "J")
    return Result(
        figures=[
            Figure(name=name, variant="pruned", unit=unit, value=value, provenance=kind, method="m")  # type: ignore[arg-type]
            for name, (value, kind, unit) in amounts.items()
        ],
        command=["alpine"],
        kind="training",
        subject=Subject(
            model="m", task="t", head="h", data="d", split="train", samples=1, data_sha256="0"
        ),
        variants={
            "pruned": Variant(
                checkpoint="c", checkpoint_sha256=checkpoint, engine="packed", description="d"
            )
        },
        settings={},
        environment=HERE,
    )


def bench(pruned: list[float], unpruned: list[float], **changes: Any) -> Part:
    """Energy of the GPU (J per sample) in each block, and throughput to match at 100 W."""
    figures = []
    for name, joules in (("pruned", pruned), ("unpruned", unpruned)):
        figures.append(figure("energy_gpu", name, joules, **changes))
        figures.append(figure("energy_gross", name, joules))
        rates = [100.0 / joule for joule in joules]
        figures.append(figure("throughput", name, rates, unit="samples/s"))
    return Part(figures=figures)


def found(part: Part, name: str = "break_even_samples") -> Figure:
    (only,) = [figure for figure in part.figures if figure.name == name]
    return only


UNPRUNED = [2.0, 2.02, 1.98, 2.01, 1.99, 2.0]
PRUNED = [1.0, 1.01, 0.99, 1.005, 0.995, 1.0]


def test_spent_over_saved() -> None:
    part = break_even(bench(PRUNED, UNPRUNED), training(gpu=(50_000.0, "measured")))
    energy, seconds = found(part), found(part, "break_even_samples_by_time")
    assert energy.value == pytest.approx(50_000)  # 1 J saved per sample
    assert energy.variant == "pruned"
    assert (energy.unit, energy.provenance) == ("samples", "measured")
    # 20 ms become 10 ms per sample
    assert seconds.value == pytest.approx(1000 / 0.01, rel=1e-3)
    for one in (energy, seconds):
        assert one.interval is not None
        assert one.value is not None
        assert one.interval.low < one.value < one.interval.high
        assert "inverted" in one.interval.method


def test_the_interval_covers_the_truth() -> None:
    """Blocks that drift together and scatter apart; nominal 95 %."""
    draw = np.random.default_rng(5)
    spent, covered, trials = 10_000.0, 0, 300
    for _ in range(trials):
        drift = draw.normal(1, 0.03, 10)
        pruned, unpruned = (list(mean * drift * draw.normal(1, 0.01, 10)) for mean in (1.4, 2.0))
        interval = found(
            break_even(bench(pruned, unpruned), training(gpu=(spent, "measured")))
        ).interval
        covered += interval is not None and interval.low <= spent / 0.6 <= interval.high
    assert 0.92 <= covered / trials <= 0.98


@pytest.mark.parametrize(
    ("pruned", "reason"),
    [
        ([2.0, 1.9, 2.1, 2.05, 1.95, 2.02], "no saving of energy is shown"),
        ([3.0, 3.1, 2.9, 3.0, 3.05, 2.95], "never pays itself back: pruned uses 1.5"),
        ([3.0], "never pays itself back"),
    ],
)
def test_without_a_saving_there_is_none(pruned: list[float], reason: str) -> None:
    part = break_even(bench(pruned, UNPRUNED[: len(pruned)]), training(gpu=(50_000.0, "measured")))
    assert found(part).value is None
    assert reason in (found(part).reason or "")
    assert part.cautions == []


def test_too_few_runs_give_a_value_without_interval() -> None:
    part = break_even(bench(PRUNED[:3], UNPRUNED[:3]), training(gpu=(50_000.0, "measured")))
    assert found(part).value == pytest.approx(50_000)
    assert found(part).interval is None
    assert "too few runs" in found(part).method


def test_only_components_metered_alike_are_set_against_each_other() -> None:
    measured = bench(PRUNED, UNPRUNED)
    for name in ("pruned", "unpruned"):
        measured.figures.append(figure("energy_cpu", name, [7.0] * 6, "modelled"))
    both = break_even(
        measured, training(gpu=(50_000.0, "measured"), cpu=(9e9, "measured"), ram=(9e9, "modelled"))
    )
    assert found(both).value == pytest.approx(50_000)  # the CPU was measured there, modelled here
    assert "joules of fine-tuning (gpu)" in found(both).method
    neither = found(break_even(measured, training(ram=(1.0, "modelled"))))
    assert neither.value is None
    assert "metered in the same way" in (neither.reason or "")


def test_a_sum_with_a_modelled_part_is_modelled() -> None:
    measured = bench(PRUNED, UNPRUNED)
    for name, joules in (("pruned", 3.0), ("unpruned", 4.0)):
        measured.figures.append(figure("energy_cpu", name, [joules] * 6, "modelled"))
    total = found(
        break_even(measured, training(gpu=(50_000.0, "measured"), cpu=(10_000.0, "modelled")))
    )
    assert total.value == pytest.approx(60_000 / 2)
    assert total.provenance == "modelled"


def test_what_was_not_measured_is_left_out() -> None:
    measured = bench(PRUNED, UNPRUNED)
    no_rates = Part(figures=[f for f in measured.figures if f.name != "throughput"])
    names = [f.name for f in break_even(no_rates, training(gpu=(1.0, "measured"))).figures]
    assert names == ["break_even_samples"]
    assert break_even(Part(), training(gpu=(1.0, "measured"))) == Part()


def test_another_machine_is_told() -> None:
    here = HERE.model_copy(update={"cpu_model": "another CPU"})
    record = training(gpu=(50_000.0, "measured"))
    part = break_even(bench(PRUNED, UNPRUNED), record, environment=here)
    assert [caution.code for caution in part.cautions] == ["other-machine"]
    assert break_even(bench(PRUNED, UNPRUNED), record, environment=HERE).cautions == []


def test_the_record_of_these_very_weights(tmp_path: Path) -> None:
    checkpoint = tmp_path / "ckpt.pt"
    checkpoint.write_bytes(b"weights")
    path = tmp_path / TRAINING_RECORD
    assert find_training_record(checkpoint) is None
    path.write_text("{broken")
    assert find_training_record(checkpoint) is None
    record = training(sha256_of(checkpoint), gpu=(1.0, "measured"))
    path.write_text(record.model_dump_json())
    assert find_training_record(checkpoint) == record
    checkpoint.write_bytes(b"other weights")
    assert find_training_record(checkpoint) is None
