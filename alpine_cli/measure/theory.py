"""Attention against feed-forward cost, by length: the ALPINE paper's formulas and the exact ones.

The paper (FSE 2025, §3; `theoretical_flops` of its replication package) counts one layer in true
FLOPs, a product of two n-vectors as n multiplications and n − 1 additions:

    F_MHA(n) = 8 n d² + 4 n² d − 4 n d + h n²        F_FFN(n) = 16 n d² − n d      (F = 4 d)

Below their crossing the feed-forward block costs more, which is why tokens leave *before* it. The
crossing is n = 1530 for d = 768, h = 12; the README of the replication package says 1375, which
does not follow from its own formulas.

Beside them stand the multiply-adds that `cost` counts, 4 n d² + 2 n² d against 2 n d F, which
cross at n = F − 2 d. Where F is not 4 d, the paper's second formula is read as 4 n d F − n d.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alpine_cli.errors import MeasurementError, ModelError
from alpine_cli.measure.cost import (
    EncoderShape,
    attention_macs,
    feed_forward_macs,
    paper_crossing,
    paper_feed_forward_flops,
    paper_mha_flops,
)

__all__ = [
    "DEFAULT_LENGTHS",
    "Theory",
    "TheorySubject",
    "subject_of_checkpoint",
    "subject_of_model",
    "theory",
]

DEFAULT_LENGTHS = (64, 128, 256, 512, 1024, 2048)

_ROBERTA_BASE = EncoderShape(layers=12, hidden=768, heads=12, feed_forward=3072, embedding=768)
# Hub id -> longest input in tokens; all three are RoBERTa base by size, so no network is asked.
_PAPER_MODELS = {
    "microsoft/codebert-base": 512,
    "microsoft/graphcodebert-base": 512,
    "microsoft/unixcoder-base": 1024,
}


@dataclass(frozen=True)
class TheorySubject:
    """A model as far as theory goes: its name, sizes, and longest input (None: no limit known)."""

    name: str
    shape: EncoderShape
    context: int | None


@dataclass(frozen=True)
class Theory:
    """Cost of one layer at several lengths.

    Attributes:
        subject: of what model.
        lengths: tokens.
        mha_flops, ffn_flops: by the paper's formulas; None where they do not describe the model.
        mha_macs, ffn_macs: exact multiply-adds.
        crossing_flops, crossing_macs: longest input at which feed-forward costs at least as much
            as attention, by either count; 0 where attention always costs more.
        note: why the paper's formulas are absent.
    """

    subject: TheorySubject
    lengths: tuple[int, ...]
    mha_flops: tuple[int, ...] | None
    ffn_flops: tuple[int, ...] | None
    mha_macs: tuple[int, ...]
    ffn_macs: tuple[int, ...]
    crossing_flops: int | None
    crossing_macs: int
    note: str | None


def theory(subject: TheorySubject, lengths: Sequence[int] = DEFAULT_LENGTHS) -> Theory:
    """Evaluate all formulas at `lengths`."""
    shape = subject.shape
    hidden, heads, inner = shape.hidden, shape.heads, shape.feed_forward
    note = _why_not_the_papers(shape)
    mha_flops = ffn_flops = crossing_flops = None
    if note is None:
        mha_flops = tuple(paper_mha_flops(n, hidden, heads) for n in lengths)
        ffn_flops = tuple(paper_feed_forward_flops(n, hidden, inner) for n in lengths)
        crossing_flops = paper_crossing(hidden, heads, inner)
    # m n D F = 2 n D (I + K) + 2 n^2 I, solved for n
    lead = hidden * (shape.feed_forward_matrices * inner - 2 * (shape.attention + shape.keys))
    return Theory(
        subject=subject,
        lengths=tuple(lengths),
        mha_flops=mha_flops,
        ffn_flops=ffn_flops,
        mha_macs=tuple(int(value) for value in attention_macs(shape, lengths)),
        ffn_macs=tuple(int(value) for value in feed_forward_macs(shape, lengths)),
        crossing_flops=crossing_flops,
        crossing_macs=max(0, lead // (2 * shape.attention)),
        note=note,
    )


def _why_not_the_papers(shape: EncoderShape) -> str | None:
    if shape.feed_forward_matrices != 2:
        return "the paper's formulas do not describe gated feed-forward blocks"
    if shape.attention != shape.hidden:
        return "the paper's formulas take attention to be as wide as the model"
    return None


def subject_of_model(name: str) -> TheorySubject:
    """The sizes of a model: an alias, a hub id of the paper, a directory or its config.json.

    Raises:
        ModelError: no readable config.json, a family without formula, or a name whose sizes are
            not known here (the hub is never asked).
    """
    from alpine_cli.hub import resolve_name

    source = name if Path(name).is_file() else resolve_name(name)
    if source in _PAPER_MODELS:
        return TheorySubject(source, _ROBERTA_BASE, _PAPER_MODELS[source])
    if not Path(source).exists():
        raise ModelError(
            f"{name}: its sizes are not known without network; known are"
            f" {', '.join(_PAPER_MODELS)}. Pass a directory that holds its config.json instead"
        )
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(source, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error).strip().splitlines() or ["(no message)"])[0]
        raise ModelError(f"{source}: no readable config.json: {reason}") from error
    path = Path(source).resolve()
    return _subject(path.parent.name if path.is_file() else path.name, config)


def subject_of_checkpoint(path: Path) -> TheorySubject:
    """The sizes of a ckpt.pt.

    Raises:
        CheckpointError: see `load_checkpoint`.
        ModelError: a family without formula.
    """
    from transformers import AutoConfig

    from alpine_cli.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    return _subject(
        Path(checkpoint.model_name or path.name).name,
        AutoConfig.for_model(**checkpoint.model_config),
    )


def _subject(name: str, config: Any) -> TheorySubject:
    try:
        shape = EncoderShape.from_config(config)
    except MeasurementError as error:
        raise ModelError(f"{name}: {error}") from error
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa's positions start behind the padding index: two of its table are no tokens.
    reserved = 2 if config.model_type in ("roberta", "xlm-roberta", "camembert") else 0
    return TheorySubject(name, shape, positions - reserved if positions else None)
