"""`alpine finetune`: options to a run config, then `alpine_cli.training.finetune`.

Options repeat the fields that one changes most; every field can be set with --set. Their help
texts are the fields' own descriptions.
"""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from alpine_cli.cli._common import ForceOption, JsonOption, console, error_console, print_json
from alpine_cli.config import describe_fields, load_config, option_flag
from alpine_cli.errors import ConfigError
from alpine_cli.tasks.data import Columns

if TYPE_CHECKING:
    from alpine_cli.config import RunConfig
    from alpine_cli.training import FinetuneOutcome

_HELP = describe_fields()
_WHAT, _PRUNING, _TRAINING, _RUN = "What", "Pruning", "Training", "Run"


def _option(field: str, panel: str, *flags: str, metavar: str | None = None) -> Any:
    """The option of a config field, with the field's description as its help."""
    text = _HELP[field][0].upper() + _HELP[field][1:]
    names = flags or (option_flag(field),)
    return typer.Option(*names, help=escape(text), rich_help_panel=panel, metavar=metavar)


_EXAMPLES = """
[bold]Examples[/]

A base model on Devign, pruning every other layer:

    alpine finetune --model codebert --task defect-detection --data devign/ --layers even

An experiment of the paper, with another learning rate:

    alpine finetune --config configs/alpine/unixcoder-clone-detection-all.yaml --data bcb/ --lr 1e-5

A short recovery after pruning a fine-tuned model, learning from the unpruned one, too:

    alpine finetune --from runs/NAME/ckpt.pt --layers even --epochs 1 --distill-weight 0.5

Go on after an interruption:

    alpine finetune --resume runs/codebert-defect-detection-even-seed123456

On two GPUs:

    torchrun --nproc-per-node 2 -m alpine_cli.cli finetune --config …
"""


def finetune(
    model: Annotated[str | None, _option("model", _WHAT, "--model", "-m")] = None,
    task: Annotated[str | None, _option("task", _WHAT, "--task", "-t")] = None,
    data: Annotated[str | None, _option("data", _WHAT, "--data", "-d")] = None,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from",
            help="Start from this ckpt.pt instead of a --model: its weights, head and tokenizer."
            " Task, encoding, pruning and data are its own where no option says otherwise.",
            metavar="FILE",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    columns: Annotated[
        str | None,
        typer.Option(
            "--columns",
            help="Column names of one's own data, e.g. code=body,label=buggy; default:"
            " those of the layout.",
            rich_help_panel=_WHAT,
        ),
    ] = None,
    limit: Annotated[int | None, _option("limit", _WHAT)] = None,
    head: Annotated[str | None, _option("head", _WHAT)] = None,
    mode_prefix: Annotated[
        bool | None, _option("mode_prefix", _WHAT, "--mode-prefix/--no-mode-prefix")
    ] = None,
    data_flow: Annotated[
        str | None, _option("data_flow", _WHAT, "--data-flow", metavar="LANGUAGE")
    ] = None,
    max_length: Annotated[int | None, _option("train.max_length", _WHAT)] = None,
    layers: Annotated[str | None, _option("prune.layers", _PRUNING)] = None,
    alpha: Annotated[float | None, _option("prune.alpha", _PRUNING)] = None,
    merge: Annotated[str | None, _option("prune.merge", _PRUNING)] = None,
    protect: Annotated[str | None, _option("prune.protect", _PRUNING)] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="A pruning by name, beneath the other options here: alpine (the published rule,"
            " all layers) or alpine-plus (ours, for pruning without re-training).",
            rich_help_panel=_PRUNING,
        ),
    ] = None,
    rule: Annotated[str | None, _option("prune.rule", _PRUNING)] = None,
    keep: Annotated[str | None, _option("prune.keep", _PRUNING)] = None,
    score: Annotated[str | None, _option("prune.score", _PRUNING)] = None,
    engine: Annotated[str | None, _option("prune.engine", _PRUNING)] = None,
    epochs: Annotated[int | None, _option("train.epochs", _TRAINING)] = None,
    batch_size: Annotated[int | None, _option("train.batch_size", _TRAINING)] = None,
    eval_batch_size: Annotated[int | None, _option("train.eval_batch_size", _TRAINING)] = None,
    tokens_per_batch: Annotated[int | None, _option("train.tokens_per_batch", _TRAINING)] = None,
    eval_tokens_per_batch: Annotated[
        int | None, _option("train.eval_tokens_per_batch", _TRAINING)
    ] = None,
    lr: Annotated[float | None, _option("train.lr", _TRAINING)] = None,
    warmup: Annotated[float | None, _option("train.warmup", _TRAINING)] = None,
    weight_decay: Annotated[float | None, _option("train.weight_decay", _TRAINING)] = None,
    grad_norm: Annotated[float | None, _option("train.grad_norm", _TRAINING)] = None,
    grad_accum: Annotated[int | None, _option("train.grad_accum", _TRAINING)] = None,
    seed: Annotated[int | None, _option("train.seed", _TRAINING)] = None,
    group_by_length: Annotated[
        bool | None,
        _option("train.group_by_length", _TRAINING, "--group-by-length/--no-group-by-length"),
    ] = None,
    bf16: Annotated[bool | None, _option("train.bf16", _TRAINING, "--bf16/--no-bf16")] = None,
    gradient_checkpointing: Annotated[
        bool | None,
        _option(
            "train.gradient_checkpointing",
            _TRAINING,
            "--gradient-checkpointing/--no-gradient-checkpointing",
        ),
    ] = None,
    distill_from: Annotated[str | None, _option("train.distill.teacher", _TRAINING)] = None,
    distill_weight: Annotated[float | None, _option("train.distill.weight", _TRAINING)] = None,
    distill_temperature: Annotated[
        float | None, _option("train.distill.temperature", _TRAINING)
    ] = None,
    device: Annotated[str | None, _option("device", _RUN)] = None,
    log_steps: Annotated[int | None, _option("train.log_steps", _RUN)] = None,
    save_steps: Annotated[int | None, _option("train.save_steps", _RUN)] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "-c",
            help="A YAML file of fields, e.g. one of configs/; options override it.",
            rich_help_panel=_RUN,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Override any config field, e.g. --set train.adam_epsilon=1e-6; repeatable.",
            metavar="FIELD=VALUE",
            rich_help_panel=_RUN,
        ),
    ] = None,
    output: Annotated[str | None, _option("output", _RUN, "--output", "-o")] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            "--resume",
            help="Go on with an interrupted run, with its own settings; no other option applies.",
            metavar="DIR",
            rich_help_panel=_RUN,
        ),
    ] = None,
    force: ForceOption = False,
    json_: JsonOption = False,
) -> None:
    """Fine-tune a model of code on a task, pruned or not.

    Writes a run directory: config.yaml, ckpt.pt (the best weights by the validation metric),
    metrics.jsonl, predictions, a state to resume from and training.json, a result file with time,
    energy and curves of the run. The test split is evaluated once, at the end.
    """
    options: dict[str, Any] = {
        "model": model,
        "task": task,
        "data": data,
        "limit": limit,
        "head": head,
        "mode_prefix": mode_prefix,
        "data_flow": data_flow,
        "prune.preset": preset,
        "prune.layers": layers,
        "prune.alpha": alpha,
        "prune.merge": merge,
        "prune.protect": protect,
        "prune.rule": rule,
        "prune.keep": keep,
        "prune.score": score,
        "prune.engine": engine,
        "train.max_length": max_length,
        "train.epochs": epochs,
        "train.batch_size": batch_size,
        "train.eval_batch_size": eval_batch_size,
        "train.tokens_per_batch": tokens_per_batch,
        "train.eval_tokens_per_batch": eval_tokens_per_batch,
        "train.distill.teacher": distill_from,
        "train.distill.weight": distill_weight,
        "train.distill.temperature": distill_temperature,
        "train.lr": lr,
        "train.warmup": warmup,
        "train.weight_decay": weight_decay,
        "train.grad_norm": grad_norm,
        "train.grad_accum": grad_accum,
        "train.seed": seed,
        "train.group_by_length": group_by_length,
        "train.bf16": bf16,
        "train.gradient_checkpointing": gradient_checkpointing,
        "train.log_steps": log_steps,
        "train.save_steps": save_steps,
        "device": device,
        "output": output,
    }
    if columns is not None:
        named = Columns.parse(columns)
        options |= {
            f"columns.{key}": getattr(named, key) for key in ("code", "code2", "label", "id")
        }
    if resume is not None:
        _refuse_settings(options, config, set_, force, from_)
        run_config = None
    elif from_ is not None:
        run_config = _continuing(from_, options, config, set_ or [])
    else:
        run_config = load_config(config, set_ or (), options)

    # Settled before torch is imported: a mistyped option is answered at once.
    from alpine_cli.training import finetune as run
    from alpine_cli.training.progress import make_progress

    outcome = run(run_config, resume=resume, force=force, progress=make_progress(error_console()))
    if os.environ.get("RANK", "0") != "0":
        return
    if json_:
        print_json(
            {"run_dir": outcome.run_dir, "checkpoint": outcome.checkpoint, **outcome.metrics}
        )
    else:
        _show(outcome)


finetune.__doc__ = inspect.cleandoc(finetune.__doc__ or "") + "\n" + _EXAMPLES


def _continuing(
    checkpoint: Path, options: dict[str, Any], file: Path | None, overrides: list[str]
) -> RunConfig:
    """The config of a run that starts from a checkpoint: its own settings lie beneath all others.

    Raises:
        ConfigError: --model, too; another task or head; or see `load_config`.
        CheckpointError: the checkpoint is missing or damaged.
    """
    if options["model"] is not None:
        raise ConfigError(
            f"--from {checkpoint} and --model {options['model']} both say what to start from; give"
            " one of them"
        )
    from alpine_cli.training.start import check_continues, fields_of

    beneath = fields_of(checkpoint)
    start = (str(checkpoint), beneath)
    config = load_config(file, overrides, {**options, "model": str(checkpoint)}, start)
    check_continues(config, checkpoint, beneath)
    return config


def _refuse_settings(
    options: dict[str, Any],
    config: Path | None,
    set_: list[str] | None,
    force: bool,
    from_: Path | None,
) -> None:
    given = [option_flag(name) for name, value in options.items() if value is not None]
    given += ["--from"] * (from_ is not None)
    given += ["--config"] * (config is not None) + ["--set"] * bool(set_) + ["--force"] * force
    if given:
        raise ConfigError(
            "--resume goes on with the settings of the run's own config.yaml; leave out"
            f" {', '.join(given)}"
        )


def _show(outcome: FinetuneOutcome) -> None:
    """The figures of the best weights, and what to do with them."""
    metrics = outcome.metrics
    splits = [name for name in ("valid", "test") if name in metrics]
    table = Table(title=f"Best weights: epoch {metrics['best_epoch']:g}", title_justify="left")
    table.add_column("figure")
    for name in splits:
        table.add_column(name, justify="right")
    for key in ("accuracy", "precision", "recall", "f1", "mcc", "loss", "tokens_kept"):
        cells = [_cell(key, metrics[name].get(key)) for name in splits]
        mark = " (picks the best)" if key == metrics["metric"] else ""
        table.add_row(_NAMES[key] + mark, *cells)
    out = console()
    out.print(table)
    out.print(f"wall time {metrics['wall_s']:.1f} s", highlight=False)
    for line in _consumed(outcome.checkpoint):
        out.print(line, markup=False, highlight=False, soft_wrap=True)
    out.print(
        f"next: alpine bench --checkpoint {outcome.checkpoint}", highlight=False, soft_wrap=True
    )


def _consumed(checkpoint: Path) -> list[str]:
    """Energy of the training and what it means, from the run's own record."""
    from alpine_cli.measure.break_even import find_training_record
    from alpine_cli.report.formatting import scale_for

    record = find_training_record(checkpoint)
    if record is None:
        return []
    found = {figure.name: figure for figure in record.figures}
    energy, co2 = found["finetuning_energy"], found["finetuning_co2"]
    if energy.value is None:
        return [f"energy of the training: {energy.reason}"]
    shown = [
        f"{scale.text(figure.value)} {scale.unit}"
        for figure in (energy, co2)
        for scale in [scale_for(figure.unit, [figure.value])]
    ]
    how = energy.method.partition(";")[0]
    return [
        f"energy of the training {shown[0]} ({how}), {shown[1]} on the world's mean grid"
        " (another: alpine report --country)"
    ]


_NAMES = {
    "accuracy": "accuracy, %",
    "precision": "precision, %",
    "recall": "recall, %",
    "f1": "F1, %",
    "mcc": "MCC",
    "loss": "loss, nats",
    "tokens_kept": "tokens kept, %",
}


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.4f}" if key in ("mcc", "loss") else f"{100 * value:.2f}"
