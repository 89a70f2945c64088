"""What a bench tells on stderr: in a pipe a line per measure, on a terminal bars."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from alpine_cli.cli._progress import BenchProgress, cell_name, least_seconds
from alpine_cli.errors import MeasurementError
from alpine_cli.measure.options import MeasureOptions


@dataclass
class FakePlan:
    options: MeasureOptions
    variants: dict[str, None] = field(
        default_factory=lambda: dict.fromkeys(("stock", "unpruned", "pruned"))
    )


def plans(*sizes: int) -> Any:
    return [
        FakePlan(MeasureOptions(checkpoint=Path("a/ckpt.pt"), batch_size=size, device="cpu"))
        for size in sizes
    ]


def told(*, terminal: bool, sizes: tuple[int, ...] = (1,)) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, color_system=None)
    with BenchProgress(console) as bench:
        bench.planned(plans(*sizes), ("flops", "throughput"), [["flops"]] + [[]] * len(sizes[1:]))
        for number in range(len(sizes)):
            cell = bench.cell(number)
            cell.finished("flops", 20.0, "kept" if number == 0 else "measured")
            cell.progress("throughput", 1, 1000, "warm-up")
            cell.finished("throughput", 40.0, "measured")
            bench.written(number, type("M", (), {"path": Path("out/x.json")})())
    return stream.getvalue()


def test_a_pipe_gets_a_plain_line_per_measure() -> None:
    assert told(terminal=False).splitlines() == [
        "resumed: 1 answer of the interrupted bench taken up",
        "flops taken up from before; at least 45 s left",
        "throughput done in 40 s",
    ]


def test_several_cells_are_told_apart_and_the_time_left_learns() -> None:
    lines = told(terminal=False, sizes=(1, 32)).splitlines()
    assert "cell 1 of 2 (batch 1): throughput done in 40 s; about 1 min left" in lines
    assert "cell 2 of 2 (batch 32): flops done in 20 s; about 40 s left" in lines
    assert lines[-1] == "cell 2 of 2 (batch 32): written: out/x.json"


def test_a_terminal_gets_bars() -> None:
    text = told(terminal=True)
    assert "━" in text
    assert "throughput done in 40 s" in text


def test_a_cell_that_failed_is_told() -> None:
    stream = io.StringIO()
    with BenchProgress(Console(file=stream, width=100)) as bench:
        bench.planned(plans(1, 512), ("flops",))
        bench.cell(0).finished("flops", 1.0, "failed")
        bench.failed(0, MeasurementError("ran out of memory"))
    assert "cell 1 of 2 (batch 1): not measured: ran out of memory" in stream.getvalue()


def test_a_cell_is_named_by_what_differs() -> None:
    several = plans(1, 32)
    assert [cell_name(plan, several) for plan in several] == ["batch 1", "batch 32"]
    assert cell_name(several[0], several[:1]) == ""


@pytest.mark.parametrize(
    ("kind", "training", "seconds"),
    [("throughput", False, 30.0), ("throughput", True, 45.0), ("flops", True, 0.0)],
)
def test_the_least_a_measure_takes_is_what_was_asked_of_each_variant(
    kind: str, training: bool, seconds: float
) -> None:
    plan = FakePlan(MeasureOptions(checkpoint=Path("x"), training_throughput=training))
    assert least_seconds(plan, (kind,)) == {kind: seconds}  # type: ignore[arg-type]


def test_what_nothing_is_known_of_is_counted() -> None:
    """The first lines of a bench of twenty minutes said "at least 30 s left"."""
    stream = io.StringIO()
    with BenchProgress(Console(file=stream, width=100)) as bench:
        bench.planned(plans(1), ("accuracy", "flops", "throughput"))
        bench.cell(0).finished("accuracy", 20.0, "measured")
        bench.cell(0).finished("flops", 20.0, "measured")
    assert stream.getvalue().splitlines() == [
        "accuracy done in 20 s; 2 measures to go",
        "flops done in 20 s; at least 45 s left",
    ]
