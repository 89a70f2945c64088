"""Tables D and E of the paper: fine-tuning time, and the CO2 of fine-tuning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from alpine_cli.report.formatting import format_value
from alpine_cli.report.paper_cells import (
    NOT_MEASURED,
    NOT_PUBLISHED,
    figure_cell,
    measured,
    printed,
    published_cut,
    source_notes,
    sources,
)
from alpine_cli.report.paper_differences import Marks
from alpine_cli.report.paper_runs import PAPER_ALPHA, Run, choose
from alpine_cli.report.paper_scores import fits
from alpine_cli.report.published import MODELS, PublishedCell, load_table
from alpine_cli.report.tables import Cell, Column, Table

__all__ = ["co2_table", "training_time_table"]

_GRAMS_PER_KG = 1e3
_TASKS = ("defect-detection", "clone-detection")
_PAPER_TRAINING = {"epochs": 5, "batch_size": 32, "max_length": 512}
# Checkpoints that a run of ours may rest on, by setting, and what that means beside the paper.
_RESTS_ON = {
    "started_from": "ours went on from a fine-tuned checkpoint, published from the base model",
    "distilled_from": "ours learned from an unpruned teacher, too, published from labels alone",
}
_PAPER_TRAINED_ON = {"defect-detection": 21854, "clone-detection": 90102}


def training_time_table(runs: Sequence[Run]) -> Table | None:
    """Table D: fine-tuning time of none and pruned; None without a training run of ours."""
    ours = _trained(runs, "finetuning_seconds")
    if not ours:
        return None
    published = load_table("D")
    marks = Marks()
    rows: list[list[Cell]] = []
    placed: list[Run] = []
    for cell in published.cells:
        if cell.layers == "none":
            continue
        fitting = [
            run
            for run in ours
            if run.in_paper
            and run.prunes
            and (run.paper_hardware, run.task, run.model, run.layers)
            == (cell.hardware, cell.task, cell.model, cell.layers)
            and (run.alpha, run.merge) == (PAPER_ALPHA, "mean")
        ]
        none = published.cell("none", task=cell.task, model=cell.model, hardware=cell.hardware)
        placed += fitting
        rows.append(_time_row(cell, none, fitting, ours, marks))
    rest = [r for r in ours if r.prunes and not any(r is run for run in placed)]
    for key in dict.fromkeys((r.machine, r.task, r.model, r.setting) for r in rest):
        same = [r for r in rest if (r.machine, r.task, r.model, r.setting) == key]
        rows.append(_time_row(None, None, same, ours, marks))
    paired = [_untrained_twin(run, ours) for run in ours if run.prunes]
    alone = [r for r in ours if not r.prunes and not any(r is twin for twin in paired)]
    rows += [_alone_row(run, marks) for run in alone]
    return Table(
        key="table-d",
        title=f"{published.title}: the paper's table D and our figures",
        columns=[
            Column("machine", numeric=False),
            Column("task", numeric=False),
            Column("model", numeric=False),
            Column("layers", numeric=False),
            Column("none, published", "s"),
            Column("pruned, published", "s"),
            Column("time saved, published", "%"),
            Column("none, ours", "s"),
            Column("pruned, ours", "s"),
            Column("time saved, ours", "%"),
            Column("our results", numeric=False),
            Column("see notes", numeric=False),
        ],
        rows=rows,
        notes=[
            "Ours stand beside a published time only where they ran on the same kind of GPU; on"
            " other machines they have rows of their own. A fine-tuning is timed once: no"
            " interval.",
            *marks.notes(),
            *source_notes(published),
        ],
    )


def _trained(runs: Sequence[Run], name: str) -> list[Run]:
    return [r for r in runs if r.result.kind == "training" and r.value(name) is not None]


def _training_setting(run: Run, name: str) -> Any:
    """A setting of a fine-tuning, from the configuration that its result keeps."""
    config = run.result.settings.get("config")
    train = config.get("train") if isinstance(config, Mapping) else None
    return train.get(name) if isinstance(train, Mapping) else None


def _untrained_twin(run: Run, ours: Sequence[Run]) -> Run | None:
    """The fine-tuning without pruning to set a pruned one against: same machine, data, length."""

    def work(other: Run) -> tuple[Any, ...]:
        subject = other.result.subject
        names = (*_PAPER_TRAINING, "tokens_per_batch")
        asked = [_training_setting(other, name) for name in names]
        asked += [other.result.settings.get(name) is None for name in _RESTS_ON]
        return (other.machine, other.task, other.model, subject.data_sha256, *asked)

    twins = [other for other in ours if not other.prunes and work(other) == work(run)]
    same_seed = [twin for twin in twins if twin.training_seed == run.training_seed]
    return max(same_seed or twins, key=lambda twin: twin.result.created, default=None)


def _training_differences(run: Run) -> list[str]:
    if not run.in_paper:
        return []
    found = []
    for name, expected in _PAPER_TRAINING.items():
        value = _training_setting(run, name)
        words = name.replace("_", " ")
        tokens = _training_setting(run, "tokens_per_batch")
        if name == "batch_size" and tokens is not None:
            value = f"at most {tokens:,} tokens"
        if value is None:
            found.append(f"Fine-tuning: our {words} is not recorded, published {expected}")
        elif value != expected:
            found.append(f"Fine-tuning: our {words} is {value}, published {expected}")
    found += [
        f"Fine-tuning: {text}"
        for name, text in _RESTS_ON.items()
        if run.result.settings.get(name) is not None
    ]
    expected, samples = _PAPER_TRAINED_ON[run.task], run.result.subject.samples
    if samples != expected:
        found.append(f"Fine-tuning: ours on {samples:,} samples, published on {expected:,}")
    if run.paper_hardware is None:
        found.append(f"Fine-tuning: ours on {run.machine}, published on an A100 and an RTX 2080")
    return found


def _time_row(
    cell: PublishedCell | None,
    none: PublishedCell | None,
    fitting: list[Run],
    ours: Sequence[Run],
    marks: Marks,
) -> list[Cell]:
    name = "finetuning_seconds"
    run = choose(fitting, name)
    twin = None if run is None else _untrained_twin(run, ours)
    if cell is not None:
        names = [cell.hardware or "", cell.task or "", cell.model or "", str(cell.layers)]
    else:
        names = [fitting[0].machine, fitting[0].task, fitting[0].model, fitting[0].setting]
    chosen: dict[str, tuple[Run | None, list[Run]]] = {"pruned": (run, fitting)}
    if twin is not None:
        chosen["none"] = (twin, [twin])
    return [
        *[Cell(text) for text in names],
        printed(none, "seconds"),
        printed(cell, "seconds"),
        published_cut(none, cell, "seconds"),
        figure_cell(twin, [], name),
        figure_cell(run, fitting, name),
        _saved(twin, run, name),
        sources(chosen),
        Cell(marks.of(_training_differences(run) if run is not None else [])),
    ]


def _alone_row(run: Run, marks: Marks) -> list[Cell]:
    """A fine-tuning without pruning that nothing is set against."""
    return [
        *[Cell(text) for text in (run.machine, run.task, run.model, "none")],
        *[NOT_PUBLISHED] * 3,
        figure_cell(run, [run], "finetuning_seconds"),
        *[NOT_MEASURED] * 2,
        sources({"none": (run, [run])}),
        Cell(marks.of(_training_differences(run))),
    ]


def _saved(none: Run | None, pruned: Run | None, name: str) -> Cell:
    if none is None or pruned is None:
        return NOT_MEASURED
    ours, base = pruned.value(name), none.value(name)
    if ours is None or not base:
        return NOT_MEASURED
    value = 100 * (1 - ours / base)
    return Cell(f"{value:.1f}", value)


def co2_table(runs: Sequence[Run]) -> Table | None:
    """Table E: CO2 of the six fine-tunings together, then run by run; None without ours."""
    ours = _trained(runs, "finetuning_co2")
    if not ours:
        return None
    published = load_table("E")
    marks = Marks()
    rows: list[list[Cell]] = []
    for cell in published.cells:
        if cell.layers == "none":
            continue
        none = published.cell("none", hardware=cell.hardware)
        same = [run for run in ours if run.paper_hardware == cell.hardware]
        rows.append(
            [
                *[Cell(t) for t in (cell.hardware or "", "all six runs", "all")],
                printed(none, "co2"),
                printed(cell, "co2"),
                printed(cell, "cut", 2),
                *_total(same, ours),
                Cell(""),
                Cell(""),
            ]
        )
    for machine in dict.fromkeys(run.machine for run in ours if run.paper_hardware is None):
        total = _total([run for run in ours if run.machine == machine], ours)
        if total[0].value is not None:
            names = [Cell(text) for text in (machine, "all six runs", "all")]
            rows.append([*names, *[NOT_PUBLISHED] * 3, *total, Cell(""), Cell("")])
    rows += [_co2_row(run, ours, marks) for run in ours if run.prunes]
    paired = [_untrained_twin(run, ours) for run in ours if run.prunes]
    for run in ours:
        if not run.prunes and not any(run is twin for twin in paired):
            rows.append(_co2_row(run, ours, marks))
    return Table(
        key="table-e",
        title=f"{published.title}: the paper's table E and our figures",
        columns=[
            Column("machine", numeric=False),
            Column("run", numeric=False),
            Column("layers", numeric=False),
            Column("none, published", "kg CO2e"),
            Column("pruned, published", "kg CO2e"),
            Column("cut, published", "%"),
            Column("none, ours", "kg CO2e"),
            Column("pruned, ours", "kg CO2e"),
            Column("cut, ours", "%"),
            Column("our results", numeric=False),
            Column("see notes", numeric=False),
        ],
        rows=rows,
        notes=[
            "The sum of ours is given where all twelve fine-tunings (three models, two tasks, none"
            " and all) ran on one kind of machine.",
            *marks.notes(),
            *source_notes(published),
        ],
    )


def _total(machine_runs: Sequence[Run], ours: Sequence[Run]) -> list[Cell]:
    """[none, pruned, cut] summed over the paper's six runs; "not measured" unless all are there."""
    name = "finetuning_co2"
    none_sum = pruned_sum = 0.0
    pairs = 0
    for task in _TASKS:
        for model in MODELS:
            fitting = [r for r in machine_runs if r.task == task and fits(r, model, "all")]
            run = choose(fitting, name)
            twin = None if run is None else _untrained_twin(run, ours)
            if run is None or twin is None:
                continue
            pairs += 1
            pruned_sum += run.value(name) or 0.0
            none_sum += twin.value(name) or 0.0
    if pairs < len(_TASKS) * len(MODELS) or not none_sum:
        missing = Cell("not measured", note=f"{pairs} of 6 pairs of runs", style="absent")
        return [missing, missing, missing]
    share = 100 * (1 - pruned_sum / none_sum)
    none_kg, pruned_kg = none_sum / _GRAMS_PER_KG, pruned_sum / _GRAMS_PER_KG
    return [
        Cell(format_value(none_kg), none_kg),
        Cell(format_value(pruned_kg), pruned_kg),
        Cell(f"{share:.1f}", share),
    ]


def _co2_row(run: Run, ours: Sequence[Run], marks: Marks) -> list[Cell]:
    name = "finetuning_co2"
    figure = run.figure(name)
    assert figure is not None
    shown = run.shown(name)
    assert shown is not None
    twin = _untrained_twin(run, ours) if run.prunes else run
    method = f"CO2 of ours is {figure.provenance}: {figure.method.rstrip('.')}"
    none_shown = None if twin is None else twin.shown(name)
    return [
        *[Cell(text) for text in (run.machine, f"{run.task}, {run.model}", run.setting)],
        *[NOT_PUBLISHED] * 3,
        NOT_MEASURED if none_shown is None else measured(none_shown, _GRAMS_PER_KG),
        measured(shown, _GRAMS_PER_KG) if run.prunes else NOT_MEASURED,
        _saved(twin, run, name) if run.prunes else NOT_MEASURED,
        sources({"co2": (run, [run])}),
        Cell(marks.of([method, *_training_differences(run)])),
    ]
