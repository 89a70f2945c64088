"""Must the tokens that a label hangs on stay to the end? Answers with and without them.

    python -m benchmarks.hard_cases defects runs/hard
    alpine finetune --model runs/hard/model-seed1 --task defect-detection --data runs/hard/data …
    python -m benchmarks.bug_tokens --checkpoint runs/1/ckpt.pt --checkpoint runs/2/ckpt.pt \
        --data runs/hard/data

The demo's functions carry one injected bug each, or none; which tokens are the bug's is known by
setting a spoilt function against the same function without it (its *twin*, read from the library
again). For every spoilt function of the test split, under each setting:

    left          share of tokens that stand for themselves at the end, alone or as the one that
                  others were merged into: of all, and of the bug's
    flagged       share of functions called faulty, pruned and unpruned; apart for those of which no
                  token of the bug is left at the end
    twin flagged  how often the unpruned model calls the twin faulty: what would be flagged if the
                  bug's tokens had never been read

If what is merged away were lost to the model, functions without a token of the bug would be flagged
as seldom as their twins. Differences are paired by function, averaged over checkpoints.

Writes bug-tokens-NAME.json and .md.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from alpine_cli.checkpoint import load_checkpoint
from alpine_cli.demo.corpus import drop_docstrings, functions_in, source_files, standard_library
from alpine_cli.files import write_atomic
from alpine_cli.measure.bench import command_line
from alpine_cli.measure.environment import describe_environment
from alpine_cli.measure.grid import Setting
from alpine_cli.pruning.apply import prune, trace, unprune
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.pictures import slug
from alpine_cli.show.offsets import ReadSource, read_items, read_sources
from alpine_cli.tasks.loading import Collator, model_inputs
from alpine_cli.tasks.reading import read_rows
from benchmarks.paired import Change, paired

RESULTS = Path(__file__).parent / "results"
SETTINGS = (
    PruningConfig("all", rule="bipartite", keep=0.85, merge="nearest"),
    PruningConfig("all", rule="bipartite", keep=0.5, merge="nearest"),
    PruningConfig("all", rule="top", keep=0.5, merge="nearest"),
    PruningConfig("all", rule="random", keep=0.5),
    PruningConfig("all", alpha=0.5),
)
_FAULTY = 1


@dataclass(frozen=True)
class Twins:
    """A spoilt function and the same without its bug.

    Attributes:
        spoilt, sound: their sources.
    """

    spoilt: str
    sound: str


@dataclass(frozen=True)
class Seen:
    """What one model does with the spoilt functions under one setting.

    Attributes:
        left: (F,) tokens left at the end; `tokens`: (F,) tokens read, special ones aside.
        bug_left, bug_tokens: (F,) the same of the bug's tokens.
        flagged: (F,) whether it is called faulty.
    """

    left: NDArray[np.int64]
    tokens: NDArray[np.int64]
    bug_left: NDArray[np.int64]
    bug_tokens: NDArray[np.int64]
    flagged: NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
    """How often functions are called faulty.

    Attributes:
        functions: pairs of function and checkpoint.
        flagged, unpruned, twin: shares of them called faulty: pruned, unpruned, and their twins.
        change: flagged against unpruned, paired by function.
    """

    functions: int
    flagged: float
    unpruned: float
    twin: float
    change: Change


@dataclass(frozen=True)
class Row:
    """One setting, over all checkpoints.

    Attributes:
        setting: its name.
        left, bug_left: shares of tokens left at the end: of all, of the bug's.
        every: answers for all functions.
        gone: for those of which no token of the bug is left; None where there are none.
    """

    setting: str
    left: float
    bug_left: float
    every: Answers
    gone: Answers | None


def find_twins(rows: Sequence[Mapping[str, Any]], library: Path) -> list[Twins]:
    """The spoilt ones of these samples, with their twins.

    Raises:
        SystemExit: the library is not the one that the samples were made of.
    """
    spoilt = [row for row in rows if row["target"] == _FAULTY]
    modules = {row["module"] for row in spoilt}
    sound = {}
    for path in source_files(library):
        module = path.relative_to(library).as_posix()
        if module in modules:
            for function, name in functions_in(ast.parse(path.read_bytes())):
                drop_docstrings(function)
                sound[module, name] = ast.unparse(function)
    missing = [row for row in spoilt if (row["module"], row["function"]) not in sound]
    if missing:
        raise SystemExit(
            f"{library} has no {missing[0]['function']} in {missing[0]['module']}: make the data"
            " with the Python that runs this"
        )
    return [Twins(row["func"], sound[row["module"], row["function"]]) for row in spoilt]


def bug_places(spoilt: Sequence[int], sound: Sequence[int]) -> list[int]:
    """Places of `spoilt` that are not in `sound`; where the bug only leaves out, its neighbours.

    Args:
        spoilt, sound: token ids of the two.
    """
    places: set[int] = set()
    matcher = difflib.SequenceMatcher(None, list(sound), list(spoilt), autojunk=False)
    for change, _, _, start, end in matcher.get_opcodes():
        if change == "delete":
            places |= {start - 1, start} & set(range(len(spoilt)))
        elif change != "equal":
            places |= set(range(start, end))
    return sorted(places)


class Subject:
    """One checkpoint, on functions of which it reads the bug, and their twins."""

    def __init__(self, path: Path, twins: Sequence[Twins]) -> None:
        checkpoint = load_checkpoint(path)
        self._model, self._tokenizer = checkpoint.build()
        self._collate = Collator(self._tokenizer.pad_token_id)
        names = [""] * len(twins)

        def read(sources: list[str]) -> list[ReadSource]:
            return read_sources(sources, self._tokenizer, checkpoint.encoding_spec, names)

        self._spoilt = read([one.spoilt for one in twins])
        self._sound = read([one.sound for one in twins])
        pairs = zip(self._spoilt, self._sound, strict=True)
        self._places = [bug_places(spoilt.ids, sound.ids) for spoilt, sound in pairs]

    def unpruned(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(F,) whether each function is called faulty, and whether its twin is."""
        found = [self._under(PruningConfig(), some) for some in (self._spoilt, self._sound)]
        flagged, twin = (np.array([faulty for faulty, _ in one]) for one in found)
        return flagged, twin

    def seen(self, pruning: PruningConfig) -> Seen:
        """What it does with the spoilt functions under this pruning."""
        found = self._under(pruning, self._spoilt)
        counts = []
        for one, places, (_, left) in zip(self._spoilt, self._places, found, strict=True):
            code = np.array([token.start is not None for token in one.tokens])
            bug = np.zeros(len(code), dtype=bool)
            bug[places] = True
            counts.append([left[code].sum(), code.sum(), (left & bug).sum(), bug.sum()])
        left, tokens, bug_left, bug_tokens = np.array(counts, dtype=np.int64).T
        flagged = np.array([faulty for faulty, _ in found])
        return Seen(left, tokens, bug_left, bug_tokens, flagged)

    def _under(
        self, pruning: PruningConfig, read: Sequence[ReadSource]
    ) -> list[tuple[bool, NDArray[np.bool_]]]:
        prune(self._model, pruning)
        try:
            return [self._run(one) for one in read]
        finally:
            unprune(self._model)

    def _run(self, read: ReadSource) -> tuple[bool, NDArray[np.bool_]]:
        """Whether a function is called faulty, and (n,) which of its tokens are left."""
        inputs = model_inputs(self._collate([read_items([read])]), torch.device("cpu"))
        with torch.inference_mode(), trace(self._model) as recorded:
            label = int(self._model.predict_proba(**inputs)[0].argmax())
        (call,) = recorded.calls
        removed_in = call.removed_in()[0, : len(read.tokens)].numpy()
        return label == _FAULTY, removed_in == len(call.tokens) - 1


def row_of(
    setting: str,
    seen: Sequence[Seen],
    unpruned: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
) -> Row:
    """One setting, over checkpoints; functions whose bug was cut off are left out."""
    read = np.array([one.bug_tokens > 0 for one in seen])  # (checkpoints, F)
    gone = read & (np.array([one.bug_left for one in seen]) == 0)
    flagged = np.array([one.flagged for one in seen], dtype=float)
    bare, twin = (np.array([pair[at] for pair in unpruned], dtype=float) for at in (0, 1))
    every = answers_where(read, flagged, bare, twin)
    if every is None:
        raise SystemExit("no model reads any of the bugs; check --data")
    return Row(
        setting=setting,
        left=sum(one.left.sum() for one in seen) / sum(one.tokens.sum() for one in seen),
        bug_left=sum(one.bug_left.sum() for one in seen)
        / sum(one.bug_tokens.sum() for one in seen),
        every=every,
        gone=answers_where(gone, flagged, bare, twin),
    )


def answers_where(
    where: NDArray[np.bool_],
    flagged: NDArray[np.float64],
    unpruned: NDArray[np.float64],
    twin: NDArray[np.float64],
) -> Answers | None:
    """Answers on part of the functions; None where that is empty. All are (checkpoints, F)."""
    held = where.any(axis=0)
    if not held.any():
        return None
    mine, theirs = (
        np.where(where, values, 0).sum(axis=0)[held] / where.sum(axis=0)[held]
        for values in (flagged, unpruned)
    )
    pruned, bare, without = (float(values[where].mean()) for values in (flagged, unpruned, twin))
    return Answers(int(where.sum()), pruned, bare, without, paired(mine, theirs))


def document(name: str, rows: Sequence[Row], bugs: int, checkpoints: int, tokens: float) -> str:
    """The table in Markdown."""
    lines = [
        f"# Tokens of the bug: {name}",
        "",
        f"{bugs} functions with one injected bug each, {checkpoints}"
        f" checkpoint{'s' * (checkpoints > 1)}; a bug is {tokens:.1f} tokens on average. Shares in"
        " percent. *Gone*: functions of which no token of the bug is left at the end. *Twin*: the"
        " same function without the bug, unpruned. Differences in points, paired by function, with"
        " 95 % bootstrap intervals.",
        "",
        "| setting | tokens left | of the bug | flagged: pruned, unpruned, twin |"
        " pruned - unpruned | gone | flagged of those: pruned, unpruned, twin |"
        " pruned - unpruned |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        gone = row.gone.functions if row.gone else 0
        lines.append(
            f"| {row.setting} | {100 * row.left:.1f} | {100 * row.bug_left:.1f} |"
            f" {_told(row.every)} | {100 * gone / row.every.functions:.0f} | {_told(row.gone)} |"
        )
    return "\n".join(lines) + "\n"


def _told(found: Answers | None) -> str:
    if found is None:
        return " | "
    shares = (found.flagged, found.unpruned, found.twin)
    return f"{', '.join(f'{100 * one:.1f}' for one in shares)} | {found.change}"


def main() -> None:
    """Run, print, write; see the head of this module."""
    head = (__doc__ or "").split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bug_tokens", description=head)
    parser.add_argument("--checkpoint", type=Path, action="append", required=True)
    parser.add_argument("--data", type=Path, required=True, help="of benchmarks.hard_cases defects")
    parser.add_argument("--library", type=Path, help="default: this Python's standard library")
    parser.add_argument("--name", default="demo-defects", help="of the files")
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    samples = [row for _, row in read_rows(asked.data / "test.jsonl")]
    twins = find_twins(samples, asked.library or standard_library())
    subjects = [Subject(path, twins) for path in asked.checkpoint]
    unpruned = [subject.unpruned() for subject in subjects]
    rows, seen = [], list[Seen]()
    for pruning in SETTINGS:
        setting = Setting.of(pruning).name
        seen = [subject.seen(pruning) for subject in subjects]
        rows.append(row_of(setting, seen, unpruned))
        print(f"{setting}: {100 * rows[-1].every.flagged:.1f} % flagged", file=sys.stderr)
    tokens = float(np.mean([one.bug_tokens for one in seen]))
    name = slug(asked.name)
    text = document(name, rows, len(twins), len(subjects), tokens)
    kept = {
        "command": command_line(sys.argv),
        "environment": describe_environment().model_dump(mode="json"),
        "rows": [asdict(row) for row in rows],
    }
    stem = asked.output / f"bug-tokens-{name}"
    write_atomic(stem.with_suffix(".json"), json.dumps(kept, ensure_ascii=False, indent=1) + "\n")
    write_atomic(stem.with_suffix(".md"), text)
    print(text)


if __name__ == "__main__":
    main()
