"""One setting on every model: the preset `alpine-plus` and its rivals, front beside front.

    python -m benchmarks.front.across

Reads every front-NAME.json in `results/` and writes fronts.md there: for the preset, other rules
that leave as many tokens per layer, the published band, and truncation that costs no less than the
preset, the paired difference to the unpruned model with its interval. Nothing is run; nothing is
averaged over models, because their samples are not draws from one population: the worst of them is
told instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from alpine_cli.files import write_atomic
from alpine_cli.measure.grid import Setting
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.pruning.presets import preset
from alpine_cli.report.front import BASELINE
from benchmarks.front.judging import Row, read_again
from benchmarks.paired import accuracy_text

RESULTS = Path(__file__).parents[1] / "results"
_PRESET = preset("alpine-plus")
PLUS, CUT = Setting.of(_PRESET).name, "truncation of the preset's cost"
SETTINGS = (
    PLUS,
    *(
        Setting.of(pruning).name
        for pruning in (
            PruningConfig("all", rule="top", keep=_PRESET.keep, merge="nearest"),
            PruningConfig("all", rule="top", keep=_PRESET.keep),
            PruningConfig("all", rule="random", keep=_PRESET.keep),
            PruningConfig("all"),
        )
    ),
    CUT,
)


@dataclass(frozen=True)
class Front:
    """The rows of one front by setting, with how much it rests on.

    Attributes:
        name: of its file.
        rows: by name of the setting; the truncation whose cost is that of `PLUS` under `CUT`.
        samples, checkpoints: how many.
    """

    name: str
    rows: Mapping[str, Row]
    samples: int
    checkpoints: int


def read_front(path: Path) -> Front:
    """One front-NAME.json."""
    found, results = read_again(path)
    rows = {row.setting: row for row in found}
    rival = rows[PLUS].rival if PLUS in rows else None
    if rival is not None:
        rows[CUT] = rows[rival]
    name = path.stem.removeprefix("front-")
    return Front(name, rows, results[0].subject.samples or 0, len(results))


def document(fronts: Sequence[Front]) -> str:
    """The table in Markdown: a row per front, a column per setting."""
    lines = [
        "# One setting on every model",
        "",
        "Pruned at inference only. Points of accuracy against the unpruned model (95 % bootstrap"
        " interval of the paired difference over samples), and behind it the multiply-adds in"
        f" percent of unpruned. `{PLUS}` is the preset `alpine-plus`. A front over several"
        " fine-tuning seeds averages them per sample.",
        "",
        f"| front | samples × seeds | unpruned, % | {' | '.join(SETTINGS)} |",
        f"|---|---:|---:|{'---:|' * len(SETTINGS)}",
    ]
    for front in fronts:
        cells = [
            f"[{front.name}](front-{front.name}.md)",
            f"{front.samples:,} × {front.checkpoints}",
            accuracy_text(front.rows[BASELINE]),
            *(_cell(front.rows.get(name)) for name in SETTINGS),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    worst = [_worst([front.rows.get(name) for front in fronts]) for name in SETTINGS]
    lines.append(f"| the worst of them |  |  | {' | '.join(worst)} |")
    return "\n".join(lines) + "\n"


def _cell(row: Row | None) -> str:
    return "" if row is None else f"{row.unpruned} ({100 * row.share:.0f})"


def _worst(rows: Sequence[Row | None]) -> str:
    """The lowest difference, and the lowest end of an interval, which may be of another row."""
    changes = [row.unpruned for row in rows if row is not None and row.unpruned is not None]
    if not changes:
        return ""
    lowest = min(change.difference for change in changes)
    return f"{100 * lowest:+.1f}, an end at {100 * min(change.low for change in changes):+.1f}"


def main() -> None:
    """Read, print, write; see the head of this module."""
    head = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.front.across", description=head)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--without", nargs="*", default=[], metavar="NAME", help="fronts left out")
    asked = parser.parse_args()
    paths = sorted(asked.results.glob("front-*.json"))
    fronts = [
        read_front(path) for path in paths if path.stem.removeprefix("front-") not in asked.without
    ]
    if not fronts:
        raise SystemExit(f"{asked.results} holds no front-NAME.json; run benchmarks.front first")
    text = document(fronts)
    write_atomic(asked.results / "fronts.md", text)
    print(text)


if __name__ == "__main__":
    main()
