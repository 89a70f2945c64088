"""The front of a sweep as a table and as a picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from alpine_cli.measure.grid import Setting
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report import front_figure
from alpine_cli.report.front import front_points, front_table
from alpine_cli.report.front_figure import draw_front
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
    assert row[2].text == "band, mean"
    assert (row[4].text, row[4].value) == ("50.0", 50.0)
    assert row[6].text == "-4.0 [-6.0, -2.0]"
    assert (row[6].low, row[6].high, row[6].style) == (-6.0, -2.0, "worse")


def with_rivals() -> Result:
    """A sweep of other rules, named as a grid names them."""
    prunings = [
        PruningConfig(layers="all", rule="top", keep=0.6, merge="nearest"),
        PruningConfig(layers="all", rule="top", keep=0.6, merge="mean", score="cls"),
        PruningConfig(layers="even", rule="floor", alpha=1.0),
        PruningConfig(layers="all", rule="bipartite", keep=0.8, merge="nearest"),
    ]
    settings = [
        *map(Setting.of, prunings),
        *(Setting.truncation(PruningConfig(), length) for length in (64, 128)),
    ]
    made = swept()
    figures, variants = list(made.figures), dict(made.variants)
    for place, setting in enumerate(settings):
        variants[setting.name] = made.variants["unpruned"].model_copy(
            update={"pruning": setting.pruning.to_dict(), "max_length": setting.max_length}
        )
        for name, unit, value in (
            ("total_macs", "MACs", 20.0 + place),
            ("accuracy", "share", 0.8 + place / 100),
        ):
            fields = {"name": name, "variant": setting.name, "unit": unit, "value": value}
            figures.append(Figure(**fields, provenance="analytic", method="made"))
    return made.model_copy(update={"figures": figures, "variants": variants})


def test_rules_are_series() -> None:
    points = {point.name: point for point in front_points(with_rivals())}
    assert {point.series for name, point in points.items() if name != "unpruned"} == {
        *("band, mean", "band, none", "top, nearest", "top by cls, mean"),
        *("floor, mean", "bipartite", "truncate"),
    }
    assert points["truncate 64"].chain == points["truncate 128"].chain
    assert points["even α=0.5 mean"].chain != points["all α=1 mean"].chain
    assert {name for name, point in points.items() if point.published} == {"all α=1 mean"}
    table = front_table(with_rivals())
    assert table is not None
    named = {row[1].text: row[2].text for row in table.rows}
    assert named["all top-cls 60% mean"] == "top by cls, mean"
    assert named["unpruned"] == ""


def test_every_series_has_a_look_of_its_own(tmp_path: Path) -> None:
    points = [point for point in front_points(with_rivals()) if point.name != "unpruned"]
    looks = {point.series: str(sorted(front_figure._look(point).items())) for point in points}
    assert len(set(looks.values())) == len(looks) == 7
    path = tmp_path / "front.svg"
    assert draw_front(with_rivals(), path)
    text = path.read_text("utf-8")
    assert all(series in text for series in looks)


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_picture_is_drawn(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"front{suffix}"
    assert draw_front(swept(), path) is True
    content = path.read_bytes()
    assert len(content) > 2000
    if suffix == ".svg":
        text = content.decode("utf-8")
        for word in ("unpruned", "published rule", "Pareto front", "layers even", "band, none"):
            assert word in text
        assert "<b>" not in text  # a name is text, not markup


def test_a_result_without_a_front_draws_nothing(tmp_path: Path) -> None:
    bench = make_result(figures=[], comparisons=[])
    assert front_points(bench) == []
    assert front_table(bench) is None
    assert draw_front(bench, tmp_path / "front.png") is False
    assert not (tmp_path / "front.png").exists()
