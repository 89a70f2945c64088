"""The waterfall: drawn from the series alone, every step with its signed number."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from alpine_cli.measure.anatomy_steps import STEPS, Costs, anatomy_part
from alpine_cli.report.waterfall import _draw_bars, draw_waterfall
from alpine_cli.results import Result
from tests.report.made import make_result


@pytest.fixture(scope="module")
def result() -> Result:
    """Ten samples: 50 ms unpruned, 30 ms pruned, and every kind of loss."""
    costs = Costs(
        attention_unpruned=60,
        attention_pruned=20,
        feed_forward_unpruned=40,
        feed_forward_pruned=20,
        total_unpruned=100,
        total_pruned=40,
        total_shortest=1,
    )
    passes = {
        "unpruned": 0.5,
        "pruned": 0.3,
        "replayed": 0.26,
        "selection": 0.01,
        "repacking": 0.02,
        "shortest": 0.055,
    }
    wobble = 1 + 0.01 * np.arange(6)
    seconds = {name: value * wobble for name, value in passes.items()}
    part = anatomy_part(seconds, costs, samples=10, where="here", seed=0)
    return make_result(figures=part.figures, series=part.series, comparisons=[])


def test_every_step_is_named_and_numbered(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "waterfall.svg"
    assert draw_waterfall(result, path)
    text = path.read_text(encoding="utf-8")
    for step in STEPS:
        assert step.label in text
    # 0.5 s x 1.025 (the mean wobble) over ten samples; and 40 of 100 multiply-adds of attention
    for number in ("51.2", "\N{MINUS SIGN}20.5", "+3.07", "2.50× fewer multiply-adds", "1.67× the"):
        assert number in text


def test_a_png_is_a_png(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "waterfall.png"
    assert draw_waterfall(result, path)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_each_bar_starts_where_the_last_one_ended(result: Result) -> None:
    """Read back from what is drawn, not from what was meant to be."""
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    values = [value for value in result.series[0].y if value is not None]
    _draw_bars(axes, values)
    bars = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]
    assert bars[0] == (0, values[0])
    for (_, end), (start, _) in pairwise(bars[:-1]):
        assert start == pytest.approx(end)
    assert bars[-1] == (0, values[-1])
    assert bars[-2][1] == pytest.approx(values[-1])


def test_a_result_without_anatomy_has_no_waterfall(tmp_path: Path) -> None:
    path = tmp_path / "waterfall.svg"
    assert not draw_waterfall(make_result(), path)
    assert not path.exists()
