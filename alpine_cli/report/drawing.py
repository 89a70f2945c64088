"""What all pictures share: one look, colours told apart by any eye, files made whole or not at all.

The suffix of the path decides the form: .png at 150 dots per inch, .svg with its text kept as
text (small, searchable, and `inline_svg` can set it in the colours of a dark page); a path without
suffix gets both, drawn once. The colours are
those of Okabe and Ito; whatever a colour means is also said by a word, a marker or a line style.
Names come from result files, so text is never read as mathematics.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alpine_cli.files import atomic_path

__all__ = [
    "BLUE",
    "GREEN",
    "GREY",
    "GRID",
    "INK",
    "ORANGE",
    "PAPER",
    "QUIET",
    "SKY",
    "VARIANT_COLOURS",
    "VARIANT_STYLES",
    "VERDICT_COLOURS",
    "YELLOW",
    "clip",
    "drawn",
    "headline",
]

INK = "#222222"
QUIET = "#555555"
GRID = "#dddddd"
PAPER = "#ffffff"
GREY = "#999999"
SKY = "#56b4e9"
BLUE = "#0072b2"
GREEN = "#009e73"
ORANGE = "#d55e00"
YELLOW = "#e69f00"

VARIANT_COLOURS = {"stock": GREY, "unpruned": SKY, "pruned": ORANGE, "reference": GREEN}
VARIANT_STYLES: dict[str, dict[str, Any]] = {
    "stock": {"color": GREY, "marker": "s", "linestyle": ":"},
    "unpruned": {"color": SKY, "marker": "o", "linestyle": "--"},
    "pruned": {"color": ORANGE, "marker": "o", "linestyle": "-"},
    "reference": {"color": GREEN, "marker": "^", "linestyle": "-."},
}
VERDICT_COLOURS = {
    "better": GREEN,
    "worse": ORANGE,
    "no difference shown": GREY,
    "not judged": GREY,
}

_DPI = 150
_SUBTITLE = "subtitle"
_CHARACTERS_PER_INCH = 15  # of a subtitle in 9 points
_LOOK: dict[Any, Any] = {
    # widths are DejaVu's, which ships with matplotlib; no usual substitute is wider
    "font.sans-serif": ["DejaVu Sans", "Verdana", "Arial", "sans-serif"],
    "svg.fonttype": "none",
    "svg.hashsalt": "alpine",  # the same result gives the same bytes
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
}


@contextmanager
def drawn(path: Path, width: float, height: float) -> Iterator[Any]:
    """Lend a matplotlib Figure; it becomes `path` when the block ends well.

    Args:
        path: ends in .png or .svg, or has no suffix: then both are written.
        width, height: inches.

    Raises:
        ValueError: another suffix.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if path.suffix not in (".png", ".svg", ""):
        raise ValueError(f"{path}: a picture ends in .png or .svg")
    paths = [path] if path.suffix else [path.with_suffix(suffix) for suffix in (".png", ".svg")]
    with matplotlib.rc_context(_LOOK), warnings.catch_warnings():
        # A name in a script the font lacks is drawn as boxes; the tables have it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        # Names can be so long that nothing else has room; the picture is then as it can be.
        warnings.filterwarnings("ignore", message="constrained_layout not applied")
        # Not pyplot: it keeps global state and may look for a display.
        figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        yield figure
        _keep_inside(figure)
        for one in paths:
            form = one.suffix.removeprefix(".")
            metadata = {"Date": None, "Creator": None} if form == "svg" else None
            with atomic_path(one) as temporary:
                figure.savefig(temporary, format=form, metadata=metadata)
            figure.set_layout_engine("none")  # laid out once; the second form keeps the places


def headline(axes: Any, title: str, subtitle: str = "") -> None:
    """A bold title over a quiet line; both are cut to the width of the figure."""
    room = int(axes.figure.get_figwidth() * _CHARACTERS_PER_INCH)
    shown = clip(subtitle, room)
    axes.set_title(f"{title}\n", loc="left", fontsize=12, fontweight="bold")
    # in points above the axes: a share of their height would climb into the title of a tall one
    axes.annotate(
        shown, (0, 1), xycoords="axes fraction", xytext=(0, 5), textcoords="offset points",
        fontsize=9, color=QUIET, va="bottom", annotation_clip=False, gid=_SUBTITLE,
    )  # fmt: skip


def _keep_inside(figure: Any) -> None:
    """Cut subtitles at the right edge of the figure: where they begin is known once laid out."""
    figure.draw_without_rendering()
    edge = figure.bbox.width - 4
    for axes in figure.axes:
        for text in axes.texts:
            while text.get_gid() == _SUBTITLE and text.get_window_extent().x1 > edge:
                shown = text.get_text()
                if len(shown) < 10:
                    break
                text.set_text(clip(shown, len(shown) - 2))


def clip(text: str, longest: int) -> str:
    """The text on one line, cut to so many characters; the tables have it in full."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"
