"""The front of a sweep as a table and as a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpine_cli.report.front import draw_front, front_points, front_table
from alpine_cli.results import Comparison, Figure, Interval, Result
from tests.report.made import make_result

# name: (multiply-adds, accuracy, drop interval)
SETTINGS = {
    "unpruned": (100.0, 0.94, None),
    "all α=1 mean": (50.0, 0.90, (-0.06, -0.02)),
    "all α=1 none": (45.0, 0.86, (-0.10, -0.06)),
    "even α=0.5 mean": (60.0, 0.89, (-0.07, -0.03)),
    "0,2 α=1 <b> mean": (80.0, 0.95, (-0.01, 0.03)),
}


def swept() -> Result:
    """A sweep of four settings with known costs and accuracies."""
    template = make_result().variants["unpruned"]
    figures, comparisons, variants = [], [], {}
    for name, (macs, accuracy, drop) in SETTINGS.items():
        layers, alpha, *_, merge = name.split() if drop else ("none", "α=1", "mean")
        pruning = {"layers": layers, "alpha": float(alpha[2:]), "merge": merge}
        variants[name] = template.model_copy(update={"pruning": pruning})
        for figure, unit, value in (("total_macs", "MACs", macs), ("accuracy", "share", accuracy)):
            fields = {"name": figure, "variant": name, "unit": unit, "value": value}
            figures.append(Figure(**fields, provenance="analytic", method="made"))
        if drop is not None:
            comparisons.append(
                Comparison(
                    figure="accuracy",
                    variant=name,
                    baseline="unpruned",
                    better="higher",
                    difference=accuracy - 0.94,
                    difference_interval=Interval(low=drop[0], high=drop[1], method="made"),
                    p_value=0.01,
                    verdict="worse" if drop[1] < 0 else "no difference shown",
                    method="made",
                )
            )
    return make_result(
        kind="sweep",
        figures=figures,
        comparisons=comparisons,
        series=[],
        variants=variants,
        settings={"metric": "accuracy"},
    )


def test_points_are_sorted_by_cost_and_the_front_is_marked() -> None:
    points = front_points(swept())
    assert [point.macs for point in points] == sorted(point.macs for point in points)
    assert [point.name for point in points if point.on_front] == [
        "all α=1 none",
        "all α=1 mean",
        "0,2 α=1 <b> mean",
    ]
    assert {point.name for point in points if point.published} == {"all α=1 mean"}
    assert {point.name: point.share for point in points}["all α=1 mean"] == 0.5


def test_the_table_has_a_row_per_setting() -> None:
    table = front_table(swept())
    assert table is not None
    assert len(table.rows) == len(SETTINGS)
    row = next(row for row in table.rows if row[1].text == "all α=1 mean")
    assert row[0].text == "* P"
    assert (row[3].text, row[3].value) == ("50.0", 50.0)
    assert row[5].text == "-4.0 [-6.0, -2.0]"
    assert (row[5].low, row[5].high, row[5].style) == (-6.0, -2.0, "worse")


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"front{suffix}"
    assert draw_front(swept(), path) is True
    content = path.read_bytes()
    assert len(content) > 2000
    if suffix == ".svg":
        text = content.decode("utf-8")
        for word in ("unpruned", "published rule", "Pareto front", "layers even", "merge none"):
            assert word in text
        assert "<b>" not in text  # a name is text, not markup


def test_a_result_without_a_front_draws_nothing(tmp_path: Path) -> None:
    bench = make_result(figures=[], comparisons=[])
    assert front_points(bench) == []
    assert front_table(bench) is None
    assert draw_front(bench, tmp_path / "front.png") is False
    assert not (tmp_path / "front.png").exists()
