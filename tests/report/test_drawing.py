"""Pictures: form by suffix, whole or not at all, the same bytes each time, and what they say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from alpine_cli.report import figures
from alpine_cli.report.bins import joined
from alpine_cli.report.cost_figures import draw_macs_per_layer, draw_memory
from alpine_cli.report.drawing import clip, drawn, headline
from alpine_cli.report.figures import draw_changes, draw_lengths
from alpine_cli.report.pictures import DRAWERS, draw_all, slug
from alpine_cli.report.speed_figures import draw_learning_curves, draw_throughput_by_length
from alpine_cli.results import Figure, Result, Series
from tests.report.made import by_length, make_result


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
        "throughput_by_length", "pruned", [None, 5.0, 6.0], unit="samples/s",
        low=[None, 6.0, 5.0], high=[None, 7.0, 7.0], labels=["none here", "x" * 99, "y"],
    )  # fmt: skip
    assert draw_throughput_by_length(with_series(holes), tmp_path / "speed.svg")
    assert f"{'x' * 23}…" in words(tmp_path / "speed.svg")


def test_one_bin_of_length_makes_no_curve(tmp_path: Path) -> None:
    """A single point stood in the middle of two empty axes."""
    one = [
        curve.model_copy(update={"x": [40.0], "y": curve.y[:1], "low": None, "high": None,
                                 "labels": ["1–64 tokens"]})
        for curve in by_length()
    ]  # fmt: skip
    assert not draw_throughput_by_length(with_series(*one), tmp_path / "one.svg")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("labels", "near"),
    [
        (["1–64 tokens", "65–128 tokens", "257–384 tokens"], [True, False]),
        (["short", "65–128 tokens", "long"], [True, True]),
        (["1–16 tokens"], []),
        (None, [True, True]),
    ],
)
def test_no_line_is_drawn_across_lengths_that_were_not_timed(
    labels: list[str] | None, near: list[bool]
) -> None:
    assert joined(labels, 3) == near


def test_what_is_written_stays_inside_the_picture(tmp_path: Path) -> None:
    """Long names of models ran out of pictures whose axes begin far to the right."""
    with drawn(tmp_path / "x.png", 4, 2) as figure:
        axes = figure.add_subplot()
        axes.set_yticks([0], ["a long label beside the axes"])
        headline(axes, "Title", "name of a model " * 9)
    (subtitle,) = axes.texts
    assert subtitle.get_window_extent().x1 <= figure.bbox.width
    assert subtitle.get_text().endswith("…")


def test_the_tokens_left_are_told_beside_the_curve(tmp_path: Path) -> None:
    """Above the end of a curve that falls steeply, the words lay on it."""
    y = [100.0, 90.0, 60.0, 14.0]
    result = with_series(series("mean_length", "pruned", y, unit="tokens", x_name="layers passed"))
    seen: list[Any] = []

    @contextmanager
    def watched(*args: Any) -> Iterator[Any]:
        with drawn(*args) as figure:
            yield figure
        seen.append(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "drawn", watched)
        assert draw_lengths(result, tmp_path / "x.png")
    (axes,) = seen[0].axes
    told = next(text for text in axes.texts if "tokens left" in text.get_text())
    end = axes.transData.transform((3.0, 14.0))
    assert told.get_window_extent().x0 > end[0]
    assert told.get_window_extent().x1 <= seen[0].bbox.width
    assert max(axes.get_xticks()) <= 3  # there is no fourth layer


def test_memory_names_the_batches_of_what_was_measured_only(tmp_path: Path) -> None:
    """ "training at batch 8" was said where no training step had been measured."""
    inference = Figure(
        name="inference_memory_run", variant="pruned", unit="bytes", value=6e7,
        provenance="measured", aggregate="median", n=1, method="made by hand",
    )  # fmt: skip
    training = inference.model_copy(update={"name": "training_memory_run"})
    settings = {"batch_size": 16, "training_batch_size": 8}
    assert draw_memory(make_result(figures=[inference], settings=settings), tmp_path / "a.svg")
    assert "Memory (inference at batch 16)" in words(tmp_path / "a.svg")
    both = make_result(figures=[inference, training], settings=settings)
    assert draw_memory(both, tmp_path / "b.svg")
    assert "Memory (inference at batch 16, training at batch 8)" in words(tmp_path / "b.svg")


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
