"""Which figure of A belongs to which figure of B, and what may not be compared.

Two figures belong together where they are of the same name, variant and subject (task, model,
head, the very samples), and, for time, memory and energy, of the same batch sizes. Where a side
holds several of them, those of the same pruning, training seed, precision and machine are paired,
the newest of each; where each side holds one kind only, those two are paired and the difference is
noted.

Time, memory and energy of two machines (processor, GPU, device, threads) say nothing about two
candidates, so such pairs are refused unless asked for; accuracy and operator counts do not mind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from alpine_cli.errors import DataError
from alpine_cli.report.batches import batches_of
from alpine_cli.report.setting import precision_of
from alpine_cli.report.summary import ROWS
from alpine_cli.result_files import read_result, read_results
from alpine_cli.results import Figure, Result, Subject
from alpine_cli.tasks.metrics import METRIC_NAMES

__all__ = ["Entry", "Family", "Matches", "Pair", "family_of", "match", "read_side", "refuse_same"]

Family = Literal["metric", "exact", "machine"]

_EXACT = ("analytic", "counted")
_NAMED = 6  # figures that a note lists before it counts the rest
_WORK = 4  # place in a key of the settings that decide what was executed


@dataclass(frozen=True)
class Entry:
    """A figure and the result it stands in."""

    figure: Figure
    result: Result


@dataclass(frozen=True)
class Pair:
    """The same figure of both sides.

    Attributes:
        baseline, candidate: of A and of B.
        family: what kind of number it is; see `family_of`.
        notes: in what else the two differ.
    """

    baseline: Entry
    candidate: Entry
    family: Family
    notes: tuple[str, ...] = ()

    @property
    def figure(self) -> str:
        """Name of the figure."""
        return self.baseline.figure.name

    @property
    def variant(self) -> str:
        """Name of the variant, the same on both sides."""
        return self.baseline.figure.variant


@dataclass(frozen=True)
class Matches:
    """What can be compared, and what cannot.

    Attributes:
        pairs: in the order of the summary table, then of the files.
        refused: (figure, variant) → why, where both sides hold it but it may not be compared.
        notes: what was left out, in sentences.
    """

    pairs: list[Pair]
    refused: dict[tuple[str, str], str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_side(path: Path) -> tuple[list[Result], list[str]]:
    """The results of a file or of a directory, and a line per file that was left out.

    Raises:
        DataError: nothing there, or nothing readable.
    """
    path = Path(path)
    if path.is_dir():
        return read_results(path)
    return [read_result(path)], []


def refuse_same(baseline: Sequence[Result], candidate: Sequence[Result]) -> None:
    """Stop where B holds the very results that A holds: a table of zeros would look like a finding.

    Raises:
        DataError: it does.
    """
    if all(result in candidate for result in baseline) and len(baseline) == len(candidate):
        what = "results" if len(baseline) > 1 else f"result, {baseline[0].id}"
        raise DataError(
            f"A and B are the same {what}: there is nothing to compare. Give the result of another"
            " measurement as B"
        )


def family_of(figure: Figure) -> Family:
    """What kind of number a figure is.

    "metric": a property of predictions. "exact": computed or counted, the same on every machine.
    "machine": time, memory and energy, which hold for the machine they were taken on.
    """
    if figure.name in METRIC_NAMES or figure.name == "agreement":
        return "metric"
    return "exact" if figure.provenance in _EXACT else "machine"


def match(
    baseline: Sequence[Result], candidate: Sequence[Result], *, allow_other_machine: bool = False
) -> Matches:
    """Pair the figures of both sides.

    Raises:
        DataError: the sides have no subject in common (names what differs), or no figure.
    """
    subjects_a, subjects_b = _subjects(baseline), _subjects(candidate)
    common = [key for key in subjects_a if key in subjects_b]
    if not common:
        raise DataError(_why_no_common(list(subjects_a.values()), list(subjects_b.values())))
    notes = [
        f"only {side} has {_describe(subject)}"
        for side, mine, other in (("A", subjects_a, subjects_b), ("B", subjects_b, subjects_a))
        for key, subject in mine.items()
        if key not in other
    ]
    twice = [result.id for result in baseline if result in candidate]
    if twice:
        notes.append(f"set against itself, being in A and in B: {', '.join(twice)}")
    entries_a, entries_b = _entries(baseline, common), _entries(candidate, common)
    matches = Matches([], {}, notes)
    for key in entries_a:
        if key in entries_b:
            _pair_up(entries_a[key], entries_b[key], matches, allow_other_machine)
    _note_unmatched(entries_a, entries_b, matches)
    if not matches.pairs and not matches.refused:
        raise DataError("A and B hold no figure in common. " + " ".join(notes))
    order = {name: place for place, name in enumerate(ROWS)}
    matches.pairs.sort(key=lambda pair: order.get(pair.figure, len(order)))
    return matches


_SubjectKey = tuple[str, ...]
_Key = tuple[object, ...]


def _subject_key(subject: Subject) -> _SubjectKey:
    return (subject.task, subject.model, subject.head, subject.split, subject.data_sha256)


def _subjects(results: Iterable[Result]) -> dict[_SubjectKey, Subject]:
    return {_subject_key(result.subject): result.subject for result in results}


def _describe(subject: Subject) -> str:
    return (
        f"{subject.model}, {subject.task}, {subject.data} {subject.split}"
        f" ({subject.samples:,} samples, data {subject.data_sha256[:8]})"
    )


def _why_no_common(a: list[Subject], b: list[Subject]) -> str:
    """Name the first level on which the sides have nothing in common."""
    for name in ("task", "model", "head", "split"):
        of_a, of_b = ({getattr(subject, name) for subject in side} for side in (a, b))
        if not of_a & of_b:
            return (
                f"A and B cannot be compared: other {name}: A has {', '.join(sorted(of_a))},"
                f" B has {', '.join(sorted(of_b))}"
            )
    return (
        "A and B cannot be compared: they hold no results of one model on the same samples:"
        f" A has {'; '.join(map(_describe, a))}; B has {'; '.join(map(_describe, b))}."
        " Measure both with the same --data, --split and --limit"
    )


def _entries(results: Iterable[Result], common: list[_SubjectKey]) -> dict[_Key, list[Entry]]:
    """Entries by what must be equal, in the order of the files, oldest first."""
    found: dict[_Key, list[Entry]] = {}
    for result in results:
        subject = _subject_key(result.subject)
        if subject not in common:
            continue
        for figure in result.figures:
            work = _work(figure, result)
            key = (subject, figure.name, figure.variant, figure.unit, work)
            found.setdefault(key, []).append(Entry(figure, result))
    return found


def _work(figure: Figure, result: Result) -> tuple[object, ...]:
    """The settings that decide what was executed."""
    settings = result.settings
    match family_of(figure):
        case "metric":
            return ()
        case "exact":
            return (batches_of(settings, "flops_"),)
        case "machine":
            limits = (batches_of(settings), batches_of(settings, "training_"))
            return (*limits, settings.get("timed_samples"))


def _circumstances(entry: Entry) -> dict[str, str]:
    """What may differ, with a note."""
    variant = entry.result.variants[entry.figure.variant]
    pruning = dict(variant.pruning or {})
    if pruning.get("layers") == "none":
        pruning = {"layers": "none", "engine": pruning.get("engine")}
    shown = ", ".join(f"{name} {value}" for name, value in sorted(pruning.items()))
    found = {"pruning": shown or "none (stock)", "training seed": str(variant.training_seed)}
    if family_of(entry.figure) != "exact":
        found["precision"] = precision_of(entry.result)
    if family_of(entry.figure) == "machine":
        found["machine"] = _machine(entry.result)
    return found


def _machine(result: Result) -> str:
    environment = result.environment
    gpus = ", ".join(gpu.name for gpu in environment.gpus)
    device = str(result.settings.get("device", "cpu"))
    parts = [environment.cpu_model, f"{environment.physical_cores} cores"]
    parts += [gpus] * bool(gpus)
    return ", ".join([*parts, f"on {device}", f"{environment.threads} threads"])


def _pair_up(a: list[Entry], b: list[Entry], matches: Matches, allow_other_machine: bool) -> None:
    """Pair the entries of one key by their circumstances; the newest of each."""
    newest_a, newest_b = (
        {tuple(_circumstances(entry).values()): entry for entry in side} for side in (a, b)
    )
    equal = [key for key in newest_a if key in newest_b]
    pairs = [(newest_a.pop(key), newest_b.pop(key)) for key in equal]
    if len(newest_a) == len(newest_b) == 1 and not pairs:
        pairs = [(next(iter(newest_a.values())), next(iter(newest_b.values())))]
    elif newest_a or newest_b:
        left = [*newest_a.values(), *newest_b.values()][0].figure
        matches.notes.append(
            f"{left.name} of {left.variant}: {len(newest_a)} of A and {len(newest_b)} of B have no"
            " partner of the same pruning, training seed, precision and machine"
        )
    for entry_a, entry_b in pairs:
        there, here = _circumstances(entry_a), _circumstances(entry_b)
        differing = [name for name in there if there[name] != here[name]]
        notes = tuple(f"other {name}: {there[name]} → {here[name]}" for name in differing)
        figure = entry_a.figure
        if "machine" in differing and not allow_other_machine:
            matches.refused[figure.name, figure.variant] = notes[differing.index("machine")]
            continue
        matches.pairs.append(Pair(entry_a, entry_b, family_of(figure), notes))


def _note_unmatched(a: dict[_Key, list[Entry]], b: dict[_Key, list[Entry]], out: Matches) -> None:
    """Say what only one side holds, and what was executed differently."""
    in_a, in_b = ({key[:_WORK]: None for key in side} for side in (a, b))
    for key in a:
        if key not in b and key[:_WORK] in in_b:
            out.refused.setdefault((str(key[1]), str(key[2])), "other batch size or timed samples")
    for side, mine, other in (("A", in_a, in_b), ("B", in_b, in_a)):
        only = [f"{key[1]}.{key[2]}" for key in mine if key not in other]
        if only:
            more = f" and {len(only) - _NAMED} more" if len(only) > _NAMED else ""
            out.notes.append(f"only {side} has {', '.join(only[:_NAMED])}{more}")
