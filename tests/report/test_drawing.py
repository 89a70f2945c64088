"""Pictures: form by suffix, whole or not at all, the same bytes each time, and what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from alpine_cli.report.cost_figures import draw_macs_per_layer, draw_memory
from alpine_cli.report.drawing import clip, drawn, headline
from alpine_cli.report.figures import draw_changes, draw_lengths
from alpine_cli.report.pictures import DRAWERS, draw_all, slug
from alpine_cli.report.speed_figures import draw_learning_curves, draw_throughput_by_length
from alpine_cli.results import Figure, Result, Series
from tests.report.made import make_result


def words(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    assert text.lstrip().startswith("<?xml")
    return text


def series(name: str, variant: str, y: list[Any], **rest: Any) -> Series:
    fields: dict[str, Any] = {"unit": "MACs", "x_name": "layer", "method": "made by hand"}
    fields |= {"x": [float(at) for at in range(len(y))], **rest}
    return Series(name=name, variant=variant, y=y, **fields)


def with_series(*curves: Series, **changes: Any) -> Result:
    return make_result(series=list(curves), **changes)


def test_a_path_without_suffix_gets_both_forms(tmp_path: Path) -> None:
    for _ in range(2):
        with drawn(tmp_path / "x", 3, 2) as figure:
            headline(figure.add_subplot(), "$\\frac{1", "€ 漢字 <&>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png", "x.svg"]
    assert "$\\frac{1" in words(tmp_path / "x.svg")  # text, not mathematics


def test_the_same_drawing_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        assert draw_lengths(make_result(), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_drawing_that_fails_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), drawn(tmp_path / "x.png", 3, 2):
        raise RuntimeError
    with (
        pytest.raises(ValueError, match=r"ends in \.png or \.svg"),
        drawn(tmp_path / "x.pdf", 3, 2),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_draw_is_said_and_not_drawn(tmp_path: Path) -> None:
    empty = make_result(figures=[], comparisons=[], series=[])
    for draw, _ in DRAWERS.values():
        assert draw(empty, tmp_path / "x.svg") is False
    assert draw_all([empty], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


def test_changes_are_told_in_words(tmp_path: Path) -> None:
    assert draw_changes(make_result(), tmp_path / "x.svg")
    text = words(tmp_path / "x.svg")
    for told in ("150%  better", "65%  better", "98%  no difference shown", "higher is better"):
        assert told in text, told


def test_the_published_curve_stands_beside_ours(tmp_path: Path) -> None:
    result = make_result()
    assert draw_lengths(result, tmp_path / "ours.svg")
    assert "published" not in words(tmp_path / "ours.svg")
    subject = result.subject.model_copy(update={"model": "microsoft/codebert-base"})
    known = result.model_copy(update={"subject": subject})
    assert draw_lengths(known, tmp_path / "both.svg")
    assert "published: CodeBERT, even" in words(tmp_path / "both.svg")
    many = [series("mean_length", "pruned", [2.0, 1.0], unit="tokens") for _ in range(7)]
    assert not draw_lengths(with_series(*many), tmp_path / "many.svg")


def test_memory_names_every_variant_with_its_value(tmp_path: Path) -> None:
    figures = [
        Figure(
            name="inference_memory_run",
            variant=name,
            unit="bytes",
            value=size * 2.0**20,
            provenance="measured",
            method="made by hand",
        )
        for name, size in (("stock", 100), ("unpruned", 80), ("pruned", 60))
    ]
    result = make_result(figures=figures, comparisons=[])
    assert draw_memory(result, tmp_path / "x.svg")
    text = words(tmp_path / "x.svg")
    assert "pruned: 60.0 MiB" in text
    assert "stock: 100 MiB" in text


def test_layers_and_lengths_with_gaps_are_drawn(tmp_path: Path) -> None:
    macs = [
        series(f"{part}_macs_per_layer", name, [3e9, value])
        for part in ("attention", "feed_forward")
        for name, value in (("unpruned", 3e9), ("pruned", 1e9))
    ]
    assert draw_macs_per_layer(with_series(*macs), tmp_path / "macs.svg")
    assert "multiply-adds per sample [GMACs]" in words(tmp_path / "macs.svg")
    holes = series(
        "throughput_by_length", "pruned", [None, 5.0], unit="samples/s",
        low=[None, 6.0], high=[None, 7.0], labels=["none here", "x" * 99],
    )  # fmt: skip
    assert draw_throughput_by_length(with_series(holes), tmp_path / "speed.svg")
    assert f"{'x' * 23}…" in words(tmp_path / "speed.svg")


def test_learning_curves_of_a_training_are_drawn(tmp_path: Path) -> None:
    curve = series("learning_curve", "pruned", [0.5, 0.7], unit="share", x_name="epoch")
    assert draw_learning_curves(with_series(curve, kind="training"), tmp_path / "x.svg")
    assert "epoch" in words(tmp_path / "x.svg")


def test_names_of_files_hold_no_path() -> None:
    assert slug("../../etc/passwd") == "etc-passwd"
    assert slug("…") == "unnamed"
    assert len(slug("a" * 500)) == 40
    assert clip("a\nb  c", 99) == "a b c"
    assert clip("abcdef", 4) == "abc…"
