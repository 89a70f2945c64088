"""The demo from end to end, and the one claim it must not fail: that the models learnt something.

data/      the functions            model/    tokenizer and untrained encoder
configs/   a config per run         runs/     one run directory each, as `alpine finetune` makes
results/   the bench's result file  report/   tables, workbook and pictures made of it
patterns.csv   accuracy by bug      demo.png  a function, its tokens, and what pruning saved
"""

from __future__ import annotations

import csv
import io
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alpine_cli.config import RunConfig, load_config
from alpine_cli.demo.corpus import Corpus, build_corpus
from alpine_cli.demo.model import ModelSize, train_tokenizer, write_model
from alpine_cli.demo.pattern_accuracy import PatternAccuracy, accuracy_by_pattern
from alpine_cli.demo.picture import draw_demo
from alpine_cli.demo.processes import Say, finetune_side_by_side
from alpine_cli.errors import AlpineError, ConfigError, OutputExistsError
from alpine_cli.files import refuse_existing, write_atomic
from alpine_cli.measure.bench import run_bench
from alpine_cli.measure.options import MeasureOptions
from alpine_cli.pruning.config import PruningConfig
from alpine_cli.report.build import build_report
from alpine_cli.result_files import write_result
from alpine_cli.results import Result

__all__ = ["DemoOutcome", "DemoSettings", "NothingLearntError", "run_demo"]

_MARKER = ".alpine-demo"
_MODEL = "small-roberta"
_FOLDERS = ("data", _MODEL, "configs", "runs", "results", "report")
_FILES = ("patterns.csv", "demo.png")


class NothingLearntError(AlpineError):
    """A model of the demo is not clearly better than always guessing the commoner label."""


@dataclass(frozen=True)
class DemoSettings:
    """What may be changed about the demo.

    Attributes:
        layers, alpha: the pruning that is set against none.
        functions: use at most so many functions; None: all that fit.
        epochs: of each fine-tuning.
        seed: of weights and batches.
        size: of the model.
        bench_runs, bench_seconds: at least so many timed runs and seconds of each variant.
    """

    layers: str = "even"
    alpha: float = 0.5
    functions: int | None = None
    epochs: int = 1
    seed: int = 1
    size: ModelSize = field(default_factory=ModelSize)
    bench_runs: int = 7
    bench_seconds: float = 2.0


@dataclass(frozen=True)
class DemoOutcome:
    """What the demo found and wrote.

    Attributes:
        directory: the output directory.
        result: the bench of the pruned run against the unpruned one.
        patterns: accuracy by bug.
        files: what a user may want to open.
        seconds: wall time by stage.
    """

    directory: Path
    result: Result
    patterns: list[PatternAccuracy]
    files: list[Path]
    seconds: dict[str, float]


def run_demo(
    output: Path, settings: DemoSettings | None = None, *, force: bool = False, say: Say
) -> DemoOutcome:
    """Make data and model, fine-tune with and without pruning, bench, report.

    Args:
        output: directory to write to.
        settings: see `DemoSettings`.
        force: replace an earlier demo in `output`. A directory that no demo made is never cleared.
        say: told what happens, line by line.

    Raises:
        OutputExistsError: `output` is taken. Nothing has been written.
        ConfigError, PruningError: the pruning asked for does not fit. Nothing has been written.
        DataError: the standard library has no source files.
        NothingLearntError: accuracy is not clearly above the majority class; all files are there.
        TrainingError, MeasurementError: a fine-tuning failed, nothing could be measured.
    """
    settings = settings or DemoSettings()
    pruning = PruningConfig(layers=settings.layers, alpha=settings.alpha)
    if not pruning.resolve(settings.size.layers):
        raise ConfigError("--layers: none leaves nothing to compare; choose even, odd, all or 0,2")
    _claim(output, force)
    clock = _Stages(say)
    with clock.stage("data"):
        corpus = build_corpus(limit=settings.functions)
        corpus.write(output / "data")
        say(_describe(corpus))
    with clock.stage("model"):
        tokenizer = train_tokenizer((sample.func for sample in corpus.train), settings.size)
        write_model(output / _MODEL, tokenizer, settings.size, settings.seed)
    runs = {"none": _run_config(output, settings, PruningConfig())}
    runs[settings.layers] = _run_config(output, settings, pruning)
    with clock.stage("fine-tuning"):
        files = {}
        for name, config in runs.items():
            files[name] = output / "configs" / f"{config.run_dir().name}.yaml"
            write_atomic(files[name], config.to_yaml())
        finetune_side_by_side(files, threads=1, say=say)
    unpruned, pruned = (config.run_dir() for config in runs.values())
    with clock.stage("bench"):
        options = MeasureOptions(
            checkpoint=pruned / "ckpt.pt",
            baseline=unpruned / "ckpt.pt",
            runs=settings.bench_runs,
            min_seconds=settings.bench_seconds,
            # So small a model gains little from a second thread, and on a busy machine threads
            # that wait for each other would time the neighbours.
            threads=1,
            memory_runs=1,
            training_memory=False,
            training_throughput=False,
            training_energy=False,
            seed=settings.seed,
        )
        result = run_bench(options, lambda kind, done, total, text: None)
        write_result(result, output / "results")
    with clock.stage("report"):
        report = build_report([output / "results"], output / "report", force=True)
        patterns = accuracy_by_pattern(corpus.test, unpruned, pruned)
        write_atomic(output / "patterns.csv", _to_csv(patterns))
        draw_demo(result, corpus.test, pruned, output / "demo.png")
    reports = [path for path in report.files if path.suffix in (".html", ".md", ".xlsx")]
    files_to_open = [output / name for name in _FILES] + reports
    _require_learning(result, corpus)
    return DemoOutcome(output, result, patterns, files_to_open, clock.seconds)


def _claim(output: Path, force: bool) -> None:
    """Make the directory ours, or refuse; clears what an earlier demo wrote, and only that."""
    if output.exists() and not output.is_dir():
        raise OutputExistsError(f"{output}: is a file; --output names a directory")
    refuse_existing(output, force)
    if output.exists() and any(output.iterdir()) and not (output / _MARKER).exists():
        raise OutputExistsError(
            f"{output}: holds files that `alpine demo` did not write; it will not clear them."
            " Choose another --output"
        )
    write_atomic(output / _MARKER, "written by `alpine demo`, which may clear this directory\n")
    for name in _FOLDERS:
        shutil.rmtree(output / name, ignore_errors=True)
    for name in _FILES:
        (output / name).unlink(missing_ok=True)


def _run_config(output: Path, settings: DemoSettings, pruning: PruningConfig) -> RunConfig:
    return load_config(
        None,
        (),
        {
            "model": str(output / _MODEL),
            "task": "defect-detection",
            "data": str(output / "data"),
            "prune.layers": pruning.layers,
            "prune.alpha": pruning.alpha,
            "train.epochs": settings.epochs,
            "train.batch_size": 8,
            "train.lr": 3e-4,
            # Long: started faster, some seeds never leave the level of chance.
            "train.warmup": 0.3,
            "train.max_length": settings.size.max_length,
            "train.seed": settings.seed,
            "train.log_steps": 100,
            "train.save_steps": 10_000,
            "device": "cpu",
            "output": str(output / "runs" / pruning.layers.replace(",", "-")),
        },
    )


def _describe(corpus: Corpus) -> str:
    parts = []
    for name in ("train", "valid", "test"):
        samples = getattr(corpus, name)
        modules = len({sample.module for sample in samples})
        parts.append(f"{name} {len(samples):,} from {modules} modules")
    return "functions of the standard library: " + ", ".join(parts)


def _require_learning(result: Result, corpus: Corpus) -> None:
    """Accuracy must be above the majority class beyond what chance allows, for both models.

    Raises:
        NothingLearntError: it is not.
    """
    positive = sum(sample.target for sample in corpus.test) / len(corpus.test)
    majority = max(positive, 1 - positive)
    for variant in ("unpruned", "pruned"):
        figure = result.figure("accuracy", variant)
        low = figure.interval.low if figure is not None and figure.interval else None
        if low is None or low <= majority:
            reached = "unknown" if figure is None or figure.value is None else f"{figure.value:.1%}"
            raise NothingLearntError(
                f"the demo proves nothing: accuracy of the {variant} model is {reached} (lower end"
                f" of its 95 % interval: {'unknown' if low is None else f'{low:.1%}'}), and always"
                f" guessing the commoner label reaches {majority:.1%}. Train longer (--epochs)"
            )


def _to_csv(patterns: Sequence[PatternAccuracy]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("pattern", "rule", "test_functions", "accuracy_unpruned", "accuracy_pruned"))
    for row in patterns:
        writer.writerow((row.name, row.rule, row.functions, row.unpruned, row.pruned))
    return text.getvalue()


class _Stages:
    """Wall time by stage, said as each ends."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._name = ""
        self._began = 0.0
        self.seconds: dict[str, float] = {}

    def stage(self, name: str) -> _Stages:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._say(f"== {self._name}")
        self._began = time.monotonic()

    def __exit__(self, *error: object) -> None:
        self.seconds[self._name] = round(time.monotonic() - self._began, 1)
        self._say(f"   {self._name}: {self.seconds[self._name]:.0f} s")
