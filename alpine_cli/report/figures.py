"""Pictures of one result: what pruning changed, and how sequences shorten from layer to layer."""

from __future__ import annotations

from pathlib import Path

from alpine_cli.report.drawing import (
    INK,
    QUIET,
    VARIANT_STYLES,
    VERDICT_COLOURS,
    clip,
    drawn,
    headline,
)
from alpine_cli.report.published import PublishedCurve, published_curves
from alpine_cli.report.summary import SummaryRow, summarise, title_of
from alpine_cli.results import Interval, Result

__all__ = ["draw_changes", "draw_lengths", "drawable", "ratio_of"]

_MOST_CURVES = 6


def draw_lengths(result: Result, path: Path) -> bool:
    """The mean length after every layer, a curve per variant; False if there is nothing to draw.

    Nor are the curves of many settings (a sweep) drawn: nobody could tell them apart.
    """
    curves = [series for series in result.series if series.name == "mean_length"]
    if not curves or len(curves) > _MOST_CURVES:
        return False
    # stock and unpruned run at the same lengths: one line says it for both
    flat = [series for series in curves if series.variant == "unpruned"] or curves[:1]
    pruned = [series for series in curves if series.variant not in ("stock", "unpruned")]
    with drawn(path, 7.0, 4.0) as figure:
        axes = figure.add_subplot()
        for series in [*flat, *[s for s in pruned if s not in flat]]:
            style = VARIANT_STYLES.get(series.variant, {"marker": "o"})
            axes.plot(series.x, series.y, label=series.variant, linewidth=2, markersize=5, **style)
            first, last = series.y[0], series.y[-1]
            if series.variant == "pruned" and first and last:
                # Beside the end of the curve: above and below it, curves may pass.
                axes.annotate(
                    f"{last:.0f} of {first:.0f}\ntokens left\n({last / first:.0%})",
                    (series.x[-1], last),
                    xytext=(9, 0),
                    textcoords="offset points",
                    va="center" if last > 0.15 * first else "bottom",
                )
        for known in _published(result):
            axes.plot(known.x, known.y, label=known.label, color=QUIET, linewidth=1.2,
                      linestyle=":", marker="x", markersize=5)  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlim(-0.3, max(curves[0].x) * (1.22 if pruned else 1.0) + 0.3)
        axes.xaxis.get_major_locator().set_params(integer=True)
        # The room for the words beside the curve is no layer.
        axes.set_xticks([tick for tick in axes.get_xticks() if 0 <= tick <= max(curves[0].x)])
        axes.set_xlabel("layers passed")
        axes.set_ylabel("mean tokens per function")
        axes.grid(axis="y")
        axes.legend(loc="lower left")
        headline(
            axes, f"Sequence length through the encoder ({_pruning_of(result)})", title_of(result)
        )
    return True


def _published(result: Result) -> list[PublishedCurve]:
    """The paper's curve of the same model, task and layers, where it has one."""
    pruned = result.variants.get("pruned")
    layers = (pruned.pruning or {}).get("layers") if pruned is not None else None
    if not isinstance(layers, str):
        return []
    return published_curves(result.subject.task, result.subject.model, layers)


def _pruning_of(result: Result) -> str:
    pruning = (result.variants["pruned"].pruning or {}) if "pruned" in result.variants else {}
    if not pruning:
        return "not pruned"
    return clip(f"layers {pruning.get('layers')}, α = {pruning.get('alpha')}", 40)


def draw_changes(result: Result, path: Path) -> bool:
    """Pruned relative to unpruned, a bar per figure with its interval; False without any."""
    rows = [row for row in summarise(result) if drawable(row)]
    if not rows:
        return False
    rows.reverse()  # matplotlib counts from below
    with drawn(path, 9.0, 1.5 + 0.62 * len(rows)) as figure:
        axes = figure.add_subplot()
        reach = 1.0
        for at, row in enumerate(rows):
            ratio, interval = ratio_of(row)
            axes.barh(
                at, ratio - 1, left=1, height=0.5, color=VERDICT_COLOURS[row.verdict], alpha=0.85
            )
            axes.plot([ratio], [at], marker="D", markersize=4, color=INK)
            ends = [ratio]
            if interval is not None:
                axes.plot([interval.low, interval.high], [at, at], color=INK, linewidth=1.6)
                for end in (interval.low, interval.high):
                    axes.plot([end, end], [at - 0.12, at + 0.12], color=INK, linewidth=1.6)
                ends += [interval.low, interval.high]
            reach = max(reach, *ends)
            axes.annotate(
                f"{ratio:.0%}  {row.verdict}",
                (max(1.0, *ends), at),
                xytext=(8, 0),
                textcoords="offset points",
                va="center",
                fontsize=9,
            )
        axes.axvline(1, color=INK, linewidth=1)
        axes.set_yticks(range(len(rows)), [_bar_label(row) for row in rows], fontsize=9)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, reach * 1.45)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.set_xlabel("pruned, as a share of unpruned; line: 95 % confidence interval")
        axes.grid(axis="x")
        headline(axes, "What pruning changes", title_of(result))
    return True


def drawable(row: SummaryRow) -> bool:
    """Whether a row has a ratio that belongs on a common axis."""
    # MCC may be near or below 0, where a ratio says nothing.
    return row.pruning is not None and row.pruning.ratio is not None and row.figure != "mcc"


def ratio_of(row: SummaryRow) -> tuple[float, Interval | None]:
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
