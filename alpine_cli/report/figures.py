"""Pictures of a result: how sequences shorten from layer to layer, and what pruning changed.

Drawn with matplotlib's file back end; colours are those of Okabe and Ito, told apart by people
with any colour vision, and every meaning is also said in words or by a marker.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alpine_cli.files import atomic_path
from alpine_cli.report.summary import SummaryRow, summarise, title_of
from alpine_cli.results import Interval, Result

__all__ = ["draw_changes", "draw_lengths"]

_VARIANT_STYLE: dict[str, dict[str, Any]] = {
    "stock": {"color": "#999999", "marker": "s", "linestyle": ":"},
    "unpruned": {"color": "#56B4E9", "marker": "o", "linestyle": "--"},
    "pruned": {"color": "#D55E00", "marker": "o", "linestyle": "-"},
    "reference": {"color": "#009E73", "marker": "^", "linestyle": "-."},
}
_VERDICT_COLOUR = {
    "better": "#009E73",
    "worse": "#D55E00",
    "no difference shown": "#999999",
    "not judged": "#999999",
}
_DPI = 150
_INK = "#222222"


def draw_lengths(result: Result, path: Path) -> bool:
    """The mean length after every layer, a curve per variant; False if there is nothing to draw."""
    curves = [series for series in result.series if series.name == "mean_length"]
    pruned = [series for series in curves if series.variant in ("pruned", "reference")]
    # stock and unpruned run at the same lengths: one line says it for both
    flat = [series for series in curves if series.variant == "unpruned"] or curves[:1]
    if not curves:
        return False
    figure, axes = _new_figure(7.0, 4.0)
    for series in [*flat, *[s for s in pruned if s.variant == "pruned"]] or curves:
        style = _VARIANT_STYLE[series.variant]
        axes.plot(series.x, series.y, label=series.variant, linewidth=2, markersize=5, **style)
        first, last = series.y[0], series.y[-1]
        if series.variant == "pruned" and first and last:
            axes.annotate(
                f"{last:.0f} of {first:.0f} tokens left ({last / first:.0%})",
                (series.x[-1], last),
                xytext=(0, -20),
                textcoords="offset points",
                ha="right",
                color=_INK,
            )
    axes.set_ylim(bottom=0)
    axes.set_xlim(-0.3, max(curves[0].x) + 0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layers passed")
    axes.set_ylabel("mean tokens per function")
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)
    axes.legend(frameon=False, loc="lower left")
    pruning = (result.variants["pruned"].pruning or {}) if "pruned" in result.variants else {}
    what = f"layers {pruning['layers']}, α = {pruning['alpha']:g}" if pruning else "not pruned"
    _title(axes, f"Sequence length through the encoder ({what})", title_of(result))
    _save(figure, path)
    return True


def draw_changes(result: Result, path: Path) -> bool:
    """Pruned relative to unpruned, a bar per figure with its interval; False without any."""
    rows = [row for row in summarise(result) if _drawable(row)]
    if not rows:
        return False
    rows.reverse()  # matplotlib counts from below
    figure, axes = _new_figure(9.0, 1.5 + 0.62 * len(rows))
    reach = 1.0
    for at, row in enumerate(rows):
        ratio, interval = _ratio(row)
        colour = _VERDICT_COLOUR[row.verdict]
        axes.barh(at, ratio - 1, left=1, height=0.5, color=colour, alpha=0.85)
        axes.plot([ratio], [at], marker="D", markersize=4, color=_INK)
        ends = [ratio]
        if interval is not None:
            axes.plot([interval.low, interval.high], [at, at], color=_INK, linewidth=1.6)
            for end in (interval.low, interval.high):
                axes.plot([end, end], [at - 0.12, at + 0.12], color=_INK, linewidth=1.6)
            ends += [interval.low, interval.high]
        reach = max(reach, *ends)
        axes.annotate(
            f"{ratio:.0%}  {row.verdict}",
            (max(1.0, *ends), at),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            color=_INK,
            fontsize=9,
        )
    axes.axvline(1, color=_INK, linewidth=1)
    axes.set_yticks(range(len(rows)), [_bar_label(row) for row in rows], fontsize=9)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0, reach * 1.32)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    axes.set_xlabel("pruned, as a share of unpruned; line: 95 % confidence interval")
    axes.grid(axis="x", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    _title(axes, "What pruning changes", title_of(result))
    _save(figure, path)
    return True


def _drawable(row: SummaryRow) -> bool:
    return row.pruning is not None and row.pruning.ratio is not None and row.figure != "mcc"


def _ratio(row: SummaryRow) -> tuple[float, Interval | None]:
    """Ratio and its interval; a difference of shares is turned into a ratio for the common axis."""
    found = row.pruning
    assert found is not None
    assert found.ratio is not None
    base = row.figures["unpruned"].value
    between = found.difference_interval
    if found.interval is None and between is not None and base:
        return found.ratio, Interval(
            low=1 + between.low / base, high=1 + between.high / base, method=between.method
        )
    return found.ratio, found.interval


def _bar_label(row: SummaryRow) -> str:
    arrow = {"lower": "lower is better", "higher": "higher is better"}
    good = row.pruning.better if row.pruning is not None else None
    values = f"{row.cell('unpruned')} → {row.cell('pruned')} {row.scale.unit}"
    # A model of energy must not pass for a measurement because its bar looks like the others.
    modelled = any(figure.provenance == "modelled" for figure in row.figures.values())
    label = f"{row.label} (modelled)" if modelled else row.label
    return f"{label}\n{values}" + (f" ({arrow[good]})" if good else "")


def _new_figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # Not pyplot: it keeps global state and may look for a display.
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _title(axes: Any, title: str, subtitle: str) -> None:
    axes.set_title(f"{title}\n", loc="left", fontsize=12, fontweight="bold", color=_INK)
    axes.text(0, 1.02, subtitle, transform=axes.transAxes, fontsize=9, color="#555555")


def _save(figure: Any, path: Path) -> None:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
