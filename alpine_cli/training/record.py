"""A finished run as a result file: what fine-tuning took, and what it led to.

`training.json` stands in the run directory, where `alpine report` finds it like any other result,
and `alpine bench` finds it beside the ckpt.pt to tell when pruning has paid the fine-tuning back.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from alpine_cli.config import RunConfig
from alpine_cli.files import sha256_of
from alpine_cli.measure import cautions
from alpine_cli.measure.carbon import carbon_figure, grid_intensity
from alpine_cli.measure.energy_figures import sum_method, sum_provenance
from alpine_cli.measure.meter import COMPONENTS, Source
from alpine_cli.results import (
    Caution,
    Environment,
    Figure,
    Result,
    Series,
    Subject,
    Variant,
)
from alpine_cli.training.consumption import ComponentUse, Consumption
from alpine_cli.training.inputs import TrainingInput

__all__ = ["training_result"]

# A component counts as metered throughout if it was in all but this share of the time: opening a
# meter again after an interruption takes a moment.
_MISSED_SHARE = 0.02
_WHAT = (
    "training steps, validations and saved states; without loading of model and data and without"
    " the final evaluation"
)


def training_result(
    config: RunConfig,
    given: TrainingInput,
    *,
    checkpoint: Path,
    entries: Sequence[Mapping[str, Any]],
    used: Consumption,
    environment: Environment,
    device: str,
    processes: int,
) -> Result:
    """The result of a run.

    Args:
        config: the run's.
        given: its input.
        checkpoint: the finished ckpt.pt.
        entries: the lines of metrics.jsonl.
        used: seconds and joules.
        environment: of the machine, as it was when this process began.
        device, processes: where the run went on.
    """
    variant = "unpruned" if config.prune.layers == "none" else "pruned"
    return Result(
        figures=[
            *_consumed(variant, used, config.train.epochs),
            *_best(variant, entries),
        ],
        series=_curves(variant, entries, given.teacher is not None),
        # Processes that wait for the first would look like somebody else's load.
        cautions=[*(cautions.before(environment) if processes == 1 else ()), *_cautions(used)],
        command=["alpine", *(_shortened(word) for word in sys.argv[1:])],
        kind="training",
        subject=_subject(config, given),
        variants={
            variant: Variant(
                checkpoint=f"{checkpoint.resolve().parent.name}/{checkpoint.name}",
                checkpoint_sha256=sha256_of(checkpoint),
                engine=config.prune.engine,
                pruning=config.prune.to_dict(),
                training_seed=config.train.seed,
                description=_described(config, given),
            )
        },
        settings={**_settings(config, device, processes), **given.provenance()},
        environment=environment.model_copy(update={"seed": config.train.seed}),
    )


def _described(config: RunConfig, given: TrainingInput) -> str:
    words = [f"fine-tuned with pruning layers {config.prune.layers}"]
    for key, what in (("started_from", "from"), ("distilled_from", "distilled from")):
        if (source := given.provenance().get(key)) is not None:
            words.append(f"{what} {source['checkpoint']} (sha256 {source['sha256'][:12]})")
    return ", ".join(words)


def _consumed(variant: str, used: Consumption, epochs: int) -> list[Figure]:
    """finetuning_seconds, finetuning_energy and its components in J, finetuning_co2."""
    figures = [
        _figure(
            variant,
            "finetuning_seconds",
            "s",
            used.seconds,
            "measured",
            f"wall time of {epochs} epoch(s): {_WHAT}",
        )
    ]
    metered: dict[str, ComponentUse] = {}
    for part in COMPONENTS:
        name, use = f"finetuning_energy_{part}", used.components.get(part)
        if use is None or use.seconds < (1 - _MISSED_SHARE) * used.seconds:
            figures.append(
                Figure.absent(name, variant, "J", _why_absent(part, use, used), better="lower")
            )
            continue
        metered[part] = use
        source = _source(use)
        figures.append(
            _figure(variant, name, "J", use.joules, source.provenance, f"{source.method}; {_WHAT}")
        )
    if metered:
        sources = {part: _source(use) for part, use in metered.items()}
        total = _figure(
            variant,
            "finetuning_energy",
            "J",
            sum(use.joules for use in metered.values()),
            sum_provenance(sources),
            f"{sum_method(sources)}; {_WHAT}",
        )
    else:
        reason = "no component could be measured or modelled throughout the run"
        total = Figure.absent("finetuning_energy", variant, "J", reason, better="lower")
    figures.append(total)
    # The world's mean, without a site's overhead: `alpine report` puts it on any other grid.
    grid = grid_intensity()
    figures.append(carbon_figure(total, "finetuning_co2", grid, 1.0, factor=1, per=None))
    return figures


def _source(use: ComponentUse) -> Source:
    kinds = {provenance for provenance, _ in use.sources}
    methods = "; then, resumed, ".join(method for _, method in use.sources)
    return Source("measured" if kinds == {"measured"} else "modelled", methods)


def _why_absent(part: str, use: ComponentUse | None, used: Consumption) -> str:
    if use is None:
        return used.absent.get(part, "not metered")
    reason = f"metered in {use.seconds:.0f} of {used.seconds:.0f} s only"
    return f"{reason}: {used.absent[part]}" if part in used.absent else reason


def _best(variant: str, entries: Sequence[Mapping[str, Any]]) -> list[Figure]:
    """The task's metric of the best weights, on the validation split that chose them."""
    kept = [entry for entry in entries if entry["event"] == "valid" and entry["best"]]
    if not kept:
        return []
    metric = kept[-1]["metric"]
    return [
        Figure(
            name=f"validation_{metric}",
            variant=variant,
            unit="share",
            value=kept[-1][metric],
            provenance="measured",
            method=f"best of {sum(e['event'] == 'valid' for e in entries)} validation(s), after"
            f" epoch {kept[-1]['epoch']:g}; it chose the weights, so that it flatters them",
            better="higher",
        )
    ]


def _curves(variant: str, entries: Sequence[Mapping[str, Any]], distilled: bool) -> list[Series]:
    valid = [entry for entry in entries if entry["event"] == "valid"]
    train = [entry for entry in entries if entry["event"] == "train"]
    curves = []
    if valid:
        metric = valid[0]["metric"]
        curves = [
            _curve(variant, "learning_curve", "share", "epoch", valid, metric),
            _curve(variant, "validation_loss", "nats", "epoch", valid, "loss"),
        ]
    if train:
        curve = _curve(variant, "training_loss", "nats", "step", train, "loss")
        if distilled:
            method = "mean loss (labels and teacher) of the steps since the point before"
            curve = curve.model_copy(update={"method": method})
        curves.append(curve)
    return curves


def _curve(
    variant: str,
    name: str,
    unit: str,
    x_name: str,
    entries: Sequence[Mapping[str, Any]],
    key: str,
) -> Series:
    method = {
        "learning_curve": f"{key} on the validation split after every epoch",
        "validation_loss": "mean cross-entropy on the validation split after every epoch",
        "training_loss": "mean cross-entropy of the steps since the point before",
    }[name]
    return Series(
        name=name,
        variant=variant,
        unit=unit,
        x_name=x_name,
        x=[entry[x_name] for entry in entries],
        y=[entry[key] for entry in entries],
        method=method,
    )


def _cautions(used: Consumption) -> list[Caution]:
    found = []
    if used.interruptions:
        times = "once" if used.interruptions == 1 else f"{used.interruptions} times"
        found.append(
            Caution(
                code="run-interrupted",
                text=f"the run was interrupted {times} and resumed from its last saved state",
                effect="what had been done after that state was done again and is counted once: at"
                f" least {used.lost_seconds:.0f} s of work are in neither seconds nor joules",
                remedy="A smaller --save-steps loses less",
            )
        )
    modelled = [
        part
        for part, use in used.components.items()
        if any(provenance == "modelled" for provenance, _ in use.sources)
    ]
    if modelled:
        found.append(
            Caution(
                code="energy-modelled",
                text=f"energy of {', '.join(modelled)} is modelled, not measured",
                effect="it follows run time and CPU load and shows no saving beyond them",
                remedy="`alpine doctor` tells whether this machine can measure it",
            )
        )
    if used.elsewhere:
        found.append(
            Caution(
                code="other-machines",
                text=f"{used.elsewhere} process(es) ran on other machines",
                effect="energy and CO2 are those of the first machine alone",
            )
        )
    return found


def _subject(config: RunConfig, given: TrainingInput) -> Subject:
    train = given.splits["train"]
    content = json.dumps([train.rows, train.labels], separators=(",", ":"))
    return Subject(
        model=Path(given.model_name).name,
        task=given.task.name,
        head=given.model.head_name,
        data=Path(config.data or "").resolve().name,
        split="train",
        samples=len(train),
        limit=config.limit.train,
        data_sha256=hashlib.sha256(content.encode("ascii")).hexdigest(),
    )


def _settings(config: RunConfig, device: str, processes: int) -> dict[str, Any]:
    """The run's settings, with names in place of paths."""
    shown = config.to_dict()
    for field in ("data", "model", "output"):
        if shown[field] is not None and Path(shown[field]).is_absolute():
            shown[field] = Path(shown[field]).name
    if (distill := shown["train"]["distill"]) is not None and distill["teacher"] is not None:
        distill["teacher"] = Path(distill["teacher"]).name
    return {
        "batch_size": config.train.batch_size,
        "tokens_per_batch": config.train.tokens_per_batch,
        "device": device,
        "processes": processes,
        "country": None,
        "carbon_intensity": None,
        "pue": 1.0,
        "config": shown,
    }


def _shortened(word: str) -> str:
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if Path(value).is_absolute() else word


def _figure(
    variant: str, name: str, unit: str, value: float, provenance: Any, method: str
) -> Figure:
    return Figure(
        name=name,
        variant=variant,
        unit=unit,
        value=value,
        provenance=provenance,
        method=method,
        better="lower",
    )
