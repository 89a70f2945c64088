"""What each rule removes: tokens that stay, by syntactic kind, rule beside rule.

    ALPINE_SHARED=../shared python -m benchmarks.kinds --checkpoint clone.pt \
        --data ../shared/data/bcb --limit 200

Counts as `alpine show --kinds` does, over every function of a split, for each of `SETTINGS`: the
published rule, the rivals at strengths that leave about as much of the input, and the controls. The
table holds the share of a kind's tokens that reach the end; the picture sets it against the share
of all tokens (red: removed more often than the rest, blue: less often), and leaves kinds white
whose interval overlaps that of all tokens. With a merge, a removed token lives on in the mean of
the one it was merged into; what is counted here is that it no longer stands for itself.

Writes kinds-NAME.json, .md, .png and .svg.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.files import write_atomic
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.grid import Setting
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.drawing import drawn, headline
from alpine_cli.report.pictures import slug
from alpine_cli.results import Interval
from alpine_cli.show.kinds import guess_language, lexer_for
from alpine_cli.show.subject import ShowSubject
from alpine_cli.show.survival import KindSurvival, Survival, count_survival, summarise_survival
from alpine_cli.show.survival_views import against_all, finding, notes, percent, survival_record

RESULTS = Path(__file__).parent / "results"
SETTINGS = (
    PruningConfig(layers="all"),
    PruningConfig(layers="all", rule="floor", alpha=0.5, merge="nearest"),
    PruningConfig(layers="all", rule="top", keep=0.85, merge="nearest"),
    PruningConfig(layers="all", rule="top", keep=0.85, score="cls", merge="nearest"),
    PruningConfig(layers="all", rule="bipartite", keep=0.85, merge="nearest"),
    PruningConfig(layers="all", rule="random", keep=0.85),
    PruningConfig(layers="all", rule="first", keep=0.85, merge="none"),
)
_FEWEST = 0.002  # of all tokens: rarer kinds are in the .json alone


def rows_of(survivals: dict[str, Survival]) -> list[str]:
    """Kinds to show, most frequent first; all tokens lead."""
    some = next(iter(survivals.values()))
    return [one.kind for one in some.every if one.share >= _FEWEST]


def of_kinds(survival: Survival, kinds: Sequence[str]) -> list[KindSurvival]:
    """These kinds, in this order."""
    by_kind = {one.kind: one for one in survival.every}
    return [by_kind[kind] for kind in kinds]


def relative(found: KindSurvival, survival: Survival) -> float:
    """How much more often than all tokens a kind stays: 0 never; 1 as often, or not shown."""
    if against_all(found, survival) not in ("more", "less"):
        return 1.0
    return found.surviving / survival.all.surviving


def document(name: str, where: str, survivals: dict[str, Survival]) -> str:
    """The table and a finding per rule, in Markdown."""
    some = next(iter(survivals.values()))
    kinds = rows_of(survivals)
    lines = [
        f"# What is removed: {name}",
        "",
        f"{some.about['model']}, {some.about['task']}, {where}: {some.functions:,} functions,"
        f" {some.all.tokens:,} tokens. Share of tokens that reach the end, %; `+` more often than"
        " all tokens, `-` less often, where the 95 % intervals over functions lie apart.",
        "",
        f"| setting | {' | '.join(kinds)} |",
        f"|---|{'---:|' * len(kinds)}",
    ]
    for setting, survival in survivals.items():
        cells = [_cell(one, survival) for one in of_kinds(survival, kinds)]
        lines.append(f"| {setting} | {' | '.join(cells)} |")
    lines += ["", *(f"- **{setting}**: {finding(one)}" for setting, one in survivals.items()), ""]
    return "\n".join([*lines, *notes(some), ""])


def _cell(found: KindSurvival, survival: Survival) -> str:
    mark = {"more": " +", "less": " -"}.get(against_all(found, survival), "")
    return f"{percent(found.surviving)}{mark}"


def draw(survivals: dict[str, Survival], path: Path, subtitle: str) -> None:
    """Kinds against settings, coloured by how much more or less often than the rest they stay."""
    kinds = rows_of(survivals)[1:]
    with drawn(path, 2.6 + 1.05 * len(kinds), 1.8 + 0.5 * len(survivals)) as figure:
        axes = figure.add_subplot()
        values = [
            [relative(one, survival) for one in of_kinds(survival, kinds)]
            for survival in survivals.values()
        ]
        axes.imshow(values, cmap="RdBu", vmin=0, vmax=2, aspect="auto")
        for y, survival in enumerate(survivals.values()):
            for x, one in enumerate(of_kinds(survival, kinds)):
                dark = abs(values[y][x] - 1) > 0.7
                axes.text(
                    x, y, percent(one.surviving), ha="center", va="center", fontsize=9,
                    color="white" if dark else "black",
                )  # fmt: skip
        axes.set_xticks(range(len(kinds)), [kind.replace(" ", "\n") for kind in kinds], fontsize=9)
        labels = [f"{name}  ({percent(s.all.surviving)} %)" for name, s in survivals.items()]
        axes.set_yticks(range(len(survivals)), labels, fontsize=9)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        headline(axes, "Tokens that reach the end, % of their kind", subtitle)


def count(
    checkpoint: Path, data: Path | None, split: str, limit: int | None, settings: Sequence[Setting]
) -> tuple[dict[str, Survival], str]:
    """Survival under each setting, by its name, and what the functions are called."""
    loaded, found = load_checkpoint(checkpoint), dict[str, Survival]()
    subject = ShowSubject(checkpoint, loaded, settings[0].pruning)
    samples, where = subject.samples(data, split, limit)
    language, reason = guess_language(loaded.task, [sample.code[0] for sample in samples])
    lexer = lexer_for(language)
    for setting in settings:
        counts = count_survival(loaded, samples, setting.pruning, lexer, torch.device("cpu"))
        about = replace(subject, pruning=setting.pruning).about()
        found[setting.name] = summarise_survival(counts, language, reason, about)
        print(f"{setting.name}: {finding(found[setting.name])}", file=sys.stderr)
    return found, where


def main() -> None:
    """Run, print, write; see the head of this module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, help="samples; default: the whole split")
    parser.add_argument("--name", help="of the files; default: task and checkpoint")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    settings = [Setting.of(pruning) for pruning in SETTINGS]
    survivals, where = count(asked.checkpoint, asked.data, asked.split, asked.limit, settings)
    some = next(iter(survivals.values()))
    name = slug(asked.name or f"{some.about['task']} {asked.checkpoint.stem}")
    kept = {
        "command": command_line(sys.argv),
        "environment": describe_environment().model_dump(mode="json"),
        "settings": {setting: survival_record(one) for setting, one in survivals.items()},
    }
    stem = asked.output / f"kinds-{name}"
    plain = json.dumps(kept, ensure_ascii=False, indent=1, default=Interval.model_dump)
    write_atomic(stem.with_suffix(".json"), f"{plain}\n")
    text = document(name, where, survivals)
    write_atomic(stem.with_suffix(".md"), text)
    draw(survivals, stem, f"{name}: {some.functions:,} functions of {where}")
    print(text)


if __name__ == "__main__":
    main()
