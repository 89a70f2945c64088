"""From what the user asked for to a workload that can be measured, or an error before any work.

Everything that can be wrong with the input is found here, in the parent process and within
seconds: checkpoints are opened, layers resolved, data read and tokenised once.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

from alpine_cli.checkpoint import Checkpoint, load_checkpoint
from alpine_cli.devices import resolve_device
from alpine_cli.errors import ConfigError
from alpine_cli.files import sha256_of
from alpine_cli.measure.environment import usable_cores
from alpine_cli.measure.options import MeasureOptions, short_path
from alpine_cli.measure.workload import (
    VariantName,
    VariantRequest,
    WorkloadRequest,
    build_from,
    load_samples,
)
from alpine_cli.pruning.config import DECISIONS, SHARE_RULES, PruningConfig, laid_over
from alpine_cli.results import Caution, Subject, Variant
from alpine_cli.tasks.data import SPLIT_NAMES
from alpine_cli.tasks.encoding import EncodingSpec, encode

__all__ = ["MeasureOptions", "Plan", "encoder_depth", "make_plan", "pruning_text", "short_path"]

# what families call the number of encoder layers in their config
_DEPTH_NAMES = ("num_hidden_layers", "n_layers", "num_layers")
_PAIRS = [
    ("pruned", "unpruned"),
    ("unpruned", "stock"),
    ("pruned", "stock"),
    ("reference", "unpruned"),
]
_DESCRIPTIONS: dict[str, str] = {
    "stock": "transformers as it ships, padded to the longest of each length-bucketed batch",
    "unpruned": "alpine's engine with no layer pruned: what the engine alone gains",
    "pruned": "alpine's engine, pruning",
    "reference": "the published algorithm, sample by sample, pruning",
}


@dataclass(frozen=True)
class Plan:
    """What will be measured.

    Attributes:
        options: with threads and device resolved.
        request: what the workers get.
        subject, variants: what the result file says of it.
        max_length: tokens of one function at most, as the checkpoint cuts its input.
        pairs: (variant, baseline) that are compared. Pruned against unpruned is what pruning
            gains, unpruned against stock what the engine gains: neither hides in the other.
        cautions: what the user should know beforehand.
    """

    options: MeasureOptions
    request: WorkloadRequest
    subject: Subject
    variants: dict[str, Variant]
    max_length: int
    pairs: list[tuple[str, str]]
    cautions: list[Caution]


def make_plan(options: MeasureOptions, known: dict[str, Subject] | None = None) -> Plan:
    """Check all input and resolve it.

    Args:
        options: what was asked.
        known: subjects of earlier plans; cells that differ in batch size or device alone share
            theirs, so that the data is read and tokenised once. Added to.

    Raises:
        BadInput: of whatever kind; nothing has been measured or written yet.
        PruningError: the pruning asked for does not fit the model.
    """
    if not 1 <= options.pue < float("inf"):
        raise ConfigError(f"--pue: must be at least 1 (got {options.pue})")
    if not math.isfinite(options.min_seconds):
        raise ConfigError(f"--min-seconds: must be finite (got {options.min_seconds})")
    if options.find_batch_size and (options.tokens_per_batch or options.training_tokens_per_batch):
        raise ConfigError(
            "--find-batch-size: searches a number of samples, from --batch-size and"
            " --training-batch-size on; leave out the tokens per batch"
        )
    if options.split not in SPLIT_NAMES:
        raise ConfigError(f"--split: must be {', '.join(SPLIT_NAMES)} (got {options.split!r})")
    device = resolve_device(options.device)
    options = replace(options, device=str(device), threads=options.threads or usable_cores())
    checkpoint = load_checkpoint(options.checkpoint)
    base_path = options.baseline or options.checkpoint
    base = load_checkpoint(base_path) if options.baseline else checkpoint
    if base.task != checkpoint.task:
        raise ConfigError(
            f"--baseline: {base_path} is for {base.task}, {options.checkpoint} for"
            f" {checkpoint.task}; only checkpoints of one task can be compared"
        )
    if options.baseline:
        _refuse_other_tokens(options, checkpoint, base)
    pruning = _resolve_pruning(checkpoint, options)
    request, cautions = _request(options, checkpoint, base_path, pruning)
    key = _subject_key(options, request)
    known = {} if known is None else known
    if key not in known:
        known[key] = _describe_subject(options, request, checkpoint)
        if options.baseline:
            build_from(base, base_path)  # a broken one must not come to light after hours
    subject = known[key]
    variants: dict[str, Variant] = {
        wanted.name: _describe_variant(
            wanted, checkpoint if wanted.checkpoint == str(options.checkpoint) else base
        )
        for wanted in request.variants
    }
    pairs = [pair for pair in _PAIRS if pair[0] in variants and pair[1] in variants]
    max_length = checkpoint.encoding_spec.max_length
    return Plan(options, request, subject, variants, max_length, pairs, cautions)


def _refuse_other_tokens(options: MeasureOptions, checkpoint: Checkpoint, base: Checkpoint) -> None:
    """Variants that are compared run the same samples together, so tokens must mean one thing.

    Raises:
        ConfigError: a budget of tokens, and the baseline reads the samples as other tokens.
    """
    if (base.tokenizer, base.encoding) == (checkpoint.tokenizer, checkpoint.encoding):
        return
    limits = (options.batch_limit, options.flops_batch_limit, options.training_batch_limit)
    if any(limit.tokens is not None for limit in limits):
        raise ConfigError(
            f"--tokens-per-batch: {options.baseline} reads the samples as other tokens (tokenizer"
            f" or encoding) than {options.checkpoint}, so that one budget would put other samples"
            " together for each; use --batch-size"
        )


def _resolve_pruning(checkpoint: Checkpoint, options: MeasureOptions) -> PruningConfig:
    """The checkpoint's pruning with the options laid over it, checked against the model."""
    asked = {
        name: value
        for name in ("layers", "alpha", "merge", "protect", "engine")
        if (value := getattr(options, name)) is not None
    }
    given = {**(options.prune or {}), **asked}
    pruning = PruningConfig.from_dict(laid_over(checkpoint.pruning, given))
    idle = [name for name in DECISIONS if name in given]
    if pruning.layers == "none" and "layers" not in given and idle:
        raise ConfigError(
            f"{', '.join(idle)}: would change nothing, because no layer of {options.checkpoint}"
            " prunes; choose layers, too: --prune layers=all (or even, odd, 0,2,4)"
        )
    layers = encoder_depth(checkpoint)
    if layers is not None:
        pruning.resolve(layers)
    return pruning


def encoder_depth(checkpoint: Checkpoint) -> int | None:
    """Layers of the encoder; None where its config tells them under no name known here."""
    named = (checkpoint.model_config.get(name) for name in _DEPTH_NAMES)
    return next((int(value) for value in named if value is not None), None)


def _request(
    options: MeasureOptions, checkpoint: Checkpoint, base_path: Path, pruning: PruningConfig
) -> tuple[WorkloadRequest, list[Caution]]:
    cautions = []
    unpruned = replace(pruning, layers="none")
    wanted: list[tuple[VariantName, Path, PruningConfig | None]] = [
        ("stock", base_path, None),
        ("unpruned", base_path, unpruned),
    ]
    if pruning.layers != "none":
        wanted.append(("pruned", options.checkpoint, pruning))
        if options.reference:
            reference = replace(pruning, engine="reference")
            wanted.append(("reference", options.checkpoint, reference))
    elif options.baseline is not None:
        raise ConfigError(
            f"{options.checkpoint}: prunes no layer, so there is nothing to set against --baseline;"
            " pass --layers even, for example"
        )
    else:
        cautions.append(
            Caution(
                code="nothing-pruned",
                text="this checkpoint prunes no layer, so no pruned variant was measured",
                remedy="Pass --layers even, for example",
            )
        )
    data = options.data or checkpoint.run_config.get("data")
    if data is None:
        raise ConfigError(
            f"{options.checkpoint}: does not name the data it was trained on; pass --data DIR"
        )
    columns = {
        name: value
        for name, value in (checkpoint.run_config.get("columns") or {}).items()
        if value is not None
    }
    request = WorkloadRequest(
        variants=[
            VariantRequest(
                name=name,
                checkpoint=str(path),
                pruning=None if config is None else config.to_dict(),
            )
            for name, path, config in wanted
        ],
        data=str(data),
        columns=columns or None,
        split=options.split,
        limit=options.limit,
        batch_size=options.batch_size,
        tokens_per_batch=options.tokens_per_batch,
        device=options.device or "cpu",
        threads=options.threads,
        precision=options.precision,
        seed=options.seed,
    )
    return request, cautions


def _subject_key(options: MeasureOptions, request: WorkloadRequest) -> str:
    """Equal where model, weights and samples are: what a description of the subject rests on."""
    samples = request.model_dump(include={"data", "columns", "split", "limit"}, mode="json")
    paths = [str(path) for path in (options.checkpoint, options.baseline)]
    return json.dumps([paths, samples])


def _describe_subject(
    options: MeasureOptions, request: WorkloadRequest, checkpoint: Checkpoint
) -> Subject:
    samples = load_samples(request, checkpoint.task)
    _, tokenizer = build_from(checkpoint, options.checkpoint)
    encoded = encode(samples, tokenizer, EncodingSpec.from_dict(checkpoint.encoding))
    content = json.dumps(encoded.content(), separators=(",", ":"))
    return Subject(
        model=Path(checkpoint.model_name).name if checkpoint.model_name else "unknown",
        task=checkpoint.task,
        head=checkpoint.head,
        data=Path(request.data).resolve().name,
        split=request.split,
        samples=len(samples),
        limit=request.limit,
        data_sha256=hashlib.sha256(content.encode("ascii")).hexdigest(),
    )


def pruning_text(pruning: PruningConfig) -> str:
    """The settings that decide which tokens go: "layers even, alpha 1, merge mean, …"."""
    facts = {"layers": pruning.layers}
    if pruning.rule != "band":
        facts["rule"] = pruning.rule
    if pruning.rule in SHARE_RULES:
        facts["keep"] = str(pruning.keep)
    else:
        facts["alpha"] = f"{pruning.alpha:g}"
    if pruning.needs_scores and pruning.score != "received":
        facts["score"] = pruning.score
    facts |= {"merge": pruning.merge, "protect": pruning.protect}
    if pruning.output != "tokens":
        facts["output"] = pruning.output
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def _describe_variant(wanted: VariantRequest, checkpoint: Checkpoint) -> Variant:
    path = Path(wanted.checkpoint)
    engine = "transformers (sdpa)"
    description = _DESCRIPTIONS[wanted.name]
    if wanted.pruning is not None:
        engine = wanted.pruning["engine"]
        if wanted.pruning["layers"] != "none":
            description = f"{description}: {pruning_text(PruningConfig.from_dict(wanted.pruning))}"
    return Variant(
        checkpoint=short_path(path),
        checkpoint_sha256=sha256_of(path),
        engine=engine,
        pruning=wanted.pruning,
        training_seed=(checkpoint.run_config.get("train") or {}).get("seed"),
        description=description,
    )
