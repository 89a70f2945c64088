"""Peak memory over fresh processes: which to run, how many at a time, and their figures.

Every figure comes from processes that did nothing else: an allocator's peak shows what ran before
it. A process costs about 4 s of imports (torch and transformers, nothing that could be left out),
which is most of a bench of a small model, so on the CPU several run at once where that is known to
be safe: a peak of one process does not see its neighbours, as long as the machine has memory for
all. How much one takes is known after one of each purpose, of the variant that does not prune, has
run alone; a process that dies beside others is run once more, alone, before its figure is given
up. Measured on a 3 MB RoBERTa, peaks of the run in MB, first alone, then twice beside another:
67.9, 67.7, 67.7 for inference; 1708.6, 1708.7, 1708.6 for a training step.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any

import psutil

from alpine_cli.errors import MeasurementError
from alpine_cli.measure.environment import usable_cores
from alpine_cli.measure.memory import ALLOCATOR, MEMORY_FIGURES
from alpine_cli.measure.options import Precision
from alpine_cli.measure.partial import KeptParts
from alpine_cli.measure.plan import Plan
from alpine_cli.measure.statistics import aggregate, compare_all, mean_interval, spread
from alpine_cli.measure.training_step import trained_in
from alpine_cli.results import Caution, Figure, Part
from alpine_cli.tasks.batching import BatchLimit

__all__ = ["Trial", "measure_memory_trials", "memory_figures", "side_by_side"]

_MOST_AT_ONCE = 4
_SHARE_OF_FREE_MEMORY = 0.5

Answer = Mapping[str, Any]
RunWorker = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Trial:
    """One process: its variant, what it does, and which repetition of that it is."""

    variant: str
    purpose: str
    repetition: int

    @property
    def key(self) -> tuple[str, str]:
        """What its figure is about."""
        return self.purpose, self.variant

    @property
    def name(self) -> str:
        """Under which its answer is kept."""
        return f"memory.{self.purpose}.{self.variant}.{self.repetition}"


@dataclass
class _Answers:
    """What the trials said, and why some did not."""

    found: dict[Trial, Answer] = field(default_factory=dict)
    lost: dict[tuple[str, str], str] = field(default_factory=dict)

    def of(self, key: tuple[str, str]) -> list[Answer]:
        trials = sorted(
            (trial for trial in self.found if trial.key == key), key=lambda t: t.repetition
        )
        return [self.found[trial] for trial in trials]


def measure_memory_trials(
    plan: Plan,
    progress: Callable[[int, int, str], None],
    kept: KeptParts,
    run_worker: RunWorker,
) -> Part:
    """Run what has not been kept, in random order, and make figures of all.

    Raises:
        MeasurementError: not one process gave an answer.
    """
    options = plan.options
    purposes = ["inference"] + (["training"] if options.training_memory else [])
    rounds = _rounds(plan, purposes)
    total = sum(map(len, rounds))
    answers = _Answers()

    def run(trial: Trial) -> Answer:
        workload = plan.request.only(trial.variant)
        if trial.purpose == "training":
            workload = workload.limited(options.training_batch_limit)
        request = {"workload": workload.model_dump(mode="json"), "purpose": trial.purpose}
        answer = run_worker("memory", request, threads=options.threads, environment=ALLOCATOR)
        kept.keep(trial.name, answer)
        return answer

    def tell(trial: Trial) -> None:
        progress(len(answers.found), total, f"{trial.purpose} of {trial.variant}")

    for trial in (trial for trials in rounds for trial in trials):
        if (answer := kept.get(trial.name)) is not None:
            answers.found[trial] = answer
    for number, trials in enumerate(rounds):
        wanted = [trial for trial in trials if trial not in answers.found]
        wanted = [trial for trial in wanted if trial.key not in answers.lost]
        at_once = 1 if number == 0 else side_by_side(list(answers.found.values()))
        if at_once == 1:
            _one_by_one(wanted, run, answers, tell)
        else:
            _together(wanted, run, answers, tell, at_once)
    if not answers.found and answers.lost:
        raise MeasurementError(next(iter(answers.lost.values())))
    return _part(plan, purposes, answers)


def _rounds(plan: Plan, purposes: Sequence[str]) -> list[list[Trial]]:
    """One of each purpose, then one of each variant, then all others; each in random order.

    The first round tells how much memory such a process takes, the second what does not fit at
    all, before it is tried on and on.
    """
    rounds: list[list[Trial]] = [[], [], []]
    for repetition in range(plan.options.memory_runs):
        for purpose in purposes:
            for number, variant in enumerate(plan.variants):
                # The reference engine exists to be compared with, not to be trained.
                if not (purpose == "training" and variant == "reference"):
                    place = 2 if repetition else min(number, 1)
                    rounds[place].append(Trial(variant, purpose, repetition))
    draw = random.Random(plan.options.seed)
    for trials in rounds:
        draw.shuffle(trials)
    return rounds


def side_by_side(answers: Sequence[Answer], free_bytes: int | None = None) -> int:
    """How many processes may run at once, from the peaks seen so far.

    Args:
        answers: of processes that ran alone.
        free_bytes: memory that may be taken; None asks the system.

    Returns:
        1 on CUDA, where processes would share the GPU's memory, and where nothing is known.
    """
    peaks = [answer["bytes"]["process"] for answer in answers if "process" in answer["bytes"]]
    if not peaks or any(name.startswith("cuda") for a in answers for name in a["bytes"]):
        return 1
    free = psutil.virtual_memory().available if free_bytes is None else free_bytes
    fitting = int(_SHARE_OF_FREE_MEMORY * free / max(peaks))
    return max(1, min(fitting, usable_cores(), _MOST_AT_ONCE))


def _one_by_one(
    trials: Sequence[Trial],
    run: Callable[[Trial], Answer],
    answers: _Answers,
    tell: Callable[[Trial], None],
) -> None:
    for trial in trials:
        if trial.key in answers.lost:
            continue
        tell(trial)
        try:
            answers.found[trial] = run(trial)
        except MeasurementError as error:  # most likely out of memory: the others may still fit
            answers.lost[trial.key] = str(error)


def _together(
    trials: Sequence[Trial],
    run: Callable[[Trial], Answer],
    answers: _Answers,
    tell: Callable[[Trial], None],
    at_once: int,
) -> None:
    again: list[Trial] = []
    pool = ThreadPoolExecutor(at_once)
    try:
        running: dict[Future[Answer], Trial] = {pool.submit(run, trial): trial for trial in trials}
        for future in as_completed(running):
            trial = running[future]
            try:
                answers.found[trial] = future.result()
            except MeasurementError:  # perhaps its neighbours' doing
                again.append(trial)
            tell(trial)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    _one_by_one(again, run, answers, tell)


def _part(plan: Plan, purposes: Sequence[str], answers: _Answers) -> Part:
    limits = {
        "inference": plan.options.batch_limit,
        "training": plan.options.training_batch_limit,
    }
    figures: list[Figure] = []
    for key in ((purpose, name) for purpose in purposes for name in plan.variants):
        purpose, name = key
        if key in answers.lost:
            reason = answers.lost[key]
            figures.append(
                Figure.absent(f"{purpose}_memory_run", name, "bytes", reason, better="lower")
            )
        else:
            figures += memory_figures(
                purpose, name, answers.of(key), limits[purpose], plan.options.precision
            )
    cautions = [
        Caution(code="not-measured", text=f"{purpose} memory of {name} was not measured: {why}")
        for (purpose, name), why in answers.lost.items()
    ]
    comparisons = compare_all(figures, plan.pairs, seed=plan.options.seed)
    return Part(figures=figures, comparisons=comparisons, cautions=cautions)


def memory_figures(
    purpose: str,
    variant: str,
    answers: Sequence[Answer],
    limit: BatchLimit,
    precision: Precision = "float32",
) -> list[Figure]:
    """Peaks of repeated processes as figures: the median over the processes."""
    if not answers:
        return []
    batches = {
        "inference": f"the longest batches of {limit}",
        "training": f"the longest batch of {limit}",
    }[purpose]
    if limit.tokens is not None:
        batches = f"the fullest batches and those of the longest rows, of {limit}"
    work = {
        "inference": f"inference, {precision}, on {batches}",
        "training": f"forward, backward and AdamW, {trained_in(precision)}, on {batches}",
    }[purpose]
    note = "" if all(a["peak_was_reset"] for a in answers) else "; peak since process start"
    if not any(name.startswith("cuda") for name in answers[0]["bytes"]):
        note += "; freed blocks returned at once (MALLOC_MMAP_THRESHOLD_ pinned)"
    figures = []
    for name in answers[0]["bytes"]:
        values = [float(answer["bytes"][name]) for answer in answers]
        figures.append(
            Figure(
                name=f"{purpose}_memory_{name}",
                variant=variant,
                unit="bytes",
                value=float(aggregate(values, "median")),
                provenance="measured",
                method=f"{MEMORY_FIGURES[name]}; {work}; median of fresh processes{note}",
                better="lower",
                n=len(values),
                aggregate="median",
                interval=mean_interval(values, "median"),
                spread=spread(values),
                samples=values,
            )
        )
    return figures
